/*
 * Frame links: four rings and two epochs between nicio and one engine worker (shm/frame.h, abi/frame.h).
 *
 * One thread on each side: nicio's lcore, the engine's worker. Hot path, except open and geometry.
 *
 * Why either side may die between any two stores. A side's four positions count from 0 for each pair of epochs. They
 * are set to 0 when the side first sees a new epoch of the peer, and they are valid for the peer only when `seen` says
 * so; until then the peer takes them for 0. `seen` is cleared before the own epoch is raised, so that an
 * acknowledgement by a predecessor is never taken for ours. What was read of a peer that restarted meanwhile is told
 * apart by loading its epoch *after* its positions and entries: those change only later than the epoch.
 *   A: seen = 0 → epoch + 1 …  B: sees it → own positions = 0 → take back, lend again → seen = A's epoch.
 *   A: sees B's epoch → own positions = 0 → seen = B's epoch.  Up for a side: it has acknowledged and is acknowledged.
 * Entries carry the pair of epochs as well; whatever else should be in a ring is skipped.
 */
#include "shm/frame.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/fault.h"
#include "shm/fence.h"

#define FRAME_SLOTS_MAX (1u << 20)
#define FRAME_TX_DESCS  4u /* descriptors of the tx ring per TX slot: header slot + pieces of a fifo */

#define FRAME_ARMED_DESC 1u
#define FRAME_ARMED_ALL  2u

/** Bytes of the four rings of one link. */
static uint64_t frame_ring_bytes(const struct abi_packet_geom *g) {
  return (g->n_rx + g->n_tx_desc) * (sizeof(struct abi_frame_desc) + sizeof(struct abi_frame_done));
}

uint64_t frame_geom_make(struct abi_packet_geom *geom, uint32_t n_links, uint32_t n_rx, uint32_t n_tx) {
  memset(geom, 0, sizeof *geom);
  geom->n_links = n_links;
  geom->n_rx = n_rx;
  geom->n_tx = n_tx;
  geom->n_tx_desc = bits_pow2_up((uint64_t)n_tx * FRAME_TX_DESCS); /* one link in use may have all TX slots */
  geom->block_off = 4096;
  geom->rings_off = bits_align_up(geom->block_off + sizeof(struct abi_packet), 4096);
  geom->rx_off = bits_align_up(geom->rings_off + n_links * frame_ring_bytes(geom), ABI_SLOT_SIZE);
  geom->tx_off = geom->rx_off + (uint64_t)n_rx * ABI_SLOT_SIZE;
  return geom->tx_off + (uint64_t)n_tx * ABI_SLOT_SIZE;
}

static int frame_count_ok(uint64_t n, uint64_t max) {
  return bits_is_pow2(n) && n <= max;
}

/** NULL, or which number is wrong. The areas follow each other, so none overlaps another. */
static const char *frame_geom_wrong(const struct seg *s, const struct abi_packet_geom *g) {
  if (g->n_links == 0 || g->n_links > ABI_LINKS_MAX)
    return "n_links";
  if (!frame_count_ok(g->n_rx, FRAME_SLOTS_MAX) || !frame_count_ok(g->n_tx, FRAME_SLOTS_MAX))
    return "slots";
  if (!frame_count_ok(g->n_tx_desc, FRAME_SLOTS_MAX * 8u) || g->n_tx_desc < g->n_tx)
    return "n_tx_desc";
  if (g->block_off < sizeof(struct abi_seg_hdr) || g->block_off % ABI_CACHE_LINE != 0 ||
      seg_at(s, g->block_off, sizeof(struct abi_packet)) == NULL)
    return "block_off";
  if (g->rings_off < g->block_off + sizeof(struct abi_packet) || g->rings_off % ABI_CACHE_LINE != 0 ||
      seg_at(s, g->rings_off, g->n_links * frame_ring_bytes(g)) == NULL)
    return "rings_off";
  if (g->rx_off < g->rings_off + g->n_links * frame_ring_bytes(g) || g->rx_off % ABI_SLOT_SIZE != 0 ||
      seg_at(s, g->rx_off, g->n_rx * ABI_SLOT_SIZE) == NULL)
    return "rx_off";
  if (g->tx_off < g->rx_off + g->n_rx * ABI_SLOT_SIZE || g->tx_off % ABI_SLOT_SIZE != 0 ||
      seg_at(s, g->tx_off, g->n_tx * ABI_SLOT_SIZE) == NULL)
    return "tx_off";
  return NULL;
}

