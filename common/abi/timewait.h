/*
 * TIME_WAIT records: what is left of a connection whose app has let go of it, one dense array in the TCB segment behind
 * the TCB table (struct abi_tcb_geom). A tenth of a TCB, because ten thousand closes per second leave 600 000 of them.
 *
 * The engine writes a record, `life` last; its successor adopts every record whose `life` says so. A record and the TCB
 * that it comes from may both be in use after a crash: the record counts. The timestamp offset is not here: it is a
 * hash of addresses and ports (tcp_open.c).
 */
#ifndef HS_ABI_TIMEWAIT_H
#define HS_ABI_TIMEWAIT_H

#include "base/bytes.h"

#define ABI_TW_FREE 0u
#define ABI_TW_USED 0x54575431u /* "TWT1" */

/** 64 bytes; one writer, the engine. */
struct abi_tw {
  uint32_t life;      /* atomic: ABI_TW_FREE / ABI_TW_USED */
  uint8_t nego;       /* ABI_TCB_TS counts; from ABI_TW_VRF_SHIFT on: VRF */
  uint8_t rcv_wscale; /* of `wnd` */
  uint16_t wnd;       /* the window that answers carry, as on the wire */
  uint8_t local[16];  /* network order, IPv4 mapped */
  uint8_t remote[16];
  uint16_t lport, rport; /* host order */
  seq32_t snd_nxt;       /* behind our FIN */
  seq32_t rcv_nxt;       /* behind the peer's */
  uint32_t ts_recent;    /* RFC 7323 4.3 */
  usec_t end;            /* CLOCK_MONOTONIC µs */
};
_Static_assert(sizeof(struct abi_tw) == 64, "TIME_WAIT record");

/** VRFs are numbered 0 … ABI_VRFS - 1, here and wherever a record names one: four bits are enough. */
#define ABI_VRFS         16u
#define ABI_TW_VRF_SHIFT 4u
static inline uint32_t abi_tw_vrf(const struct abi_tw *t) {
  return (uint32_t)t->nego >> ABI_TW_VRF_SHIFT;
}

#endif
