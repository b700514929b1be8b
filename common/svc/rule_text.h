/*
 * Session rules as people write them: prefixes, port ranges, words. For the configuration, the broker's control
 * requests and what it shows.
 */
#ifndef HS_SVC_RULE_TEXT_H
#define HS_SVC_RULE_TEXT_H

#include "abi/rules.h"
#include <stddef.h>

/** A rule in words; NULL and "" are "any", of to_port 0 = the port that was asked for. */
struct rule_text {
  const char *table;          /* egress, ingress */
  const char *proto;          /* tcp, udp, any */
  const char *remote, *local; /* address, address/length, any */
  const char *ports;          /* 80, 80-90, any */
  const char *action;         /* allow, deny, redirect */
  const char *app;
  uint32_t to_port;
  uint32_t vrf; /* ingress; becomes its scope */
};

/** What the words mean, but for id and the scope of egress (0). NULL, or what is wrong: "KEY: found X, allowed Y" in
 * `why`. */
const char *rule_text_parse(const struct rule_text *t, struct abi_rule *r, char *why, size_t why_len);
/** A prefix as text; a whole address without a length. Returns buf, of at least 52 bytes. */
const char *rule_text_prefix(const uint8_t ip[16], uint8_t bits, uint8_t family, char *buf, size_t len);
const char *rule_text_ports(uint16_t lo, uint16_t hi, char *buf, size_t len);
const char *rule_text_table(uint8_t table);
const char *rule_text_action(uint8_t action);
const char *rule_text_proto(uint8_t proto);

#endif