int frame_seg_open(struct frame_seg *fs, struct seg *s, const char **why) {
  const char *wrong = s->kind == ABI_SEG_PACKET ? NULL : "kind";
  memset(fs, 0, sizeof *fs);
  fs->seg = s;
  memcpy(&fs->geom, s->geom, sizeof fs->geom);
  if (wrong == NULL)
    wrong = frame_geom_wrong(s, &fs->geom);
  if (wrong != NULL) {
    if (why != NULL)
      *why = wrong;
    return -EPROTO;
  }
  fs->pkt = seg_at(s, fs->geom.block_off, sizeof *fs->pkt);
  return 0;
}

void frame_boot(const struct frame_seg *fs, uint32_t n) {
  uint64_t boots = __atomic_load_n(&fs->pkt->boot, __ATOMIC_RELAXED) >> 32;
  __atomic_store_n(&fs->pkt->boot, ((boots + 1) << 32) | n, __ATOMIC_SEQ_CST);
}

/** Positions of a fresh pair of epochs: private ones, then the shared words. */
static void frame_link_zero(struct frame_link *l) {
  l->out_desc_tail = l->out_done_tail = l->in_desc_head = l->in_done_head = 0;
  l->shown_desc = l->shown_done = 0;
  __atomic_store_n(&l->mine->desc_tail, 0u, __ATOMIC_RELEASE);
  FAULT_POINT("frame.zero_desc_tail");
  __atomic_store_n(&l->mine->done_tail, 0u, __ATOMIC_RELEASE);
  FAULT_POINT("frame.zero_done_tail");
  __atomic_store_n(&l->mine->desc_head, 0u, __ATOMIC_RELEASE);
  FAULT_POINT("frame.zero_desc_head");
  __atomic_store_n(&l->mine->done_head, 0u, __ATOMIC_RELEASE);
  FAULT_POINT("frame.zero_done_head");
}

void frame_link_reset(struct frame_link *l) {
  uint32_t epoch = __atomic_load_n(&l->mine->epoch, __ATOMIC_RELAXED);
  do
    epoch++;
  while ((epoch & 0xffffu) == 0); /* no epoch and no half of a tag is 0 */
  __atomic_store_n(&l->mine->seen, 0u, __ATOMIC_RELEASE);
  FAULT_POINT("frame.seen_cleared");
  __atomic_store_n(&l->mine->epoch, epoch, __ATOMIC_RELEASE);
  FAULT_POINT("frame.epoch");
  shm_fence(); /* epoch → fence → look at the peer's: of two that start at once, one sees the other */
  l->epoch = epoch;
  l->peer_epoch = l->peer_new = 0;
  l->tag = 0;
  l->up = 0;
}

int frame_link_open(struct frame_link *l, const struct frame_seg *fs, uint32_t i, enum frame_side side) {
  const struct abi_packet_geom *g = &fs->geom;
  if (i >= g->n_links)
    return -EINVAL;
  uint8_t *p = fs->seg->base + g->rings_off + i * frame_ring_bytes(g);
  struct abi_frame_desc *rx = (struct abi_frame_desc *)(void *)p;
  struct abi_frame_desc *tx = rx + g->n_rx;
  struct abi_frame_done *rx_done = (struct abi_frame_done *)(void *)(tx + g->n_tx_desc);
  struct abi_frame_done *tx_done = rx_done + g->n_rx;
  int nicio = side == FRAME_NICIO;
  memset(l, 0, sizeof *l);
  l->side = side;
  l->mine = nicio ? &fs->pkt->link[i].nicio : &fs->pkt->link[i].engine;
  l->peer = nicio ? &fs->pkt->link[i].engine : &fs->pkt->link[i].nicio;
  l->out_desc = nicio ? rx : tx;
  l->in_desc = nicio ? tx : rx;
  l->out_done = nicio ? tx_done : rx_done;
  l->in_done = nicio ? rx_done : tx_done;
  l->out_desc_cap = l->in_done_cap = (uint32_t)(nicio ? g->n_rx : g->n_tx_desc);
  l->in_desc_cap = l->out_done_cap = (uint32_t)(nicio ? g->n_tx_desc : g->n_rx);
  frame_link_reset(l);
  return 0;
}

enum frame_change frame_link_poll(struct frame_link *l) {
  uint32_t epoch = __atomic_load_n(&l->peer->epoch, __ATOMIC_ACQUIRE);
  if (HS_UNLIKELY(epoch != l->peer_epoch)) {
    if (epoch == 0)
      return FRAME_SAME; /* never started; an acknowledged peer can't go back to that */
    if (epoch != l->peer_new) {
      l->up = 0;
      l->peer_new = epoch;
      l->tag = l->side == FRAME_NICIO ? abi_link_tag(l->epoch, epoch) : abi_link_tag(epoch, l->epoch);
      frame_link_zero(l);
    }
    return FRAME_PEER_NEW;
  }
  if (HS_UNLIKELY(!l->up) && epoch != 0 && __atomic_load_n(&l->peer->seen, __ATOMIC_ACQUIRE) == l->epoch) {
    l->up = 1;
    return FRAME_CAME_UP;
  }
  return FRAME_SAME;
}

