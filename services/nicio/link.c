/*
 * Links to the engine's workers (link.h). Lcore thread, hot path.
 */
#include "link.h"

#include "base/bits.h"
#include "rss.h"

#include <string.h>

#define LINK_PUSH_BURST 64u
#define LINK_ALL        ((1u << ABI_LINKS_MAX) - 1)

/** How many links the engine says that it uses; before the first engine: all. */
static uint32_t link_in_use(const struct links *ls) {
  uint32_t n = abi_boot_links(ls->boot), most = (uint32_t)ls->fs->geom.n_links;

  return n == 0 || n > most ? most : n;
}

int link_open(struct links *ls, const struct frame_seg *fs, struct slots *slots, struct lend_rec *rec,
              void (*purge)(void *ctx, uint32_t link), void *purge_ctx) {
  memset(ls, 0, sizeof *ls);
  ls->fs = fs;
  ls->slots = slots;
  ls->purge = purge;
  ls->purge_ctx = purge_ctx;
  lend_init(&ls->lend, rec, (uint32_t)fs->geom.n_rx);
  for (uint32_t i = 0; i < fs->geom.n_links; i++) {
    ls->link[i].index = i;
    int rc = frame_link_open(&ls->link[i].fl, fs, i, FRAME_NICIO);
    if (rc < 0)
      return rc;
  }
  ls->boot = __atomic_load_n(&fs->pkt->boot, __ATOMIC_ACQUIRE);
  ls->n = link_in_use(ls);
  ls->ring = LINK_ALL;
  return 0;
}

/** Everything out counts as not yet shown; leavings of frames that the old engine had begun to return come home. */
static void link_lend_again(struct links *ls, struct link *lk) {
  uint32_t slots[64], n;

  do {
    n = lend_again(&ls->lend, lk->index, slots, ARRAY_LEN(slots));
    for (uint32_t i = 0; i < n; i++)
      slots_put(ls->slots, slots[i]);
  } while (n > 0);
  ls->n_again++;
}

/** Link of a frame that is lent anew. */
static uint32_t link_of(void *ctx, const struct abi_frame_desc *d) {
  struct links *ls = ctx;

  return rss_link(ls->fs->seg->base + d->off, d->len, ls->n);
}

/** A new engine process: nothing of the old one on any link may be sent or heard any more, and its number of workers
 * may be another. Returns 1 when there is one. */
static uint32_t link_boot(struct links *ls) {
  uint64_t boot = __atomic_load_n(&ls->fs->pkt->boot, __ATOMIC_ACQUIRE);
  uint32_t was = ls->n, slots[64], n;

  if (HS_LIKELY(boot == ls->boot))
    return 0;
  ls->boot = boot;
  ls->n = link_in_use(ls);
  for (uint32_t i = 0; i < ls->fs->geom.n_links; i++) {
    ls->purge(ls->purge_ctx, i);
    ls->link[i].lied = 1; /* rests until its new epoch */
    if (i >= was)
      ls->link[i].proven = 0;
  }
  for (uint32_t i = 0; was != ls->n && i < ls->fs->geom.n_links; i++)
    while ((n = lend_again(&ls->lend, i, slots, ARRAY_LEN(slots))) > 0)
      for (uint32_t k = 0; k < n; k++)
        slots_put(ls->slots, slots[k]);
  if (was != ls->n)
    lend_spread(&ls->lend, link_of, ls);
  return 1;
}

/** Epoch changes. Returns 1 when something changed. */
static uint32_t link_epoch(struct links *ls, struct link *lk) {
  switch (frame_link_poll(&lk->fl)) {
  case FRAME_SAME:
    return 0;
  case FRAME_PEER_NEW:
    (void)link_boot(ls); /* the word is older than the epoch */
    /* The new engine touches no TX slot until it sees our `seen`: nothing of the old one may be sent after that. */
    ls->purge(ls->purge_ctx, lk->index);
    lk->lied = 0;
    frame_link_ack(&lk->fl);
    link_lend_again(ls, lk);
    ls->ring |= 1u << lk->index;
    return 1;
  case FRAME_CAME_UP:
    lk->proven = 1;
    link_lend_again(ls, lk);
    return 1;
  }
  return 0;
}

