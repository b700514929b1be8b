/*
 * Which engine worker owns a flow. TCP: one symmetric hash of addresses and ports, so that both directions meet at one
 * worker. UDP: a hash of our port alone, so that a socket, all its peers, the others of its SO_REUSEPORT group and the
 * groups that it has joined are one worker's, connected or not. Computed by nicio for every frame and by the engine for
 * requests and adoption. Without a secret, so that every successor of either computes the same; where they disagree
 * (an older nicio) the engine passes on what came to the wrong worker.
 *
 * What is neither a whole TCP segment nor a whole datagram (ARP, ND, ICMP, fragments) is worker 0's. Pure functions,
 * any thread, hot path.
 */
#ifndef HS_WIRE_FLOW_H
#define HS_WIRE_FLOW_H

#include "base/hash.h"
#include "wire/addr.h"

/** Sum of the mixed words of one address (1 word IPv4, 4 words IPv6): the same whichever of two is source. */
static inline uint64_t flow_addr(const uint8_t *p, uint32_t words) {
  uint64_t h = 0;
  for (uint32_t i = 0; i < words; i++)
    h = hash_mix64(h ^ (load_be32(p + 4 * i) + ((uint64_t)i << 32) + 1));
  return h;
}

/** Hash of raw addresses of 4 × words bytes and ports in host order; swapping both ends changes nothing. */
static inline uint32_t flow_raw(const uint8_t *a, const uint8_t *b, uint32_t words, uint16_t a_port, uint16_t b_port) {
  uint64_t sum = flow_addr(a, words) + flow_addr(b, words) + hash_mix64(a_port + 1u) + hash_mix64(b_port + 1u);
  return (uint32_t)(hash_mix64(sum) >> 32);
}

/** Worker of n (≥ 1) that a hash belongs to. */
static inline uint32_t flow_pick(uint32_t hash, uint32_t n) {
  return n <= 1 ? 0 : (uint32_t)(((uint64_t)hash * n) >> 32);
}

#define FLOW_DHCP_PORT 68u /* RFC 2131 4.1; worker 0 learns addresses for all */

/** Worker of n (≥ 1) that owns what is sent to, or from, our UDP port. */
static inline uint32_t flow_udp(uint16_t port, uint32_t n) {
  return port == FLOW_DHCP_PORT ? 0 : flow_pick((uint32_t)(hash_mix64(port + 1u) >> 32), n);
}

/** Worker of n that owns the connection between two ends, IPv4 as mapped addresses. */
static inline uint32_t flow_worker(const struct ip_addr *local, uint16_t lport, const struct ip_addr *remote,
                                   uint16_t rport, uint32_t n) {
  if (n <= 1)
    return 0;
  uint32_t hash = ip_addr_is4(remote) ? flow_raw(local->b + 12, remote->b + 12, 1, lport, rport)
                                      : flow_raw(local->b, remote->b, 4, lport, rport);
  return flow_pick(hash, n);
}

#endif
