/*
 * The Internet checksum (RFC 1071, 1624), fast: partial sums are 64 bits wide and are kept in the machine's byte order.
 * Hot path of engine and nicio; pure functions, any thread.
 *
 * A partial sum (cksum_t) is added to by pieces and folded at the end. Pieces of odd length are fine if the next piece
 * is joined by cksum_combine; cksum_add itself assumes that its piece begins at an even offset of the whole.
 *
 *   cksum_t s = cksum_pseudo(&src, &dst, IP_PROTO_TCP, l4_len);
 *   s = cksum_add(s, seg, l4_len);             // checksum field 0
 *   cksum_store(seg + TCP_OFF_CKSUM, cksum_fold(s));
 *   verify: field in place, cksum_fold(s) == 0
 */
#ifndef HS_WIRE_CKSUM_H
#define HS_WIRE_CKSUM_H

#include "base/bytes.h"
#include "wire/addr.h"

#include <stddef.h>

/** Partial sum; only meaningful to the functions here. Start with 0. */
typedef uint64_t cksum_t;

/** Adds len bytes that start at an even offset of what is summed. Any alignment; len up to 2^30. */
cksum_t cksum_add(cksum_t sum, const void *data, size_t len);

/** memcpy that sums what it copies, in one pass; areas must not overlap. */
cksum_t cksum_copy(void *dst, const void *src, size_t len, cksum_t sum);

/** Sum reduced to 16 bits, not complemented, machine order: what goes into a checksum field that a device will finish.
 */
static inline uint16_t cksum_reduce(cksum_t sum) {
  sum = (sum & 0xffffffffu) + (sum >> 32);
  sum = (sum & 0xffffffffu) + (sum >> 32);
  sum = (sum & 0xffffu) + (sum >> 16);
  sum = (sum & 0xffffu) + (sum >> 16);
  sum = (sum & 0xffffu) + (sum >> 16);
  return (uint16_t)sum;
}

/** The checksum, as it lies in memory (machine order of the wire bytes): store with cksum_store, compare with 0. */
static inline uint16_t cksum_fold(cksum_t sum) {
  return (uint16_t)~cksum_reduce(sum);
}

/** Sum of two partial sums that both start at even offsets. */
static inline cksum_t cksum_join(cksum_t a, cksum_t b) {
  uint64_t s = a + b;
  return s + (s < a);
}

/** Joins the sum of a piece computed on its own; odd: the piece begins at an odd offset of the whole (RFC 1071 2 B). */
static inline cksum_t cksum_combine(cksum_t sum, cksum_t piece, int odd) {
  uint16_t p = cksum_reduce(piece);
  return cksum_join(sum, odd ? __builtin_bswap16(p) : p);
}

/** Adds one 16-bit number given in host order, e.g. a length or protocol. */
static inline cksum_t cksum_add_u16(cksum_t sum, uint16_t host) {
  return cksum_join(sum, __builtin_bswap16(host));
}

static inline void cksum_store(void *field, uint16_t folded) {
  memcpy(field, &folded, sizeof folded);
}
static inline uint16_t cksum_load(const void *field) {
  uint16_t v;
  memcpy(&v, field, sizeof v);
  return v;
}

/** Pseudo-header of TCP, UDP, ICMPv6 (RFC 9293 3.1, RFC 8200 8.1); len is the upper-layer length. */
cksum_t cksum_pseudo4(uint32_t src_host, uint32_t dst_host, uint8_t proto, uint32_t len);
cksum_t cksum_pseudo6(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint32_t len);
/** The one that fits the family of src. */
cksum_t cksum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint32_t len);

/** Whether a whole TCP, UDP or ICMPv6 message of len bytes carries the right checksum. */
int cksum_l4_ok(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, const void *msg, size_t len);

/**
 * New value of a checksum field (as loaded by cksum_load) after a 16- or 32-bit field at an even offset changed from
 * old_host to new_host (RFC 1624 eqn. 3). UDP's 0 = none is the caller's matter.
 */
uint16_t cksum_update16(uint16_t field, uint16_t old_host, uint16_t new_host);
uint16_t cksum_update32(uint16_t field, uint32_t old_host, uint32_t new_host);

#endif