/** Slots that came home. */
static uint32_t link_home(struct links *ls, struct link *lk) {
  uint32_t slots[LINK_DONE_BURST], total = 0;
  int n;

  do {
    n = frame_done_take(&lk->fl, slots, LINK_DONE_BURST);
    if (n < 0) {
      lk->lied = 1;
      return total;
    }
    for (int i = 0; i < n; i++) {
      if (lend_home(&ls->lend, lk->index, slots[i]) == 0)
        slots_put(ls->slots, slots[i]);
      else
        ls->n_bad_done++;
    }
    total += (uint32_t)n;
  } while (n == (int)LINK_DONE_BURST && total < 4 * LINK_DONE_BURST);
  return total;
}

/** Frames from the book into the ring, as far as it has room. */
static uint32_t link_push(struct links *ls, struct link *lk) {
  struct abi_frame_desc d[LINK_PUSH_BURST];
  uint32_t room = frame_room(&lk->fl), total = 0;

  while (room > 0) {
    int n = lend_next(&ls->lend, lk->index, d, HS_MIN(room, LINK_PUSH_BURST));
    if (n <= 0)
      break;
    frame_push(&lk->fl, d, (uint32_t)n);
    room -= (uint32_t)n;
    total += (uint32_t)n;
  }
  return total;
}

uint32_t link_turn(struct links *ls) {
  uint32_t work = link_boot(ls);

  for (uint32_t i = 0; i < ls->n; i++) {
    struct link *lk = &ls->link[i];
    work += link_epoch(ls, lk);
    if (lk->fl.up && !lk->lied)
      work += link_home(ls, lk);
  }
  return work;
}

int link_rx_ready(const struct links *ls) {
  for (uint32_t i = 0; i < ls->n; i++)
    if (!ls->link[i].proven)
      return 0;
  return ls->n > 0;
}

uint32_t link_tx_take(struct links *ls, uint32_t i, struct abi_frame_desc *d, uint32_t n) {
  struct link *lk = &ls->link[i];

  if (!lk->fl.up || lk->lied)
    return 0;
  int got = frame_take(&lk->fl, d, n);
  if (got < 0) {
    lk->lied = 1;
    return 0;
  }
  return (uint32_t)got;
}

uint32_t link_flush(struct links *ls) {
  uint32_t ring = ls->ring & ((1u << ls->n) - 1);

  ls->ring = 0;
  for (uint32_t i = 0; i < ls->n; i++) {
    struct link *lk = &ls->link[i];
    if (!lk->fl.up || lk->lied)
      continue;
    (void)link_push(ls, lk);
    ring |= (uint32_t)frame_flush(&lk->fl) << i;
  }
  return ring;
}

int link_arm(struct links *ls, int starved) {
  int quiet = 1;

  for (uint32_t i = 0; i < ls->n; i++) {
    struct link *lk = &ls->link[i];
    quiet &= (starved ? frame_arm_slots(&lk->fl) : frame_arm(&lk->fl)) || lk->lied;
  }
  return quiet;
}

void link_disarm(struct links *ls) {
  for (uint32_t i = 0; i < ls->n; i++)
    frame_disarm(&ls->link[i].fl);
}

int link_waiting(const struct links *ls, int starved) {
  for (uint32_t i = 0; i < ls->n; i++) {
    const struct frame_link *fl = &ls->link[i].fl;
    if (ls->link[i].lied || !fl->up)
      continue;
    if (frame_pending(fl) || (starved && __atomic_load_n(&fl->peer->done_tail, __ATOMIC_ACQUIRE) != fl->in_done_head))
      return 1;
  }
  return 0;
}

void link_reset(struct links *ls) {
  for (uint32_t i = 0; i < ls->n; i++) {
    struct link *lk = &ls->link[i];
    ls->purge(ls->purge_ctx, i);
    frame_link_reset(&lk->fl);
    lk->proven = 0;
    lk->lied = 0;
  }
  ls->ring = LINK_ALL;
}

void link_heartbeat(struct links *ls, usec_t now) {
  for (uint32_t i = 0; i < ls->n; i++)
    __atomic_store_n(&ls->link[i].fl.mine->heartbeat, now, __ATOMIC_RELAXED);
}

void link_late(struct links *ls) {
  for (uint32_t i = 0; i < ls->n; i++) {
    uint32_t *w = &ls->link[i].fl.mine->late_wakeup;
    __atomic_store_n(w, __atomic_load_n(w, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
  }
}