void frame_link_ack(struct frame_link *l) {
  if (l->peer_new == 0)
    return;
  FAULT_POINT("frame.ack");
  l->peer_epoch = l->peer_new;
  __atomic_store_n(&l->mine->seen, l->peer_epoch, __ATOMIC_RELEASE);
  FAULT_POINT("frame.seen");
  shm_fence();
}

/** Whether the peer restarted: asked after its positions and entries were loaded, it tells whether to believe them. */
static inline int frame_peer_gone(const struct frame_link *l) {
  shm_fence_load();
  return __atomic_load_n(&l->peer->epoch, __ATOMIC_ACQUIRE) != l->peer_epoch;
}

uint32_t frame_room(const struct frame_link *l) {
  uint32_t head = 0;
  if (l->up)
    head = __atomic_load_n(&l->peer->desc_head, __ATOMIC_ACQUIRE);
  else if (l->peer_new == 0 || l->side == FRAME_ENGINE)
    return 0;
  uint32_t filled = l->out_desc_tail - head;
  return filled > l->out_desc_cap ? 0 : l->out_desc_cap - filled;
}

/* Entries move as 8-byte words: a peer that reset its side may write over one while it is copied here, which the look
 * at its epoch afterwards finds out. */
_Static_assert(sizeof(struct abi_frame_desc) == 4 * sizeof(uint64_t), "four words");

static inline void frame_desc_store(struct abi_frame_desc *to, const struct abi_frame_desc *d) {
  uint64_t w[4];
  uint64_t *p = (uint64_t *)(void *)to;
  memcpy(w, d, sizeof w);
  for (int i = 0; i < 4; i++)
    __atomic_store_n(&p[i], w[i], __ATOMIC_RELAXED);
}

static inline void frame_desc_load(struct abi_frame_desc *d, const struct abi_frame_desc *from) {
  uint64_t w[4];
  const uint64_t *p = (const uint64_t *)(const void *)from;
  for (int i = 0; i < 4; i++)
    w[i] = __atomic_load_n(&p[i], __ATOMIC_RELAXED);
  memcpy(d, w, sizeof w);
}

void frame_push(struct frame_link *l, const struct abi_frame_desc *d, uint32_t n) {
  uint32_t mask = l->out_desc_cap - 1;
  for (uint32_t i = 0; i < n; i++) {
    struct abi_frame_desc e = d[i];
    e.tag = l->tag;
    frame_desc_store(&l->out_desc[l->out_desc_tail++ & mask], &e);
  }
}

void frame_done_push(struct frame_link *l, uint32_t slot) {
  struct abi_frame_done e = {.slot = slot, .tag = l->tag};
  uint64_t w;
  memcpy(&w, &e, sizeof w);
  uint64_t *to = (uint64_t *)(void *)&l->out_done[l->out_done_tail++ & (l->out_done_cap - 1)];
  __atomic_store_n(to, w, __ATOMIC_RELAXED);
}

int frame_flush(struct frame_link *l) {
  int descs = l->out_desc_tail != l->shown_desc;
  int dones = l->out_done_tail != l->shown_done;
  if (!descs && !dones)
    return 0;
  if (dones) {
    FAULT_POINT("frame.done");
    __atomic_store_n(&l->mine->done_tail, l->out_done_tail, __ATOMIC_RELEASE);
    l->shown_done = l->out_done_tail;
  }
  if (descs) {
    FAULT_POINT("frame.desc");
    __atomic_store_n(&l->mine->desc_tail, l->out_desc_tail, __ATOMIC_RELEASE);
    l->shown_desc = l->out_desc_tail;
  }
  FAULT_POINT("frame.flush");
  shm_fence();
  uint32_t armed = __atomic_load_n(&l->peer->armed, __ATOMIC_RELAXED);
  return armed == FRAME_ARMED_ALL || (armed != 0 && descs);
}

/** What one look at the in ring found. */
struct frame_burst {
  uint32_t n;       /* copied */
  uint32_t whole_n; /* of them, up to the end of the last whole frame … */
  uint32_t whole;   /* … and the ring position behind that */
};

