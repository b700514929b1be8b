/*
 * Rules segment: who may connect to whom, as the broker keeps and compiles it, read by the engine.
 *
 * Two halves. The records (struct abi_rule) are the facts: each counts from the one store of `used` on, and outlives
 * broker and engine. The two banks are what is looked things up in, compiled from the records: the broker fills the
 * one that is not in force, stores `gen` (bank = gen & 1), raises the policy's policy_gen and tells the engine; it does
 * not touch the other bank before every worker of the engine has said (PolicySeen) that it reads the new one.
 *
 * A bank: for each set (table × family of the packet) the pairs of prefix lengths that occur, longest first; a hash of
 * groups (exact prefixes, scope, protocol); of each group the ports 0 … 65535 cut into spans, each with a verdict.
 */
#ifndef HS_ABI_RULES_H
#define HS_ABI_RULES_H

#include "base/bytes.h"

#define ABI_RULES_MAX   65536u
#define ABI_RULE_TUPLES 256u /* pairs of prefix lengths that one set may have */
#define ABI_RULE_SETS   4u   /* table * 2 + (family == 6) */
#define ABI_RULE_NONE   0xffffffffu
#define ABI_RULE_ANY    255u /* abi_rule.proto */

enum abi_rule_table {
  ABI_RULE_EGRESS = 0 /* connects of a namespace's apps */,
  ABI_RULE_INGRESS = 1 /* what arrives */
};
enum abi_rule_action { ABI_RULE_ALLOW = 0, ABI_RULE_DENY = 1, ABI_RULE_REDIRECT = 2 };

/** One rule as it was asked for. Addresses: 16 bytes, IPv4 mapped; bits 0 … 128, of IPv4 96 more than one writes. */
struct abi_rule {
  uint32_t used; /* atomic: 1 counts, stored last */
  uint32_t id;
  uint32_t scope;            /* egress: namespace number; ingress: VRF */
  uint8_t table;             /* enum abi_rule_table */
  uint8_t action;            /* enum abi_rule_action */
  uint8_t proto;             /* 0 TCP, 1 UDP, ABI_RULE_ANY */
  uint8_t family;            /* 4, 6, 0 = both: no prefix is given */
  uint16_t port_lo, port_hi; /* egress: the remote port; ingress: the local one */
  uint16_t to_port;          /* redirect: port of the app's listener, 0 = the one that was asked for */
  uint8_t remote_bits, local_bits;
  uint8_t remote[16], local[16];
  char app[64]; /* redirect: name of the app */
  uint32_t reserved[2];
};
_Static_assert(sizeof(struct abi_rule) == 128, "rule record");

/** What a lookup finds. */
struct abi_rule_verdict {
  uint32_t rule_id;
  uint8_t action;
  uint8_t pad;
  uint16_t to_port;
  uint64_t app_tag; /* hash of the app's name, as in abi_listen_entry; 0 unless redirected */
};
_Static_assert(sizeof(struct abi_rule_verdict) == 16, "verdict");

struct abi_rule_tuple {
  uint8_t remote_bits, local_bits;
};

/** All rules of one set with the same scope, protocol and prefixes. Addresses as two numbers, the high one first. */
struct abi_rule_group {
  uint64_t remote[2], local[2];
  uint32_t scope;
  uint8_t set, proto, remote_bits, local_bits;
  uint32_t span; /* first of n: ascending `high`, the last one's is 65535 */
  uint32_t n;
  uint32_t reserved[4];
};
_Static_assert(sizeof(struct abi_rule_group) == 64, "group of rules");

/** Ports behind the span before, up to `high`. */
struct abi_rule_span {
  uint16_t high;
  uint16_t pad;
  uint32_t verdict; /* index, or ABI_RULE_NONE */
};
_Static_assert(sizeof(struct abi_rule_span) == 8, "span of ports");

/** Head of a bank. */
struct abi_rule_bank {
  uint32_t gen;     /* of abi_rules when it was compiled */
  uint32_t n_slots; /* of the hash, a power of two; 0 = no groups */
  uint32_t n_groups, n_spans, n_verdicts;
  uint32_t n_tuples[ABI_RULE_SETS];
  uint32_t reserved[7];
  struct abi_rule_tuple tuple[ABI_RULE_SETS][ABI_RULE_TUPLES]; /* longest remote prefix first, then longest local */
};
_Static_assert(sizeof(struct abi_rule_bank) == 2112, "bank of compiled rules");

/** hdr.geom of the rules segment. Offsets with `in_` count from the bank's head. */
struct abi_rules_geom {
  uint64_t block_off;
  uint64_t n_rules, rules_off;
  uint64_t bank_off, bank_size; /* of bank 0; bank 1 follows */
  uint64_t n_slots, in_slots;   /* uint32_t: 1 + number of the group, 0 = free */
  uint64_t n_groups, in_groups;
  uint64_t n_spans, in_spans;
  uint64_t n_verdicts, in_verdicts;
  uint64_t reserved[3];
};
_Static_assert(sizeof(struct abi_rules_geom) == 128, "rules geometry fills hdr.geom");

struct abi_rules {
  uint32_t gen;        /* atomic: bank in force = gen & 1; 0 = none was ever compiled */
  uint32_t next_id;    /* atomic: of the next rule, only grows */
  uint32_t high;       /* atomic: records [0, high) were ever used */
  uint32_t configured; /* atomic: 1 = those of the configuration were added */
  uint32_t reserved[12];
};
_Static_assert(sizeof(struct abi_rules) == 64, "rules block");

#endif
