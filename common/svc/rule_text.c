/*
 * Session rules between words and struct abi_rule (svc/rule_text.h). At start, and for each control request about
 * rules; never on a data path.
 */
#include "svc/rule_text.h"

#include "base/bits.h"
#include "base/err.h"
#include "shm/rules.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const tables[] = {"egress", "ingress"};
static const char *const actions[] = {"allow", "deny", "redirect"};
static const char *const protos[] = {"tcp", "udp"};

static int text_is_any(const char *text) {
  return text == NULL || text[0] == '\0' || strcmp(text, "any") == 0;
}

static int text_word(const char *text, const char *const *words, unsigned n) {
  for (unsigned i = 0; text != NULL && i < n; i++)
    if (strcmp(text, words[i]) == 0)
      return (int)i;
  return -EINVAL;
}

/* Decimal, at most `most`. */
static int text_number(const char *text, const char **end, uint32_t most) {
  char *e;
  if (!isdigit((unsigned char)text[0]))
    return -EINVAL;
  unsigned long v = strtoul(text, &e, 10);
  *end = e;
  return v <= most ? (int)v : -EINVAL;
}

/* The family, 0 for any; or -EINVAL. */
static int text_prefix(const char *text, uint8_t ip[16], uint8_t *bits) {
  char buf[64];
  struct in_addr v4;
  const char *end = "";
  memset(ip, 0, 16);
  *bits = 0;
  if (text_is_any(text))
    return 0;
  if (strlen(text) >= sizeof buf)
    return -EINVAL;
  snprintf(buf, sizeof buf, "%s", text);
  char *slash = strchr(buf, '/');
  if (slash != NULL)
    *slash = '\0';
  int family = inet_pton(AF_INET, buf, &v4) == 1 ? 4 : inet_pton(AF_INET6, buf, ip) == 1 ? 6 : 0;
  uint32_t most = family == 4 ? 32 : 128;
  int len = slash != NULL ? text_number(slash + 1, &end, most) : (int)most;
  if (family == 0 || len < 0 || *end != '\0')
    return -EINVAL;
  if (family == 4) {
    ip[10] = ip[11] = 0xff;
    memcpy(ip + 12, &v4, 4);
    len += 96;
  }
  *bits = (uint8_t)len;
  return family;
}

static int text_ports(const char *text, uint16_t *lo, uint16_t *hi) {
  const char *end;
  *lo = 0;
  *hi = 65535;
  if (text_is_any(text))
    return 0;
  int a = text_number(text, &end, 65535);
  int b = a;
  if (a >= 0 && *end == '-')
    b = text_number(end + 1, &end, 65535);
  if (a < 0 || b < a || *end != '\0')
    return -EINVAL;
  *lo = (uint16_t)a;
  *hi = (uint16_t)b;
  return 0;
}

static const char *text_wrong(char *why, size_t len, const char *key, const char *found, const char *allowed) {
  snprintf(why, len, "%s: found %s, allowed %s", key, found != NULL && found[0] != '\0' ? found : "nothing", allowed);
  return why;
}

const char *rule_text_parse(const struct rule_text *t, struct abi_rule *r, char *why, size_t len) {
  memset(r, 0, sizeof *r);
  int table = text_word(t->table, tables, ARRAY_LEN(tables));
  int action = text_word(t->action, actions, ARRAY_LEN(actions));
  int proto = text_is_any(t->proto) ? (int)ABI_RULE_ANY : text_word(t->proto, protos, ARRAY_LEN(protos));
  int remote = text_prefix(t->remote, r->remote, &r->remote_bits);
  int local = text_prefix(t->local, r->local, &r->local_bits);
  if (table < 0)
    return text_wrong(why, len, "table", t->table, "egress, ingress");
  if (action < 0)
    return text_wrong(why, len, "action", t->action, "allow, deny, redirect");
  if (proto < 0)
    return text_wrong(why, len, "proto", t->proto, "tcp, udp, any");
  if (action == ABI_RULE_REDIRECT && proto != 0 && !text_is_any(t->proto))
    return text_wrong(why, len, "proto", t->proto, "tcp: what is redirected are TCP connections");
  if (remote < 0)
    return text_wrong(why, len, "remote", t->remote, "an address, address/length, any");
  if (local < 0)
    return text_wrong(why, len, "local", t->local, "an address, address/length, any");
  if (remote != 0 && local != 0 && remote != local)
    return text_wrong(why, len, "local", t->local, "a prefix of the family of remote");
  if (text_ports(t->ports, &r->port_lo, &r->port_hi) < 0)
    return text_wrong(why, len, "ports", t->ports, "a port, LOW-HIGH, any");
  if ((action == ABI_RULE_REDIRECT) != (t->app != NULL && t->app[0] != '\0'))
    return text_wrong(why, len, "app", t->app, action == ABI_RULE_REDIRECT ? "name of an app" : "none but to redirect");
  if (t->app != NULL && strlen(t->app) >= sizeof r->app)
    return text_wrong(why, len, "app", t->app, "at most 63 bytes");
  if (t->to_port > 65535 || (t->to_port != 0 && action != ABI_RULE_REDIRECT))
    return text_wrong(why, len, "to-port", "a number", "0 to 65535, and only to redirect");
  if (t->vrf >= 16 || (t->vrf != 0 && table != ABI_RULE_INGRESS))
    return text_wrong(why, len, "vrf", "a number", "0 to 15, and only of ingress");
  r->table = (uint8_t)table;
  r->scope = t->vrf;
  r->action = (uint8_t)action;
  r->proto = action == ABI_RULE_REDIRECT ? 0 : (uint8_t)proto;
  r->family = (uint8_t)(remote != 0 ? remote : local);
  r->to_port = (uint16_t)t->to_port;
  if (t->app != NULL)
    snprintf(r->app, sizeof r->app, "%s", t->app);
  const char *rest = rules_check(r);
  return rest != NULL ? text_wrong(why, len, "rule", rest, "another one") : NULL;
}

const char *rule_text_prefix(const uint8_t ip[16], uint8_t bits, uint8_t family, char *buf, size_t len) {
  uint8_t shift = family == 4 ? 96 : 0;
  if (bits < shift || (bits == 0 && family == 0)) {
    snprintf(buf, len, "any");
    return buf;
  }
  if (inet_ntop(family == 4 ? AF_INET : AF_INET6, ip + (family == 4 ? 12 : 0), buf, (socklen_t)len) == NULL)
    snprintf(buf, len, "?");
  size_t n = strlen(buf);
  if (bits < 128)
    snprintf(buf + n, len - n, "/%u", bits - shift);
  return buf;
}

const char *rule_text_ports(uint16_t lo, uint16_t hi, char *buf, size_t len) {
  if (lo == 0 && hi == 65535)
    snprintf(buf, len, "any");
  else if (lo == hi)
    snprintf(buf, len, "%u", lo);
  else
    snprintf(buf, len, "%u-%u", lo, hi);
  return buf;
}

const char *rule_text_table(uint8_t table) {
  return table < ARRAY_LEN(tables) ? tables[table] : "?";
}

const char *rule_text_action(uint8_t action) {
  return action < ARRAY_LEN(actions) ? actions[action] : "?";
}

const char *rule_text_proto(uint8_t proto) {
  return proto < ARRAY_LEN(protos) ? protos[proto] : "any";
}
