/*
 * The broker's side of the rules segment: records that count from one store on, and the compiler that makes a bank of
 * them. One thread. What the result means is said in shm/rules.h, how it lies in memory in abi/rules.h.
 *
 * A rule for both families or both protocols goes into a group of each. Within a group the ports are painted best rule
 * first, each taking what is not painted yet; k rules cost k log k.
 */
#include "base/bits.h"
#include "base/err.h"
#include "base/fault.h"
#include "rules_hash.h"
#include "shm/rules.h"

#include <stdlib.h>

#define EDIT_LENS 129u

/* A rule in one of its groups. */
struct edit_entry {
  struct rules_exact x;
  uint32_t rule; /* record */
  uint32_t id;
  uint16_t lo, hi;
  uint8_t loose; /* 2: any protocol, 1: both families; a rule that says more comes first */
};

/* --- rules one by one --- */

static int edit_covers(uint8_t family, uint8_t bits, const uint8_t ip[16]) {
  uint64_t w[2];
  rules_words(ip, w);
  if (bits > 128)
    return 0;
  if (family == 4) /* none, or within ::ffff:0:0/96 */
    return bits == 0 || (bits >= 96 && rules_is4(w));
  return family == 6 ? bits < 96 || !rules_is4(w) : bits == 0;
}

const char *rules_check(const struct abi_rule *r) {
  if (r->table > ABI_RULE_INGRESS)
    return "table";
  if (r->action > ABI_RULE_REDIRECT)
    return "action";
  if (r->proto > 1 && r->proto != ABI_RULE_ANY)
    return "protocol";
  if (r->family != 0 && r->family != 4 && r->family != 6)
    return "family";
  if (!edit_covers(r->family, r->remote_bits, r->remote) || !edit_covers(r->family, r->local_bits, r->local))
    return "prefix: both of one family";
  if (r->port_lo > r->port_hi)
    return "ports upside down";
  if (memchr(r->app, '\0', sizeof r->app) == NULL)
    return "name of the app";
  if (r->action != ABI_RULE_REDIRECT)
    return r->app[0] != '\0' || r->to_port != 0 ? "an app is named, but the action is not redirect" : NULL;
  if (r->app[0] == '\0')
    return "redirect to which app?";
  return r->proto == 0 ? NULL : "redirect is for TCP alone";
}

static void edit_words_put(const uint64_t w[2], uint8_t ip[16]) {
  for (unsigned i = 0; i < 16; i++)
    ip[i] = (uint8_t)(w[i / 8] >> (56 - 8 * (i % 8)));
}

/* Host bits go. */
static void edit_normal(struct abi_rule *r) {
  uint64_t w[2], m[2];
  rules_words(r->remote, w);
  rules_mask(w, r->remote_bits, m);
  edit_words_put(m, r->remote);
  rules_words(r->local, w);
  rules_mask(w, r->local_bits, m);
  edit_words_put(m, r->local);
}

/* What a rule matches is what two may not have in common. */
static int edit_same(const struct abi_rule *a, const struct abi_rule *b) {
  return a->table == b->table && a->scope == b->scope && a->proto == b->proto && a->family == b->family &&
         a->port_lo == b->port_lo && a->port_hi == b->port_hi && a->remote_bits == b->remote_bits &&
         a->local_bits == b->local_bits && memcmp(a->remote, b->remote, 16) == 0 && memcmp(a->local, b->local, 16) == 0;
}

static uint32_t edit_hash(const struct abi_rule *r) {
  struct rules_exact x = {.scope = r->scope,
                          .set = (uint8_t)(r->table * 16 + r->family),
                          .proto = r->proto,
                          .remote_bits = r->remote_bits,
                          .local_bits = r->local_bits};
  rules_words(r->remote, x.remote);
  rules_words(r->local, x.local);
  return (uint32_t)hash_mix64(rules_exact_hash(&x) ^ (uint64_t)r->port_lo << 48 ^ (uint64_t)r->port_hi << 32);
}

struct edit_find {
  const struct rules_edit *e;
  const struct abi_rule *r;
};

static int edit_eq_id(uint32_t value, const void *ctx) {
  const struct edit_find *f = ctx;
  return f->e->view.rule[value].id == f->r->id;
}

static uint32_t edit_hash_id(uint32_t id) {
  return (uint32_t)hash_mix64(id);
}

