/*
 * One datagram being put together from its fragments: who calls what is in ip_stack.h. The table is bounded: so many
 * datagrams, so many of one source, each with room for the largest datagram there can be; memory is touched as it is
 * used.
 */
#ifndef HS_ENGINE_IP_REASM_H
#define HS_ENGINE_IP_REASM_H

#include "base/list.h"
#include "base/timer.h"
#include "wire/addr.h"
#include "wire/ip.h"

#define REASM_MAX        64u /* datagrams at a time */
#define REASM_SOURCE_MAX 16u /* of one source */
#define REASM_RANGES     32u /* separate runs of bytes of one datagram: no honest path reorders more */
#define REASM_HEAD                                                                                                     \
  (IP6_HLEN + IP6_EXT_LEN_MAX + 56u) /* room for the header in front of the payload, a multiple of 8                   \
                                      */
#define REASM_ROOM   (REASM_HEAD + 65536u)
#define REASM_IP4_US 30000000ull /* RFC 791 3.2 asks for 15 s, RFC 1122 3.3.2 for 60; what Linux waits */
#define REASM_IP6_US 60000000ull /* RFC 8200 4.5 */

enum reasm_state {
  REASM_FREE = 0,
  REASM_OPEN,
  REASM_SPOILT, /* fragments contradicted each other: what is still to come is dropped too (RFC 5722 4) */
};

/* Bytes [from, to) of the payload are there; runs are sorted and never touch each other. */
struct reasm_range {
  uint32_t from, to;
};

struct reasm {
  struct ip_addr src, dst;
  uint32_t id;
  uint8_t version, proto; /* proto: of the fragmented part, key in IPv4 only */
  uint8_t state;          /* enum reasm_state */
  uint8_t ecn;            /* bit per code point seen (RFC 3168 5.3) */
  uint8_t port, to_us, l2_group;
  uint8_t n_ranges;
  uint16_t hdr_len;  /* of the first fragment, which is kept in front of the payload; 0: it did not come yet */
  uint16_t frag_at;  /* IPv6: offset of the fragment header in it */
  uint16_t nh_at;    /* IPv6: offset of the byte that names the fragment header */
  uint16_t first_to; /* bytes of the first fragment's payload */
  uint32_t total;    /* payload bytes, UINT32_MAX until the last fragment came */
  struct reasm_range range[REASM_RANGES];
  struct timer_ent timer;
  struct list age; /* reasm_table.open, oldest first */
};

struct reasm_table {
  struct reasm *r; /* REASM_MAX, by the owner */
  uint8_t *buf;    /* REASM_MAX × REASM_ROOM, by the owner */
  uint32_t n_open;
  struct list open;
};

#endif
