/*
 * Routes: one hash over (prefix, length), asked from the longest length in use to the shortest. Tables of hosts use a
 * handful of lengths, so a lookup is a handful of probes; connections ask once and keep the answer (struct ip_path).
 * Called on the worker's thread. Nothing is allocated here: records and buckets are the owner's.
 *
 * IPv4 prefixes are 96 + n bits of the mapped form; an IPv4 destination is never matched by shorter (IPv6) prefixes.
 */
#include "ip/route.h"
#include "base/bits.h"
#include "base/hash.h"

static uint32_t route_bucket(const struct ip_addr *prefix, unsigned bits) {
  uint64_t x = hash_mix64(ip_addr_hi_(prefix) + bits) ^ ip_addr_lo_(prefix);
  return (uint32_t)hash_mix64(x) & (ROUTE_BUCKETS - 1);
}

void route_init(struct route_table *t, struct route *r, uint32_t *bucket) {
  memset(t, 0, sizeof *t);
  t->r = r;
  t->bucket = bucket;
  t->free = ROUTE_NONE;
  for (uint32_t i = 0; i < ROUTE_BUCKETS; i++)
    bucket[i] = ROUTE_NONE;
}

/* The record of a masked prefix, or NULL; *link is the word that names it. */
static struct route *route_probe(const struct route_table *t, const struct ip_addr *prefix, unsigned bits,
                                 uint32_t **link) {
  uint32_t *at = &t->bucket[route_bucket(prefix, bits)];
  for (; *at != ROUTE_NONE; at = &t->r[*at].next) {
    struct route *r = &t->r[*at];
    if (r->bits != bits || !ip_addr_eq(&r->prefix, prefix))
      continue;
    if (link != NULL)
      *link = at;
    return r;
  }
  return NULL;
}

struct route *route_find(const struct route_table *t, const struct ip_addr *prefix, unsigned bits) {
  struct ip_addr key = ip_addr_mask(prefix, bits);
  return route_probe(t, &key, bits, NULL);
}

struct route *route_add(struct route_table *t, const struct ip_addr *prefix, unsigned bits, int *err) {
  struct ip_addr key = ip_addr_mask(prefix, bits);
  if (route_probe(t, &key, bits, NULL) != NULL) {
    *err = -EEXIST;
    return NULL;
  }
  uint32_t idx = t->free;
  if (idx != ROUTE_NONE) {
    t->free = t->r[idx].next;
  } else if (t->n_made < ROUTE_MAX) {
    idx = t->n_made++;
  } else {
    *err = -ENOSPC;
    return NULL;
  }
  struct route *r = &t->r[idx];
  uint32_t *head = &t->bucket[route_bucket(&key, bits)];
  memset(r, 0, sizeof *r);
  r->prefix = key;
  r->bits = (uint8_t)bits;
  r->next = *head;
  *head = idx;
  t->n++;
  t->per_len[bits]++;
  t->lens[bits / 64] |= 1ull << bits % 64;
  *err = 0;
  return r;
}

int route_del(struct route_table *t, const struct ip_addr *prefix, unsigned bits) {
  struct ip_addr key = ip_addr_mask(prefix, bits);
  uint32_t *link;
  struct route *r = route_probe(t, &key, bits, &link);
  if (r == NULL)
    return -ENOENT;
  *link = r->next;
  r->next = t->free;
  t->free = (uint32_t)(r - t->r);
  t->n--;
  if (--t->per_len[bits] == 0)
    t->lens[bits / 64] &= ~(1ull << bits % 64);
  return 0;
}

const struct route *route_lookup(const struct route_table *t, const struct ip_addr *dst) {
  unsigned least = ip_addr_is4(dst) ? 96 : 0;
  for (unsigned word = 3; word-- > least / 64;) {
    for (uint64_t left = t->lens[word]; left != 0;) {
      unsigned bit = bits_log2(left), bits = word * 64 + bit;
      left &= ~(1ull << bit);
      if (bits < least)
        return NULL;
      const struct route *r = route_find(t, dst, bits);
      if (r != NULL)
        return r;
    }
  }
  return NULL;
}