static int edit_eq(uint32_t value, const void *ctx) {
  const struct edit_find *f = ctx;
  return edit_same(&f->e->view.rule[value], f->r);
}

/* Sets that a rule is in: a bit each. */
static unsigned edit_sets(const struct abi_rule *r) {
  unsigned families = r->family == 4 ? 1u : r->family == 6 ? 2u : 3u;
  return families << (r->table * 2);
}

static uint32_t *edit_use(const struct rules_edit *e, uint32_t set, const struct abi_rule *r) {
  return &e->tuple_use[(set * EDIT_LENS + r->remote_bits) * EDIT_LENS + r->local_bits];
}

static int edit_tuples_fit(const struct rules_edit *e, const struct abi_rule *r) {
  for (uint32_t s = 0; s < ABI_RULE_SETS; s++)
    if ((edit_sets(r) >> s & 1) && *edit_use(e, s, r) == 0 && e->n_tuples[s] >= ABI_RULE_TUPLES)
      return 0;
  return 1;
}

/* A record joins (1) or leaves (-1) the private figures. 0 or -ENOMEM, only when it joins. */
static int edit_count(struct rules_edit *e, uint32_t i, int way) {
  const struct abi_rule *r = &e->view.rule[i];
  if (way < 0) {
    (void)hash_tab_remove(&e->by_id, edit_hash_id(r->id), i);
    (void)hash_tab_remove(&e->by_key, edit_hash(r), i);
  } else if (hash_tab_insert(&e->by_key, edit_hash(r), i) < 0) {
    return -ENOMEM;
  } else if (hash_tab_insert(&e->by_id, edit_hash_id(r->id), i) < 0) {
    (void)hash_tab_remove(&e->by_key, edit_hash(r), i);
    return -ENOMEM;
  }
  for (uint32_t s = 0; s < ABI_RULE_SETS; s++) {
    if (!(edit_sets(r) >> s & 1))
      continue;
    uint32_t *use = edit_use(e, s, r), was = *use;
    *use += (uint32_t)way;
    e->n_tuples[s] += (uint32_t)((*use != 0) - (was != 0));
  }
  e->n += (uint32_t)way;
  return 0;
}

int rules_edit_open(struct rules_edit *e, struct rules_view *v) {
  memset(e, 0, sizeof *e);
  e->tuple_use = calloc((size_t)ABI_RULE_SETS * EDIT_LENS * EDIT_LENS, sizeof *e->tuple_use);
  if (e->tuple_use == NULL || hash_tab_init(&e->by_key, 64) < 0 || hash_tab_init(&e->by_id, 64) < 0) {
    hash_tab_fini(&e->by_key);
    free(e->tuple_use);
    e->tuple_use = NULL;
    return -ENOMEM;
  }
  e->view = *v;
  *v = (struct rules_view){.seg = {.fd = -1}};
  uint32_t high = HS_MIN(e->view.block->high, (uint32_t)e->view.geom.n_rules);
  for (uint32_t i = 0; i < high; i++) {
    struct abi_rule *r = &e->view.rule[i];
    struct edit_find f = {.e = e, .r = r};
    if (r->used == 0)
      continue;
    int bad = rules_check(r) != NULL || !edit_tuples_fit(e, r) ||
              hash_tab_find(&e->by_key, edit_hash(r), edit_eq, &f) != HASH_NONE;
    if (bad)
      __atomic_store_n(&r->used, 0u, __ATOMIC_RELEASE);
    else if (edit_count(e, i, 1) < 0)
      return -ENOMEM;
  }
  return 0;
}

void rules_edit_close(struct rules_edit *e) {
  hash_tab_fini(&e->by_key);
  hash_tab_fini(&e->by_id);
  free(e->tuple_use);
  e->tuple_use = NULL;
  if (e->view.block != NULL)
    rules_close(&e->view);
}

static uint32_t edit_free_record(struct rules_edit *e) {
  uint32_t n = (uint32_t)e->view.geom.n_rules;
  for (uint32_t k = 0; k < n; k++) {
    uint32_t i = (e->free_hint + k) % n;
    if (e->view.rule[i].used == 0) {
      e->free_hint = i + 1;
      return i;
    }
  }
  return ABI_RULE_NONE;
}