/** Copies entries of the current tag from [in_desc_head, tail) until n are there. */
static struct frame_burst frame_copy(const struct frame_link *l, uint32_t tail, struct abi_frame_desc *d, uint32_t n) {
  struct frame_burst b = {.whole = l->in_desc_head};
  uint32_t mask = l->in_desc_cap - 1;
  uint32_t pos = l->in_desc_head;
  while (pos != tail && b.n < n) {
    frame_desc_load(&d[b.n], &l->in_desc[pos++ & mask]);
    if (HS_LIKELY(d[b.n].tag == l->tag) && (d[b.n++].flags & ABI_FR_CHAIN) != 0)
      continue;
    if (b.n != 0 && (d[b.n - 1].flags & ABI_FR_CHAIN) != 0)
      continue; /* a foreign entry inside a chain */
    b.whole = pos;
    b.whole_n = b.n;
  }
  if (b.whole_n == 0 && (b.n == n || pos - l->in_desc_head == l->in_desc_cap)) {
    b.whole = pos; /* a chain longer than n, or than the ring: it is given in parts */
    b.whole_n = b.n;
  }
  return b;
}

int frame_take(struct frame_link *l, struct abi_frame_desc *d, uint32_t n) {
  if (HS_UNLIKELY(!l->up))
    return 0;
  uint32_t tail = __atomic_load_n(&l->peer->desc_tail, __ATOMIC_ACQUIRE);
  uint32_t filled = tail - l->in_desc_head;
  if (filled == 0 || n == 0)
    return 0;
  if (HS_UNLIKELY(filled > l->in_desc_cap))
    return frame_peer_gone(l) ? 0 : -EPROTO;
  struct frame_burst b = frame_copy(l, tail, d, n);
  if (b.whole == l->in_desc_head || HS_UNLIKELY(frame_peer_gone(l)))
    return 0; /* a restart: poll will say so, and nothing of the predecessor is worth taking */
  l->in_desc_head = b.whole;
  FAULT_POINT("frame.desc_head");
  __atomic_store_n(&l->mine->desc_head, l->in_desc_head, __ATOMIC_RELEASE);
  return (int)b.whole_n;
}

int frame_done_take(struct frame_link *l, uint32_t *slots, uint32_t n) {
  if (HS_UNLIKELY(!l->up))
    return 0;
  uint32_t tail = __atomic_load_n(&l->peer->done_tail, __ATOMIC_ACQUIRE);
  uint32_t filled = tail - l->in_done_head;
  uint32_t mask = l->in_done_cap - 1;
  uint32_t head = l->in_done_head;
  uint32_t got = 0;
  if (filled == 0 || n == 0)
    return 0;
  if (HS_UNLIKELY(filled > l->in_done_cap))
    return frame_peer_gone(l) ? 0 : -EPROTO;
  while (head != tail && got < n) {
    struct abi_frame_done e;
    uint64_t w = __atomic_load_n((const uint64_t *)(const void *)&l->in_done[head++ & mask], __ATOMIC_RELAXED);
    memcpy(&e, &w, sizeof e);
    if (HS_LIKELY(e.tag == l->tag))
      slots[got++] = e.slot;
  }
  if (HS_UNLIKELY(frame_peer_gone(l)))
    return 0;
  l->in_done_head = head;
  FAULT_POINT("frame.done_head");
  __atomic_store_n(&l->mine->done_head, l->in_done_head, __ATOMIC_RELEASE);
  return (int)got;
}

/** Whether a loop turn would find something: entries, or a change of epoch or acknowledgement. */
static int frame_link_busy(const struct frame_link *l) {
  if (__atomic_load_n(&l->peer->epoch, __ATOMIC_ACQUIRE) != l->peer_epoch)
    return 1;
  if (!l->up)
    return l->peer_epoch != 0 && __atomic_load_n(&l->peer->seen, __ATOMIC_ACQUIRE) == l->epoch;
  return __atomic_load_n(&l->peer->desc_tail, __ATOMIC_ACQUIRE) != l->in_desc_head ||
         __atomic_load_n(&l->peer->done_tail, __ATOMIC_ACQUIRE) != l->in_done_head;
}

static int frame_arm_as(struct frame_link *l, uint32_t how) {
  __atomic_store_n(&l->mine->armed, how, __ATOMIC_RELAXED);
  shm_fence();
  return !frame_link_busy(l);
}

int frame_arm(struct frame_link *l) {
  return frame_arm_as(l, FRAME_ARMED_DESC);
}

int frame_arm_slots(struct frame_link *l) {
  return frame_arm_as(l, FRAME_ARMED_ALL);
}

void frame_disarm(struct frame_link *l) {
  __atomic_store_n(&l->mine->armed, 0u, __ATOMIC_RELAXED);
}
