/*
 * Reading a received frame that lies in pieces. Called by the ip room (headers, ICMP) and by whoever verifies an L4
 * checksum; worker thread.
 */
#ifndef HS_ENGINE_IP_PKT_READ_H
#define HS_ENGINE_IP_PKT_READ_H

#include "pkt.h"
#include "wire/cksum.h"

/** Pointer to the len bytes from offset off: in place if they lie in one piece, else copied to buf (≥ len bytes). NULL
 * if the frame ends before. */
const uint8_t *pkt_read_at(const struct pkt *p, uint32_t off, uint32_t len, uint8_t *buf);
/** Copies up to len bytes from off; returns how many there were. */
uint32_t pkt_read_copy(const struct pkt *p, uint32_t off, uint32_t len, uint8_t *dst);
/** Checksum sum of [off, off + len); what the frame does not have is not summed. */
cksum_t pkt_read_sum(const struct pkt *p, uint32_t off, uint32_t len);
/** Whether the L4 message of p (l4_off, l4_len, ip of it set) carries the right checksum. */
int pkt_read_l4_ok(const struct pkt *p);

#endif
