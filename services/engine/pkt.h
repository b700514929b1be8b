/*
 * A received frame inside the engine: where its bytes are and what the layers below found out about it.
 *
 * Lives on the stack of the worker loop while the frame is handled; the slots go home as soon as the loop has done with
 * it.
 */
#ifndef HS_ENGINE_PKT_H
#define HS_ENGINE_PKT_H

#include "wire/addr.h"
#include "wire/ip.h"

#define PKT_STRAY      0x8000u /* in flags: another worker has found that nobody has its port (session/stray.h) */
#define PKT_PIECES_MAX 21u     /* headers and TXF_FIFO_PIECES, when a frame of ours is looped back */

struct pkt_piece {
  const uint8_t *p;
  uint32_t len;
};

struct pkt {
  struct pkt_piece piece[PKT_PIECES_MAX];
  uint32_t n_pieces;
  uint32_t len;   /* bytes in all pieces */
  uint16_t flags; /* ABI_FR_* of the first descriptor, PKT_STRAY */
  uint16_t gso_size;
  uint8_t port;
  uint8_t to_us; /* unicast to one of our addresses, decided by ip */
  uint8_t vrf;   /* whose stack has it; what transports read there, vrf.c has set */
  uint16_t l3_off, l4_off;
  uint32_t l4_len; /* bytes from l4_off to the end of the IP datagram */
  uint16_t ethertype;
  struct ip_hdr ip; /* parsed; valid from ip_input on */
};

#endif
