/*
 * Software GRO for devices that do not merge: in-order TCP segments of one flow within one receive burst become one
 * frame of chained pieces (headers once, then payloads where they lie).
 *
 * Merged are only segments whose headers are alike to the bit but for sequence number, PSH, IPv4 id, lengths and
 * checksums: same ACK, window, options (so timestamps never go back), TOS (so no CE mark is lost or spread). Each
 * one's checksum is verified first; the merged frame carries ABI_FR_CSUM_OK and gso_size. Lcore thread, hot path.
 */
#ifndef NICIO_GRO_H
#define NICIO_GRO_H

#include "pkt.h"

#define GRO_PIECES 20u /* the engine follows chains of this length (engine/pkt.h) */

/** Merge in d[0..n), whole frames; `base` is the mapping that off counts from. Slots of segments that are merged stay
 * in the chain. Writes into out (room n) in order and returns n; *merged gets the number of segments that were appended
 * to another. */
uint32_t gro_merge(uint8_t *base, const struct abi_frame_desc *d, uint32_t n, struct abi_frame_desc *out,
                   uint32_t *merged);

#endif
