/*
 * Looking up in the compiled rules (shm/rules.h). Called by engine workers for each connect and each SYN, and by the
 * broker for pairs; hot path but for opening and closing.
 *
 * The cost is that of the pairs of prefix lengths in use, not of the number of rules: one hash and one binary search
 * over ports each. The engine trusts the broker, and yet no number in a bank leads outside of it.
 */
#include "shm/rules.h"

#include "base/bits.h"
#include "rules_hash.h"

uint64_t rules_geom_make(struct abi_rules_geom *g, uint32_t n) {
  memset(g, 0, sizeof *g);
  g->block_off = 4096;
  g->n_rules = n;
  g->rules_off = 8192;
  g->n_slots = 8ull * n;  /* half full at most: a rule is in up to four groups */
  g->n_groups = 4ull * n; /* family and protocol */
  g->n_spans = 12ull * n; /* of a group with k rules at most 2k + 1 */
  g->n_verdicts = n;
  g->in_slots = 4096;
  g->in_groups = bits_align_up(g->in_slots + g->n_slots * sizeof(uint32_t), 64);
  g->in_spans = bits_align_up(g->in_groups + g->n_groups * sizeof(struct abi_rule_group), 64);
  g->in_verdicts = bits_align_up(g->in_spans + g->n_spans * sizeof(struct abi_rule_span), 64);
  g->bank_size = bits_align_up(g->in_verdicts + g->n_verdicts * sizeof(struct abi_rule_verdict), 4096);
  g->bank_off = bits_align_up(g->rules_off + g->n_rules * sizeof(struct abi_rule), 4096);
  return g->bank_off + 2 * g->bank_size;
}

/* Every area inside its bank, every bank inside the segment. */
static const char *rules_geom_wrong(const struct seg *s, const struct abi_rules_geom *g) {
  struct abi_rules_geom want;
  if (g->n_rules < 16 || g->n_rules > ABI_RULES_MAX || !bits_is_pow2(g->n_rules))
    return "number of rules";
  if (rules_geom_make(&want, (uint32_t)g->n_rules) > s->size)
    return "size";
  memcpy(want.reserved, g->reserved, sizeof want.reserved);
  return memcmp(&want, g, sizeof want) == 0 ? NULL : "geometry";
}

int rules_open(struct rules_view *v, int fd, int rw, const char **why) {
  memset(v, 0, sizeof *v);
  int rc = seg_attach(&v->seg, fd, ABI_SEG_RULES, rw, why);
  if (rc < 0)
    return rc;
  memcpy(&v->geom, v->seg.geom, sizeof v->geom);
  const char *wrong = rules_geom_wrong(&v->seg, &v->geom);
  if (wrong != NULL) {
    *why = wrong;
    seg_detach(&v->seg);
    return -EPROTO;
  }
  v->block = seg_at(&v->seg, v->geom.block_off, sizeof *v->block);
  v->rule = seg_at(&v->seg, v->geom.rules_off, v->geom.n_rules * sizeof *v->rule);
  return 0;
}

void rules_borrow(struct rules_view *v, const struct rules_view *of) {
  *v = *of;
  v->borrowed = 1;
}

void rules_close(struct rules_view *v) {
  if (!v->borrowed)
    seg_detach(&v->seg);
  *v = (struct rules_view){.seg = {.fd = -1}};
}

static int rules_bank_ok(const struct abi_rules_geom *g, const struct abi_rule_bank *b) {
  for (uint32_t s = 0; s < ABI_RULE_SETS; s++)
    if (b->n_tuples[s] > ABI_RULE_TUPLES)
      return 0;
  return (b->n_slots == 0 || bits_is_pow2(b->n_slots)) && b->n_slots <= g->n_slots && b->n_groups <= g->n_groups &&
         b->n_spans <= g->n_spans && b->n_verdicts <= g->n_verdicts;
}

uint32_t rules_take(struct rules_view *v) {
  if (v->block == NULL)
    return 0;
  uint32_t gen = __atomic_load_n(&v->block->gen, __ATOMIC_ACQUIRE);
  if (gen == v->gen)
    return gen;
  const struct abi_rules_geom *g = &v->geom;
  const uint8_t *bank = v->seg.base + g->bank_off + (gen & 1) * g->bank_size;
  memcpy(&v->bank, bank, sizeof v->bank);
  if (!rules_bank_ok(g, &v->bank))
    memset(&v->bank, 0, sizeof v->bank);
  v->slots = (const uint32_t *)(const void *)(bank + g->in_slots);
  v->groups = (const struct abi_rule_group *)(const void *)(bank + g->in_groups);
  v->spans = (const struct abi_rule_span *)(const void *)(bank + g->in_spans);
  v->verdicts = (const struct abi_rule_verdict *)(const void *)(bank + g->in_verdicts);
  v->gen = gen;
  return gen;
}

/* The group of a key; 0 and a copy of its spans' place, or -ENOENT. */
static int rules_group(const struct rules_view *v, const struct rules_exact *x, uint32_t *span, uint32_t *n) {
  uint32_t mask = v->bank.n_slots - 1;
  uint32_t at = rules_exact_hash(x) & mask;
  for (uint32_t probe = 0; probe <= mask; probe++, at = (at + 1) & mask) {
    uint32_t i = v->slots[at];
    if (i == 0 || i > v->bank.n_groups)
      return -ENOENT;
    const struct abi_rule_group *g = &v->groups[i - 1];
    if (!rules_exact_is(x, g))
      continue;
    *span = g->span;
    *n = g->n;
    return *n != 0 && *n <= v->bank.n_spans && *span <= v->bank.n_spans - *n ? 0 : -ENOENT;
  }
  return -ENOENT;
}

/* Verdict of a port, or ABI_RULE_NONE. */
static uint32_t rules_port(const struct rules_view *v, uint32_t span, uint32_t n, uint16_t port) {
  const struct abi_rule_span *s = &v->spans[span];
  uint32_t lo = 0, hi = n - 1;
  while (lo < hi) { /* the first one that reaches up to the port */
    uint32_t mid = lo + (hi - lo) / 2;
    if (s[mid].high < port)
      lo = mid + 1;
    else
      hi = mid;
  }
  return s[lo].verdict;
}

int rules_find(const struct rules_view *v, const struct rules_key *k, struct abi_rule_verdict *out) {
  struct rules_exact x = {.scope = k->scope, .proto = k->proto};
  uint64_t remote[2], local[2];
  rules_words(k->remote, remote);
  rules_words(k->local, local);
  x.set = (uint8_t)(k->table * 2u + !rules_is4(remote));
  if (x.set >= ABI_RULE_SETS || v->bank.n_slots == 0)
    return 0;
  const struct abi_rule_tuple *t = v->bank.tuple[x.set];
  for (uint32_t i = 0; i < v->bank.n_tuples[x.set]; i++) {
    uint32_t span, n;
    x.remote_bits = t[i].remote_bits;
    x.local_bits = t[i].local_bits;
    rules_mask(remote, x.remote_bits, x.remote);
    rules_mask(local, x.local_bits, x.local);
    if (rules_group(v, &x, &span, &n) < 0)
      continue;
    uint32_t verdict = rules_port(v, span, n, k->port);
    if (verdict >= v->bank.n_verdicts)
      continue;
    *out = v->verdicts[verdict];
    return 1;
  }
  return 0;
}

/* FNV-1a, 64 bits. */
uint64_t rules_app_tag(const char *name) {
  uint64_t h = 0xcbf29ce484222325ull;
  for (; *name != '\0'; name++)
    h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
  return h != 0 ? h : 1;
}
