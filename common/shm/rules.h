/*
 * The rules segment (abi/rules.h): opening it, looking up in the bank in force (rules.c), and the broker's side:
 * records, compiling, publishing (rules_edit.c).
 *
 * A view is a private copy of the geometry and of the head of one bank. Whoever looks up calls rules_take now and then
 * and goes on with the same bank until the next time. Which rule counts: the one with the longest remote prefix, then
 * the longest local prefix, then the narrowest range of ports, then one that names the protocol, then one that names
 * the family, then the oldest.
 */
#ifndef HS_SHM_RULES_H
#define HS_SHM_RULES_H

#include "abi/rules.h"
#include "base/hash.h"
#include "shm/seg.h"

struct rules_view {
  struct seg seg;
  struct abi_rules_geom geom;
  struct abi_rules *block;
  struct abi_rule *rule;
  int borrowed; /* another view's mapping */
  /* the bank in force, its head copied and checked */
  uint32_t gen;
  struct abi_rule_bank bank;
  const uint32_t *slots;
  const struct abi_rule_group *groups;
  const struct abi_rule_span *spans;
  const struct abi_rule_verdict *verdicts;
};

/** What is asked of one connection. Addresses: 16 bytes in network order, IPv4 mapped. */
struct rules_key {
  uint8_t table, proto;
  uint16_t port; /* egress: remote, ingress: local */
  uint32_t scope;
  const uint8_t *remote, *local;
};

/** Geometry of a new segment for n rules (a power of two, 16 … ABI_RULES_MAX). Returns its size in bytes. */
uint64_t rules_geom_make(struct abi_rules_geom *g, uint32_t n);
/** Map a rules segment (fd taken over) and check its geometry; SEG_RDWR is the broker's. 0, -EPROTO with *why, -errno.
 */
int rules_open(struct rules_view *v, int fd, int rw, const char **why);
/** The mapping of another view, which outlives this one. */
void rules_borrow(struct rules_view *v, const struct rules_view *of);
void rules_close(struct rules_view *v);
/** Look into the bank that is in force from now on. A head that lies counts as a bank without rules. Returns its gen.
 */
uint32_t rules_take(struct rules_view *v);
/** 1 and the verdict, or 0: no rule speaks of it. Hot path. */
int rules_find(const struct rules_view *v, const struct rules_key *k, struct abi_rule_verdict *out);
/** Whether the bank has rules of a table at all. */
static inline int rules_any(const struct rules_view *v, uint32_t table) {
  return (v->bank.n_tuples[table * 2] | v->bank.n_tuples[table * 2 + 1]) != 0;
}
/** Number of an app's name; never 0. */
uint64_t rules_app_tag(const char *name);

/* rules_edit.c: the broker's side */

struct rules_edit {
  struct rules_view view;
  struct hash_tab by_key; /* records by what they match: two of the same are refused */
  struct hash_tab by_id;
  uint32_t n;          /* rules */
  uint32_t *tuple_use; /* [ABI_RULE_SETS][129][129] rules with that pair of lengths */
  uint32_t n_tuples[ABI_RULE_SETS];
  uint32_t free_hint;
};

/** What is wrong with a rule, or NULL. */
const char *rules_check(const struct abi_rule *r);
/** Take over a view opened SEG_RDWR (moved); records that are no rules are freed. 0 or -ENOMEM. */
int rules_edit_open(struct rules_edit *e, struct rules_view *v);
void rules_edit_close(struct rules_edit *e);
/** Add a rule (its used, id and host bits are seen to). Its id; -EINVAL; -EEXIST: another one matches the same;
 * -ENOSPC: full; -E2BIG: too many different pairs of prefix lengths. */
int64_t rules_add(struct rules_edit *e, const struct abi_rule *r);
/** 0 or -ENOENT. */
int rules_del(struct rules_edit *e, uint32_t id);
/** Compile all records into the bank that is not in force, and put that in force. 0 or -ENOMEM. */
int rules_publish(struct rules_edit *e);

#endif
