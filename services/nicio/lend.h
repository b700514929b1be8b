/*
 * Lending: which RX slots are out at an engine worker, in the order in which they were lent.
 *
 * One list per link over one table with a record per RX slot, in private memory outside the slots, so that nothing the
 * engine writes can make a slot come home twice. A frame is lent whole; its record keeps the descriptors, so that
 * after the engine's restart every frame that had not come home is lent again, in order (abi/frame.h). Lcore thread.
 */
#ifndef NICIO_LEND_H
#define NICIO_LEND_H

#include "abi/frame.h"
#include "base/err.h"

#define LEND_HOME 0xffu /* lend_rec.link of a slot that is not out */

struct lend_rec {
  struct abi_frame_desc d;
  uint32_t prev, next; /* slots; ABI_SEG_NONE = end */
  uint8_t link;        /* list it is in, or LEND_HOME */
  uint8_t index;       /* piece number in its frame */
  uint8_t pieces;      /* pieces of its frame */
  uint8_t pad;
  uint32_t frame; /* number of its frame, so that the leavings of two frames are never taken for one */
};
_Static_assert(sizeof(struct lend_rec) == 48, "lent slot");

struct lend_list {
  uint32_t head, tail; /* slots in order of lending */
  uint32_t unpushed;   /* first slot that is not in the ring yet; ABI_SEG_NONE = all are */
  uint32_t n;
};

struct lend {
  struct lend_rec *rec; /* n_rx */
  uint32_t n_rx;
  uint32_t frames; /* lent so far */
  struct lend_list list[ABI_LINKS_MAX];
};

/** All slots at home. `rec` is memory for n_rx records, the caller's. */
void lend_init(struct lend *l, struct lend_rec *rec, uint32_t n_rx);
/** Append a whole frame of n pieces to the list of `link`. Slots must be home (our own bug otherwise). */
void lend_frame(struct lend *l, uint32_t link, const struct abi_frame_desc *d, uint32_t n);
/** Take a slot out of the list of `link`. 0, or -ENOENT when the slot is not lent there (the engine lies, or it is a
 * late copy): nothing changes. */
int lend_home(struct lend *l, uint32_t link, uint32_t slot);
/** Copy the next whole frame that is not in the ring and count it as pushed. Returns its pieces, 0 when there is none,
 * -ENOSPC when it has more than `room` pieces. */
int lend_next(struct lend *l, uint32_t link, struct abi_frame_desc *d, uint32_t room);
/** Lend anew: everything that is out counts as unpushed. Pieces of frames of which some piece has come home already
 * (the dead engine had copied that frame) are taken out, up to `max` of them go to slots[]. Returns how many; call
 * again until 0. */
uint32_t lend_again(struct lend *l, uint32_t link, uint32_t *slots, uint32_t max);
/** Spread all frames over the links anew: `link_of` names the link of a frame by its first piece. Frames of one list
 * stay in order. Only whole frames are out (lend_again was called for every link); all count as unpushed. */
void lend_spread(struct lend *l, uint32_t (*link_of)(void *ctx, const struct abi_frame_desc *first), void *ctx);
/** Invariants of all lists. 0 or a negative line number. */
int lend_check(const struct lend *l);

#endif
