/*
 * Flow table: (VRF, transport, local, lport, remote, rport) → session. Worker thread; hot path.
 *
 * The hash is keyed with a secret drawn at start, because a stranger chooses the tuples.
 */
#include "worker.h"

struct flow_key {
  const struct worker *w;
  const struct ip_addr *local, *remote;
  uint16_t lport, rport;
  uint32_t vrf;
  uint8_t proto;
};

static uint64_t flow_word(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

uint32_t flow_hash(const struct worker *w, uint32_t vrf, const struct ip_addr *local, uint16_t lport,
                   const struct ip_addr *remote, uint16_t rport) {
  uint64_t h = flow_word(w->flow_key);
  h = hash_mix64(h ^ flow_word(remote->b + 8)); /* alone: a stranger chooses it, and so the ports would undo it */
  h = hash_mix64(h ^ flow_word(local->b + 8) ^ flow_word(w->flow_key + 8) ^
                 ((uint64_t)vrf << 32 | (uint32_t)rport << 16 | lport));
  if (!ip_addr_is4(remote))
    h = hash_mix64(h ^ flow_word(remote->b) ^ (flow_word(local->b) << 1));
  return (uint32_t)h;
}

static int flow_equal(uint32_t value, const void *ctx) {
  const struct flow_key *k = ctx;
  const struct session *s = pool_ref(&k->w->sessions, value);
  return s->lport == k->lport && s->rport == k->rport && s->proto == k->proto && s->vrf == k->vrf &&
         ip_addr_eq(&s->remote, k->remote) && ip_addr_eq(&s->local, k->local);
}

struct session *flow_find(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *local, uint16_t lport,
                          const struct ip_addr *remote, uint16_t rport) {
  struct flow_key k = {
      .w = w, .local = local, .remote = remote, .lport = lport, .rport = rport, .vrf = vrf, .proto = proto};
  uint32_t index = hash_tab_find(&w->flows, flow_hash(w, vrf, local, lport, remote, rport), flow_equal, &k);
  return index == HASH_NONE ? NULL : pool_ref(&w->sessions, index);
}

int flow_add(struct worker *w, struct session *s) {
  s->flow_hash = flow_hash(w, s->vrf, &s->local, s->lport, &s->remote, s->rport);
  int rc = hash_tab_insert(&w->flows, s->flow_hash, s->index);
  s->in_flows = rc == 0;
  return rc;
}

void flow_del(struct worker *w, struct session *s) {
  if (s->in_flows)
    (void)hash_tab_remove(&w->flows, s->flow_hash, s->index);
  s->in_flows = 0;
}
