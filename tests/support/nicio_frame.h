/*
 * Frames for nicio's tests: TCP and UDP over IPv4 and IPv6 with payload that tells its own position, and checks of what
 * comes out at the other end.
 */
#ifndef HS_TESTS_NICIO_FRAME_H
#define HS_TESTS_NICIO_FRAME_H

#include "pkt.h"

struct frame_spec {
  int v6, udp;
  uint32_t payload; /* bytes */
  uint32_t seq;
  uint8_t tcp_flags;
  uint16_t id; /* IPv4 */
  uint16_t sport;
  uint32_t ack;
  uint32_t ts; /* timestamp option value, 0 = no option */
  uint8_t tos;
  int partial; /* checksum field holds the pseudo-header sum only */
};

/** Payload byte at stream position pos. */
static inline uint8_t frame_byte(uint32_t pos) {
  return (uint8_t)(pos * 31u + (pos >> 8));
}
/** Bytes before the payload. */
uint32_t frame_head(const struct frame_spec *s);
/** Build; returns its length. Payload byte i is frame_byte(seq + i). */
uint32_t frame_build(uint8_t *f, const struct frame_spec *s);
/** Whether IP length, IPv4 header checksum and L4 checksum are right and the payload is frame_byte(seq + i). Fills *out
 * with what it found. 0 or a negative line number. */
int frame_check(const uint8_t *f, uint32_t len, struct frame_spec *out);

#endif
