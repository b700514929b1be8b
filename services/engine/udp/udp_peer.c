/*
 * What UDP remembers: the address of ours that a peer spoke to, so that a server bound to all addresses answers from
 * the one that was asked (RFC 1122 4.1.3.5), and path MTUs (RFC 1191, RFC 8201). Both are small, direct and forgetful.
 * Called by session/transport_udp.c; hot path.
 */
#include "udp.h"

#include "base/bits.h"

#define UDP_PMTU_LIFE 600000000ull /* RFC 1191 6.3: 10 minutes */
#define UDP_PMTU_MIN4 552u         /* smaller ones are attacks: as Linux min_pmtu */
#define UDP_PMTU_MIN6 1280u        /* RFC 8200 5 */

static uint32_t udp_mix(const struct ip_addr *a, uint32_t salt) {
  uint32_t w[4];
  memcpy(w, a->b, sizeof w);
  uint32_t h = (w[0] ^ w[1] * 3u ^ w[2] * 5u ^ w[3] * 7u ^ salt) * 2654435761u;
  return h ^ h >> 16;
}

void udp_reply_note(struct udp_conn *c, const struct ip_addr *peer, uint16_t port, const struct ip_addr *local) {
  struct udp_reply *r = &c->reply[udp_mix(peer, port) % UDP_REPLIES];
  *r = (struct udp_reply){.peer = *peer, .local = *local, .port = port, .used = 1};
}

const struct ip_addr *udp_reply_find(const struct udp_conn *c, const struct ip_addr *peer, uint16_t port) {
  const struct udp_reply *r = &c->reply[udp_mix(peer, port) % UDP_REPLIES];
  return r->used && r->port == port && ip_addr_eq(&r->peer, peer) ? &r->local : NULL;
}

void udp_pmtu_note(struct udp_env *e, uint32_t vrf, const struct ip_addr *dst, uint32_t mtu, usec_t now) {
  struct udp_pmtu *m = &e->pmtu[udp_mix(dst, vrf) % UDP_PMTU_ENTRIES];
  mtu = HS_MAX(mtu, ip_addr_is4(dst) ? UDP_PMTU_MIN4 : UDP_PMTU_MIN6);
  if (m->until > now && m->vrf == vrf && ip_addr_eq(&m->dst, dst) && m->mtu <= mtu)
    return;
  *m = (struct udp_pmtu){.dst = *dst, .vrf = vrf, .mtu = mtu, .until = now + UDP_PMTU_LIFE};
  UDP_COUNT(e, pmtu_lowered);
}

uint32_t udp_pmtu_min(const struct udp_env *e, uint32_t vrf, const struct ip_addr *dst, uint32_t mtu, usec_t now) {
  const struct udp_pmtu *m = &e->pmtu[udp_mix(dst, vrf) % UDP_PMTU_ENTRIES];
  return m->until > now && m->vrf == vrf && ip_addr_eq(&m->dst, dst) ? HS_MIN(mtu, m->mtu) : mtu;
}
