/*
 * Links: nicio's side of the frame rings, one per engine worker, with lending and epochs (abi/frame.h).
 *
 * RX: link_rx_lend puts a frame into the book (lend.h) and link_turn moves frames from the book to the ring while the
 * link is up; slots come home by the done ring. TX: link_tx_take copies descriptors out of the ring; link_tx_done sends
 * a slot home. A new engine epoch empties what of the old engine waits in the port queues (callback), then everything
 * that had not come home is lent again. Lcore thread, hot path.
 *
 * A new engine may have another number of workers (abi_packet.boot): then TX frames of all links are forgotten, no link
 * is listened to before its new epoch, and what had not come home is spread anew, flows in order.
 */
#ifndef NICIO_LINK_H
#define NICIO_LINK_H

#include "lend.h"
#include "shm/frame.h"
#include "slots.h"

#define LINK_DONE_BURST 256u

struct link {
  struct frame_link fl;
  uint32_t index;
  int proven; /* the engine has confirmed our epoch since we raised it: RX slots are ours */
  int lied;   /* the engine's words made no sense since its last epoch: the link rests until the next */
};

struct links {
  const struct frame_seg *fs;
  struct lend lend;
  struct slots *slots;
  struct link link[ABI_LINKS_MAX];
  uint32_t n;                              /* links in use */
  uint64_t boot;                           /* of the engine, as last seen */
  void (*purge)(void *ctx, uint32_t link); /* forget what waits in port queues and came from this link's engine */
  void *purge_ctx;
  uint32_t ring;       /* mask of links: an epoch changed in this turn, the worker is to look, armed or not */
  uint64_t n_again;    /* times everything was lent again */
  uint64_t n_bad_done; /* done entries for slots that were not out */
};

/** Take nicio's side of all links. `rec` is memory for the book, a record per RX slot. 0, -EPROTO. */
HS_MUST_CHECK int link_open(struct links *ls, const struct frame_seg *fs, struct slots *slots, struct lend_rec *rec,
                            void (*purge)(void *ctx, uint32_t link), void *purge_ctx);

/** Top of a turn: epochs, slots that came home, frames that wait for the ring. Returns the work done, 0 = nothing. */
uint32_t link_turn(struct links *ls);
/** 1 when RX slots may be filled: every engine worker has confirmed that it holds none of an earlier nicio. */
int link_rx_ready(const struct links *ls);
/** Lend a whole frame of n pieces to link `i`. */
static inline void link_rx_lend(struct links *ls, uint32_t i, const struct abi_frame_desc *d, uint32_t n) {
  lend_frame(&ls->lend, i, d, n);
}
/** Copy up to n TX descriptors of link i, whole frames. Returns their number, 0 when the link is down. */
uint32_t link_tx_take(struct links *ls, uint32_t i, struct abi_frame_desc *d, uint32_t n);
/** A TX slot goes home. */
static inline void link_tx_done(struct links *ls, uint32_t i, uint32_t slot) {
  frame_done_push(&ls->link[i].fl, slot);
}
/** End of a turn: push what was lent, publish. Returns a mask of the links whose engine worker is to be rung. */
uint32_t link_flush(struct links *ls);
/** Before sleeping: 1 when nothing waits on any link. `starved`: slots coming home are worth a bell as well. After it:
 * disarm. */
int link_arm(struct links *ls, int starved);
void link_disarm(struct links *ls);
/** Whether something waits for which a bell is rung: descriptors, and slots coming home only for a starved sleeper. */
int link_waiting(const struct links *ls, int starved);
/** Throw away everything in flight on all links (control: ResetRings). */
void link_reset(struct links *ls);
/** Store the heartbeat, monotonic µs, in every link. */
void link_heartbeat(struct links *ls, usec_t now);
void link_late(struct links *ls);

#endif
