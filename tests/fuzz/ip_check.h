/*
 * Invariants of a whole IP stack on the bench of support/ip_rig.h: the oracle of fuzz_ip and fuzz_frag after every
 * step. A slot that is out waits in the neighbour table, the table's counts agree with its entries; runs of bytes in
 * reassembly are sorted and apart, and every datagram that is open has its timer.
 */
#ifndef HS_TESTS_IP_CHECK_H
#define HS_TESTS_IP_CHECK_H

#include "fuzz.h"
#include "ip/ip_stack.h"
#include "ip_rig.h"

/** What a stack draws at its start becomes the same in every run, so that an input does the same whenever it is run. */
static inline void ip_repeatable(struct ip_rig *r) {
  REQUIRE(r->s->neigh.n_used == 0); /* nothing was hashed with the key */
  memset(r->s->neigh.key, 7, sizeof r->s->neigh.key);
  r->s->neigh.reachable = NEIGH_REACH_US;
  r->s->ip_id = 1;
}

static inline void ip_check_reasm(const struct ip_rig *r) {
  const struct reasm_table *t = &r->s->reasm;
  uint32_t open = 0;
  for (uint32_t i = 0; i < REASM_MAX; i++) {
    const struct reasm *x = &t->r[i];
    open += x->state != REASM_FREE;
    REQUIRE(x->state == REASM_FREE || timer_armed(&x->timer));
    REQUIRE(x->n_ranges <= REASM_RANGES);
    for (uint32_t k = 0; x->state == REASM_OPEN && k < x->n_ranges; k++)
      REQUIRE(x->range[k].from < x->range[k].to && x->range[k].to <= HS_MIN(x->total, 65535u) &&
              (k == 0 || x->range[k - 1].to < x->range[k].from));
  }
  REQUIRE(open == t->n_open);
}

static inline void ip_check(struct ip_rig *r) {
  const struct neigh_table *t = &r->s->neigh;
  uint32_t used = 0, fresh = 0, queued = 0;
  for (uint32_t i = 0; i < t->n_made; i++) {
    const struct neigh *e = &t->n[i];
    if (e->state == NEIGH_FREE)
      continue;
    used++;
    fresh += e->state == NEIGH_INCOMPLETE || e->state == NEIGH_FAILED;
    queued += e->n_queued;
    REQUIRE(e->n_queued <= NEIGH_QUEUE && (e->n_queued == 0 || e->state == NEIGH_INCOMPLETE));
    REQUIRE(neigh_find(r->s, e->port, &e->addr) == e);
    REQUIRE((e->mac[0] & 1) == 0); /* nobody's MAC is a group's */
  }
  ip_check_reasm(r);
  REQUIRE(used == t->n_used && fresh == t->n_fresh && queued == t->n_queued && queued == r->n_out);
}

#endif
