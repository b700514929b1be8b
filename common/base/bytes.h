/*
 * Units and byte order that must not mix.
 *
 * Included by everything, the shared-memory headers (common/abi) first of all, so it holds only fixed-width types and
 * inline conversions. A value in network byte order is a struct of its own: adding one to it, or comparing it with a
 * host value, does not compile.
 */
#ifndef HS_BASE_BYTES_H
#define HS_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

/** Microseconds of CLOCK_MONOTONIC, or of a simulator's clock. 0 means "never" where a deadline is stored. */
typedef uint64_t usec_t;
/** TCP sequence number (RFC 9293 3.4), arithmetic modulo 2^32; compare only through seq_lt() and friends. */
typedef uint32_t seq32_t;
/** Byte offset from the start of a shared segment. */
typedef uint64_t shm_off_t;

/** 16 and 32 bits in network byte order. */
typedef struct {
  uint16_t raw;
} be16_t;
typedef struct {
  uint32_t raw;
} be32_t;

static inline be16_t be16_from(uint16_t host) {
  return (be16_t){__builtin_bswap16(host)};
}
static inline be32_t be32_from(uint32_t host) {
  return (be32_t){__builtin_bswap32(host)};
}
static inline uint16_t be16_get(be16_t net) {
  return __builtin_bswap16(net.raw);
}
static inline uint32_t be32_get(be32_t net) {
  return __builtin_bswap32(net.raw);
}

/* Unaligned loads and stores of network-order fields inside a packet. */
static inline uint16_t load_be16(const void *p) {
  uint16_t v;
  memcpy(&v, p, sizeof v);
  return __builtin_bswap16(v);
}
static inline uint32_t load_be32(const void *p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return __builtin_bswap32(v);
}
static inline void store_be16(void *p, uint16_t host) {
  uint16_t v = __builtin_bswap16(host);
  memcpy(p, &v, sizeof v);
}
static inline void store_be32(void *p, uint32_t host) {
  uint32_t v = __builtin_bswap32(host);
  memcpy(p, &v, sizeof v);
}

static inline int seq_lt(seq32_t a, seq32_t b) {
  return (int32_t)(a - b) < 0;
}
static inline int seq_leq(seq32_t a, seq32_t b) {
  return (int32_t)(a - b) <= 0;
}
static inline int seq_gt(seq32_t a, seq32_t b) {
  return (int32_t)(a - b) > 0;
}
static inline int seq_geq(seq32_t a, seq32_t b) {
  return (int32_t)(a - b) >= 0;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "hoststack is built for little-endian machines");

#endif
