/*
 * A datagram in a fifo: this header, then its bytes, published together by one store of the tail.
 *
 * The producer writes it (tx fifo: the app, rx fifo: the engine), the consumer copies it once and checks the copy:
 * `len` must lie within what is published and within ABI_DGRAM_MAX. A fifo of datagrams never holds a part of one, so
 * whatever follows a consumed datagram is a header again. The head moves over header and bytes in one store; in the tx
 * fifo it moves before the datagram is sent, so that a crash sends it at most once.
 */
#ifndef HS_ABI_DGRAM_H
#define HS_ABI_DGRAM_H

#include "base/bytes.h"

#define ABI_DGRAM_MAX 65527u /* payload bytes: 65535 less the UDP header (RFC 768; IPv4 takes 20 less) */
#define ABI_DGRAM_FIFO                                                                                                 \
  212992u /* least size of a fifo of datagrams, bytes: three of the longest, as Linux's default                        \
           */

/* abi_dgram.flags */
#define ABI_DGRAM_BROADCAST 0x01u /* tx: the app may send to a broadcast address (SO_BROADCAST) */
#define ABI_DGRAM_UNCUT     0x02u /* tx: never cut into fragments (IP_PMTUDISC_DO) */
#define ABI_DGRAM_NO_LOOP   0x04u /* tx: a multicast is not for ourselves (IP_MULTICAST_LOOP 0) */
#define ABI_DGRAM_STAMPED                                                                                              \
  0x08u /* rx, if the app set ABI_OPT_STAMP: seg and the upper half of ifindex are the lower and the upper half of the \
           time of arrival, CLOCK_MONOTONIC in microseconds, modulo 2^32 */
#define ABI_DGRAM_STRAY                                                                                                \
  0x10u /* rx, if the app set ABI_OPT_STRAYS: nobody has the port that it was sent to, which is `seg`; not STAMPED */

/** 48 bytes in front of each datagram. Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d. */
struct abi_dgram {
  uint32_t len; /* bytes that follow, 0 … ABI_DGRAM_MAX */
  uint16_t seg; /* tx: to be cut into datagrams of so many bytes, 0 = one (UDP_SEGMENT); rx: 0, or see STAMPED, STRAY */
  uint8_t tos;  /* traffic class; rx: as received */
  uint8_t ttl;  /* hop limit; tx: 0 = default; rx: as received */
  uint8_t ip[16];    /* tx: where to; rx: where from */
  uint8_t local[16]; /* tx: source address wished, all zero = none; rx: the address that it was sent to */
  be16_t port;       /* of `ip` */
  uint8_t family;    /* of `ip`: 4 or 6; tx: 0 = the connected peer */
  uint8_t flags;     /* ABI_DGRAM_* */
  uint32_t ifindex;  /* rx: 1 + interface number (16 bits: see STAMPED); tx: of a multicast, 0 = by source address and
                        route */
};
_Static_assert(sizeof(struct abi_dgram) == 48, "datagram header");

#endif