/* Order: high → id taken → fields → used. Every prefix leaves the record free, and an id that nobody has. */
int64_t rules_add(struct rules_edit *e, const struct abi_rule *rule) {
  struct abi_rule r = *rule;
  struct edit_find f = {.e = e, .r = &r};
  if (rules_check(&r) != NULL)
    return -EINVAL;
  edit_normal(&r);
  if (hash_tab_find(&e->by_key, edit_hash(&r), edit_eq, &f) != HASH_NONE)
    return -EEXIST;
  if (!edit_tuples_fit(e, &r))
    return -E2BIG;
  uint32_t i = e->n < e->view.geom.n_rules ? edit_free_record(e) : ABI_RULE_NONE;
  if (i == ABI_RULE_NONE)
    return -ENOSPC;
  struct abi_rules *b = e->view.block;
  if (i >= b->high)
    __atomic_store_n(&b->high, i + 1, __ATOMIC_RELEASE);
  FAULT_POINT("rules.high");
  r.id = b->next_id + 1;
  r.used = 0;
  memset(r.reserved, 0, sizeof r.reserved);
  __atomic_store_n(&b->next_id, r.id, __ATOMIC_RELEASE);
  FAULT_POINT("rules.id");
  e->view.rule[i] = r;
  if (edit_count(e, i, 1) < 0)
    return -ENOMEM;
  FAULT_POINT("rules.fields");
  __atomic_store_n(&e->view.rule[i].used, 1u, __ATOMIC_RELEASE);
  FAULT_POINT("rules.used");
  return r.id;
}

int rules_del(struct rules_edit *e, uint32_t id) {
  const struct abi_rule want = {.id = id};
  struct edit_find f = {.e = e, .r = &want};
  uint32_t i = hash_tab_find(&e->by_id, edit_hash_id(id), edit_eq_id, &f);
  if (i == HASH_NONE)
    return -ENOENT;
  __atomic_store_n(&e->view.rule[i].used, 0u, __ATOMIC_RELEASE);
  FAULT_POINT("rules.del");
  return edit_count(e, i, -1);
}

/* --- the compiler --- */

static int edit_num(uint64_t a, uint64_t b) {
  return a < b ? -1 : a > b;
}

/* By group, in it the best rule first. */
static int edit_order(const void *pa, const void *pb) {
  const struct edit_entry *a = pa, *b = pb;
  int c = edit_num(a->x.set, b->x.set);
  c = c ? c : edit_num(a->x.scope, b->x.scope);
  c = c ? c : edit_num(a->x.proto, b->x.proto);
  c = c ? c : edit_num(a->x.remote_bits, b->x.remote_bits);
  c = c ? c : edit_num(a->x.local_bits, b->x.local_bits);
  for (unsigned i = 0; i < 2; i++) {
    c = c ? c : edit_num(a->x.remote[i], b->x.remote[i]);
    c = c ? c : edit_num(a->x.local[i], b->x.local[i]);
  }
  c = c ? c : edit_num((uint64_t)(a->hi - a->lo), (uint64_t)(b->hi - b->lo));
  c = c ? c : edit_num(a->loose, b->loose);
  return c ? c : edit_num(a->id, b->id);
}

static int edit_same_group(const struct edit_entry *a, const struct edit_entry *b) {
  return memcmp(&a->x, &b->x, sizeof a->x) == 0;
}

/* Every rule once per set and protocol. Returns how many, *out is the caller's to free; or -ENOMEM. */
static int64_t edit_entries(const struct rules_edit *e, struct edit_entry **out) {
  uint32_t high = HS_MIN(e->view.block->high, (uint32_t)e->view.geom.n_rules), n = 0;
  struct edit_entry *t = calloc((size_t)e->n * 4 + 1, sizeof *t); /* zero: padding is compared, too */
  if (t == NULL)
    return -ENOMEM;
  for (uint32_t i = 0; i < high; i++) {
    const struct abi_rule *r = &e->view.rule[i];
    for (uint32_t k = 0; r->used != 0 && k < ABI_RULE_SETS * 2; k++) {
      uint8_t set = (uint8_t)(k / 2), proto = k & 1;
      if (!(edit_sets(r) >> set & 1) || (r->proto != ABI_RULE_ANY && r->proto != proto))
        continue;
      struct edit_entry *x = &t[n++];
      x->x.scope = r->scope;
      x->x.set = set;
      x->x.proto = proto;
      x->x.remote_bits = r->remote_bits;
      x->x.local_bits = r->local_bits;
      rules_words(r->remote, x->x.remote);
      rules_words(r->local, x->x.local);
      x->rule = i;
      x->id = r->id;
      x->lo = r->port_lo;
      x->hi = r->port_hi;
      x->loose = (uint8_t)((r->proto == ABI_RULE_ANY ? 2 : 0) + (r->family == 0));
    }
  }
  qsort(t, n, sizeof *t, edit_order);
  *out = t;
  return n;
}

