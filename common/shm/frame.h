/*
 * Frame link: one side of the four rings between nicio and one engine worker (abi/frame.h), with epochs.
 *
 * The same code serves both sides: `out` rings are those this side produces. Positions are private; the peer's tail is
 * loaded once per burst. Used by the worker thread of the engine and by the lcore of nicio; hot path.
 */
#ifndef HS_SHM_FRAME_H
#define HS_SHM_FRAME_H

#include "abi/frame.h"
#include "shm/seg.h"

enum frame_side { FRAME_NICIO = 0, FRAME_ENGINE = 1 };

struct frame_link {
  enum frame_side side;
  struct abi_link_side *mine;
  const struct abi_link_side *peer;
  struct abi_frame_desc *out_desc;      /* tx (engine) or rx (nicio) */
  const struct abi_frame_desc *in_desc; /* rx (engine) or tx (nicio) */
  struct abi_frame_done *out_done;
  const struct abi_frame_done *in_done;
  uint32_t out_desc_cap, in_desc_cap, out_done_cap, in_done_cap;
  uint32_t out_desc_tail, out_done_tail, in_desc_head, in_done_head;
  uint32_t peer_epoch;             /* last peer epoch acknowledged; 0 = none yet */
  uint32_t peer_new;               /* peer epoch that poll reported; positions and tag are already set for it */
  uint32_t epoch;                  /* own epoch */
  uint32_t tag;                    /* of everything lent now */
  int up;                          /* both sides have seen each other's epoch */
  uint32_t shown_desc, shown_done; /* tails as last flushed */
};

/** Everything both sides need of a packet segment, copied and checked once. */
struct frame_seg {
  struct seg *seg;
  struct abi_packet_geom geom;
  struct abi_packet *pkt;
};

/** Geometry of a packet segment: fills `geom` and returns the segment size in bytes. n_rx, n_tx powers of two. */
uint64_t frame_geom_make(struct abi_packet_geom *geom, uint32_t n_links, uint32_t n_rx, uint32_t n_tx);
/** Check and copy. 0 or -EPROTO with *why. */
int frame_seg_open(struct frame_seg *fs, struct seg *s, const char **why);
/** A new engine with n workers: before it opens its first link. Tells nicio that every older engine is dead. */
void frame_boot(const struct frame_seg *fs, uint32_t n);
/**
 * Take one side of link `i`: raises the own epoch, starts with the link down. 0, or -EINVAL when there is no such link.
 *
 * The order of things, for both sides and any order of deaths:
 *   open (or reset) → ring the peer's bell → poll in every loop turn.
 *   poll says FRAME_PEER_NEW: the peer (a new one, or one that threw its rings away) has forgotten all that was in
 *     flight. nicio now drops the TX frames it was lent and pushes again, in order, every RX frame that had not come
 *     home; the engine lets go of RX frames and takes all its TX slots back. Then frame_link_ack → ring the bell. A
 *     frame of several slots of which one came home was read: its rest is not lent again, but home when the link is up.
 *   poll says FRAME_CAME_UP: the peer has let go of what we had lent before our own start: only now may a *new* nicio
 *     use RX slots and a *new* engine use TX slots. Take and done_take give nothing before that.
 */
int frame_link_open(struct frame_link *l, const struct frame_seg *fs, uint32_t i, enum frame_side side);
/** Raise the own epoch without a restart: throws away everything in flight (the ring-loss test). Link is down after it.
 * The caller behaves as its successor would: forgets what it was lent, and uses its own slots when the link is up. */
void frame_link_reset(struct frame_link *l);
/** Look at the peer's epoch. Returns FRAME_SAME, FRAME_PEER_NEW (the caller now takes back / re-lends, then calls
 * frame_link_ack; repeated until it does), or FRAME_CAME_UP once after both have seen each other. Cheap: two loads.
 * With FRAME_PEER_NEW the rings are empty and the tag is the new one: what is pushed from here on goes to the new peer,
 * and the out ring has room for every slot of this side. */
enum frame_change { FRAME_SAME = 0, FRAME_PEER_NEW = 1, FRAME_CAME_UP = 2 };
enum frame_change frame_link_poll(struct frame_link *l);
/** Acknowledge the epoch that poll reported: `seen` is stored. Pushing may go on before, or be done after it. */
void frame_link_ack(struct frame_link *l);

/** Descriptors that still fit in the out ring; 0 for the engine while the link is down. */
uint32_t frame_room(const struct frame_link *l);
/** Queue n descriptors (all pieces of whole frames); tag is filled in. Caller checked room. Not visible before flush.
 */
void frame_push(struct frame_link *l, const struct abi_frame_desc *d, uint32_t n);
/** Publish what was pushed (descriptors and done entries). Returns 1 when the peer asked for its bell (ring it once):
 * after descriptors when it sleeps, after mere done entries only when it sleeps for want of slots. */
int frame_flush(struct frame_link *l);
/** Copy up to n descriptors of the current tag; entries of another tag are skipped and dropped. Never splits a chain
 * unless it is longer than n. Returns the number, or -EPROTO when the peer's tail lies. */
int frame_take(struct frame_link *l, struct abi_frame_desc *d, uint32_t n);
void frame_done_push(struct frame_link *l, uint32_t slot);
/** Slots that came home. Returns number or -EPROTO; a slot number beyond the table is skipped by the caller. */
int frame_done_take(struct frame_link *l, uint32_t *slots, uint32_t n);
/** armed = 1, fence, look again (rings and epochs): 1 = nothing there, sleeping is safe. */
int frame_arm(struct frame_link *l);
/** The same for a sleeper that has run out of slots: done entries ring the bell as well (armed = 2). */
int frame_arm_slots(struct frame_link *l);
void frame_disarm(struct frame_link *l);

/** 1 when descriptors wait (done entries wait silently); 0 while the link is down, when the peer's words mean nothing.
 */
static inline int frame_pending(const struct frame_link *l) {
  return l->up && __atomic_load_n(&l->peer->desc_tail, __ATOMIC_ACQUIRE) != l->in_desc_head;
}

/** Start of slot `n` of the RX or TX region. */
static inline uint64_t frame_rx_off(const struct frame_seg *fs, uint32_t n) {
  return fs->geom.rx_off + (uint64_t)n * ABI_SLOT_SIZE;
}
static inline uint64_t frame_tx_off(const struct frame_seg *fs, uint32_t n) {
  return fs->geom.tx_off + (uint64_t)n * ABI_SLOT_SIZE;
}

#endif