/* Scratch of the painter, as long as the longest group needs. */
struct edit_paint {
  uint32_t *edge; /* 2k + 1 ports at which something begins, ascending; the first is 0 */
  uint32_t *next; /* per piece between edges: the first one from here on that is not painted */
  uint32_t *owner;
};

static int edit_edge_order(const void *pa, const void *pb) {
  return edit_num(*(const uint32_t *)pa, *(const uint32_t *)pb);
}

static uint32_t edit_piece(const uint32_t *edge, uint32_t n, uint32_t port) {
  uint32_t lo = 0, hi = n - 1;
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo + 1) / 2;
    if (edge[mid] <= port)
      lo = mid;
    else
      hi = mid - 1;
  }
  return lo;
}

static uint32_t edit_unpainted(uint32_t *next, uint32_t i) {
  while (next[i] != i) {
    next[i] = next[next[i]];
    i = next[i];
  }
  return i;
}

/* Spans of a group of k entries, best first. Returns how many. */
static uint32_t edit_spans(const struct edit_entry *t, uint32_t k, const uint32_t *verdict_of, struct edit_paint *p,
                           struct abi_rule_span *out) {
  uint32_t n = 0, m = 1, spans = 0;
  p->edge[n++] = 0;
  for (uint32_t i = 0; i < k; i++) {
    p->edge[n++] = t[i].lo;
    if (t[i].hi < 65535)
      p->edge[n++] = t[i].hi + 1u;
  }
  qsort(p->edge, n, sizeof *p->edge, edit_edge_order);
  for (uint32_t i = 1; i < n; i++)
    if (p->edge[i] != p->edge[m - 1])
      p->edge[m++] = p->edge[i];
  for (uint32_t i = 0; i <= m; i++) {
    p->next[i] = i;
    p->owner[i] = ABI_RULE_NONE;
  }
  for (uint32_t i = 0; i < k; i++) {
    uint32_t last = edit_piece(p->edge, m, t[i].hi);
    for (uint32_t s = edit_unpainted(p->next, edit_piece(p->edge, m, t[i].lo)); s <= last;
         s = edit_unpainted(p->next, s)) {
      p->owner[s] = verdict_of[t[i].rule];
      p->next[s] = s + 1;
    }
  }
  for (uint32_t i = 0; i < m; i++) {
    uint16_t high = (uint16_t)(i + 1 < m ? p->edge[i + 1] - 1 : 65535);
    if (spans > 0 && out[spans - 1].verdict == p->owner[i])
      out[spans - 1].high = high;
    else
      out[spans++] = (struct abi_rule_span){.high = high, .verdict = p->owner[i]};
  }
  return spans;
}

/* The bank that is being filled. */
struct edit_bank {
  struct abi_rule_bank head;
  uint32_t *slots;
  struct abi_rule_group *groups;
  struct abi_rule_span *spans;
  struct abi_rule_verdict *verdicts;
};

static void edit_verdicts(const struct rules_edit *e, struct edit_bank *b, uint32_t *verdict_of) {
  uint32_t high = HS_MIN(e->view.block->high, (uint32_t)e->view.geom.n_rules);
  for (uint32_t i = 0; i < high; i++) {
    const struct abi_rule *r = &e->view.rule[i];
    if (r->used == 0)
      continue;
    verdict_of[i] = b->head.n_verdicts;
    b->verdicts[b->head.n_verdicts++] =
        (struct abi_rule_verdict){.rule_id = r->id,
                                  .action = r->action,
                                  .to_port = r->to_port,
                                  .app_tag = r->action == ABI_RULE_REDIRECT ? rules_app_tag(r->app) : 0};
  }
}

static void edit_tuples(const struct rules_edit *e, struct edit_bank *b) {
  for (uint32_t s = 0; s < ABI_RULE_SETS; s++)
    for (uint32_t r = EDIT_LENS; r-- > 0;)
      for (uint32_t l = EDIT_LENS; l-- > 0;)
        if (e->tuple_use[(s * EDIT_LENS + r) * EDIT_LENS + l] != 0)
          b->head.tuple[s][b->head.n_tuples[s]++] =
              (struct abi_rule_tuple){.remote_bits = (uint8_t)r, .local_bits = (uint8_t)l};
}

static void edit_hash_groups(struct edit_bank *b) {
  uint32_t n = 16;
  while (n < 2 * b->head.n_groups)
    n *= 2;
  b->head.n_slots = n;
  memset(b->slots, 0, n * sizeof *b->slots);
  for (uint32_t i = 0; i < b->head.n_groups; i++) {
    const struct abi_rule_group *g = &b->groups[i];
    struct rules_exact x = {.remote = {g->remote[0], g->remote[1]},
                            .local = {g->local[0], g->local[1]},
                            .scope = g->scope,
                            .set = g->set,
                            .proto = g->proto,
                            .remote_bits = g->remote_bits,
                            .local_bits = g->local_bits};
    uint32_t at = rules_exact_hash(&x) & (n - 1);
    while (b->slots[at] != 0)
      at = (at + 1) & (n - 1);
    b->slots[at] = i + 1;
  }
}

static void edit_groups(const struct edit_entry *t, uint32_t n, struct edit_bank *b, const uint32_t *verdict_of,
                        struct edit_paint *p) {
  for (uint32_t i = 0, k; i < n; i += k) {
    for (k = 1; i + k < n && edit_same_group(&t[i], &t[i + k]); k++)
      ;
    struct abi_rule_group *g = &b->groups[b->head.n_groups++];
    *g = (struct abi_rule_group){.remote = {t[i].x.remote[0], t[i].x.remote[1]},
                                 .local = {t[i].x.local[0], t[i].x.local[1]},
                                 .scope = t[i].x.scope,
                                 .set = t[i].x.set,
                                 .proto = t[i].x.proto,
                                 .remote_bits = t[i].x.remote_bits,
                                 .local_bits = t[i].x.local_bits,
                                 .span = b->head.n_spans};
    g->n = edit_spans(t + i, k, verdict_of, p, b->spans + g->span);
    b->head.n_spans += g->n;
  }
}

static void edit_compile(struct rules_edit *e, const struct edit_entry *t, uint32_t n, uint32_t *verdict_of,
                         struct edit_paint *p) {
  const struct abi_rules_geom *g = &e->view.geom;
  uint32_t gen = e->view.block->gen + 1;
  uint8_t *base = e->view.seg.base + g->bank_off + (gen & 1) * g->bank_size;
  struct edit_bank b = {.slots = (uint32_t *)(void *)(base + g->in_slots),
                        .groups = (struct abi_rule_group *)(void *)(base + g->in_groups),
                        .spans = (struct abi_rule_span *)(void *)(base + g->in_spans),
                        .verdicts = (struct abi_rule_verdict *)(void *)(base + g->in_verdicts)};
  b.head.gen = gen;
  edit_verdicts(e, &b, verdict_of);
  edit_tuples(e, &b);
  edit_groups(t, n, &b, verdict_of, p);
  FAULT_POINT("rules.bank"); /* half a bank that nobody reads */
  edit_hash_groups(&b);
  memcpy(base, &b.head, sizeof b.head);
  FAULT_POINT("rules.compiled");
  __atomic_store_n(&e->view.block->gen, gen, __ATOMIC_RELEASE);
  FAULT_POINT("rules.gen");
}

int rules_publish(struct rules_edit *e) {
  struct edit_entry *t = NULL;
  int64_t n = edit_entries(e, &t);
  if (n < 0)
    return -ENOMEM;
  size_t k = 2 * (size_t)n + 2;
  struct edit_paint p = {
      .edge = malloc(k * sizeof *p.edge), .next = malloc(k * sizeof *p.next), .owner = malloc(k * sizeof *p.owner)};
  uint32_t *verdict_of = malloc(e->view.geom.n_rules * sizeof *verdict_of);
  int rc = p.edge != NULL && p.next != NULL && p.owner != NULL && verdict_of != NULL ? 0 : -ENOMEM;
  if (rc == 0)
    edit_compile(e, t, (uint32_t)n, verdict_of, &p);
  free(verdict_of);
  free(p.owner);
  free(p.next);
  free(p.edge);
  free(t);
  return rc;
}
