/*
 * The data loop (lcore.h). The lcore thread, but for init, start, stop and command.
 */
#include "lcore.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"
#include "rss.h"
#include "shm/bell.h"
#include "shm/fence.h"

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define LCORE_BEAT_US      1000u    /* heartbeat and counters */
#define LCORE_RETRY_US     200u     /* a full device that can't wake us is looked at again */
#define LCORE_LATE_NS      50000000 /* how long a bell may be under way on a busy machine */
#define LCORE_COMMAND_MS   2000u
#define LCORE_COMMAND_STEP 50000 /* ns between looks of the control thread at its command */

static void lcore_purge(void *ctx, uint32_t link) {
  struct lcore *lc = ctx;

  for (uint32_t i = 0; i < lc->n_ports; i++)
    txq_purge(&lc->txq[i], link);
}

int lcore_init(struct lcore *lc, const struct frame_seg *fs, struct regions *rg, uint32_t n_eth) {
  memset(lc, 0, sizeof *lc);
  lc->fs = fs;
  lc->regions = rg;
  lc->bell_in = lc->epfd = -1;
  for (uint32_t i = 0; i < ABI_LINKS_MAX; i++)
    lc->bell_out[i] = -1;
  lc->cpu = -1;
  lc->stat = lc->stat_private;
  uint32_t n_rx = (uint32_t)fs->geom.n_rx;
  lc->stack = calloc(n_rx, sizeof *lc->stack);
  lc->book = calloc(n_rx, sizeof *lc->book);
  if (lc->stack == NULL || lc->book == NULL)
    return -ENOMEM;
  slots_init(&lc->slots, lc->stack, n_rx, n_eth);
  return link_open(&lc->links, fs, &lc->slots, lc->book, lcore_purge, lc);
}

/* --- TX --- */

static void lcore_tx_home(struct lcore *lc, uint32_t link, const struct abi_frame_desc *d, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (!(d[i].flags & ABI_FR_NO_SLOT) && d[i].slot < lc->fs->geom.n_tx)
      link_tx_done(&lc->links, link, d[i].slot);
}

/** One frame from the engine: check, queue. */
static void lcore_tx_frame(struct lcore *lc, uint32_t link, const struct abi_frame_desc *d, uint32_t n) {
  struct port *p = d[0].port < lc->n_ports ? &lc->port[d[0].port] : NULL;

  if (p == NULL || txq_check(d, n, lc->fs) < 0)
    port_count(p != NULL ? p : &lc->port[0], ABI_PC_TX_BAD_DESC, 1);
  else if (!__atomic_load_n(&p->up, __ATOMIC_RELAXED))
    port_count(p, ABI_PC_TX_DROP_DOWN, 1);
  else {
    txq_push(&lc->txq[p->index], link, d, n);
    return;
  }
  lcore_tx_home(lc, link, d, n);
}

/** Descriptors of one link to the port queues, as far as every queue has room. */
static uint32_t lcore_take(struct lcore *lc, uint32_t link) {
  uint32_t room = ARRAY_LEN(lc->tx);

  for (uint32_t i = 0; i < lc->n_ports; i++)
    room = HS_MIN(room, txq_room(&lc->txq[i]));
  if (room < PKT_IOV_MAX || lc->n_ports == 0)
    return 0;
  uint32_t got = link_tx_take(&lc->links, link, lc->tx, room);
  for (uint32_t at = 0; at < got;) {
    uint32_t n = txq_pieces(&lc->tx[at], got - at);
    lcore_tx_frame(lc, link, &lc->tx[at], n);
    at += n;
  }
  return got;
}

static void lcore_capture(struct lcore *lc, uint32_t port, uint32_t dir, const struct pkt *pk) {
  if (HS_UNLIKELY(lc->capture[port] != NULL))
    capture_put(lc->capture[port], pk, port, dir, lc->snaplen[port], clock_wall_us());
}

/** Offer frames to the device, or to the impairment before it. Returns frames done with. */
static uint32_t lcore_send(struct lcore *lc, struct port *p, uint32_t n) {
  struct impair *im = lc->impair_tx[p->index];
  uint32_t done = 0;

  while (done < n) {
    uint32_t good = 0;
    while (done + good < n && lc->pkt[done + good].len > 0)
      good++;
    uint32_t sent = 0;
    if (im != NULL) {
      for (; sent < good; sent++)
        port_count(p, ABI_PC_IMPAIR_DROP, impair_put(im, &lc->pkt[done + sent], lc->now));
    } else if (good > 0) {
      sent = p->ops->tx_burst(p, &lc->pkt[done], good);
    }
    for (uint32_t i = 0; i < sent; i++)
      lcore_capture(lc, p->index, CAPTURE_OUT, &lc->pkt[done + i]);
    done += sent;
    if (sent < good)
      break;
    if (done < n) { /* a frame whose segment went away */
      port_count(p, ABI_PC_TX_BAD_DESC, 1);
      lc->stat[LCORE_STAT_NO_REGION]++;
      done++;
    }
  }
  return done;
}

/** What impairment held back and is due. */
static uint32_t lcore_tx_due(struct lcore *lc, struct port *p) {
  struct impair *im = lc->impair_tx[p->index];
  uint32_t n = 0;

  while (n < TXQ_BURST && impair_peek(im, &lc->pkt[0], lc->now)) {
    lc->pkt[0].flags = 0;
    if (p->ops->tx_burst(p, lc->pkt, 1) == 0)
      break;
    impair_pop(im);
    n++;
  }
  return n;
}

/** The link went down with frames waiting: they are dropped, so that other ports' frames are not held up behind them.
 */
static uint32_t lcore_tx_down(struct lcore *lc, struct port *p) {
  struct txq *q = &lc->txq[p->index];
  uint32_t n = 0;

  p->tx_full = p->tx_no_wake = 0;
  for (; !txq_empty(q); n++)
    txq_pop(q, &lc->links, 1);
  if (n > 0)
    port_count(p, ABI_PC_TX_DROP_DOWN, n);
  return n;
}

static uint32_t lcore_tx(struct lcore *lc, struct port *p) {
  struct txq *q = &lc->txq[p->index];
  uint32_t work = 0;

  if (HS_UNLIKELY(!__atomic_load_n(&p->up, __ATOMIC_RELAXED)))
    return lcore_tx_down(lc, p);
  if (lc->impair_tx[p->index] != NULL)
    work += lcore_tx_due(lc, p);
  for (uint32_t round = 0; round < 4 && !txq_empty(q); round++) {
    uint32_t n = txq_peek(q, lc->fs, lc->regions, lc->pkt, TXQ_BURST);
    uint32_t done = lcore_send(lc, p, n);
    txq_pop(q, &lc->links, done);
    work += done;
    if (done < n)
      break;
  }
  return work;
}

/* --- RX --- */

/** View of a received frame for the stages. */
static void lcore_view(const struct lcore *lc, const struct abi_frame_desc *d, uint32_t n, struct pkt *pk) {
  memset(pk, 0, offsetof(struct pkt, iov));
  pk->flags = d->flags;
  pk->gso_size = d->gso_size;
  pk->csum_start = d->csum_start;
  pk->csum_off = d->csum_off;
  pk->port = d->port;
  for (uint32_t i = 0; i < n && i < PKT_IOV_MAX; i++) {
    pk->iov[i] = (struct iovec){.iov_base = lc->fs->seg->base + d[i].off, .iov_len = d[i].len};
    pk->len += d[i].len;
    pk->n++;
  }
}

static void lcore_lend(struct lcore *lc, const struct abi_frame_desc *d, uint32_t n) {
  uint32_t link = rss_link(lc->fs->seg->base + d->off, d->len, lc->links.n);

  link_rx_lend(&lc->links, link, d, n);
}

/** Frames of one burst: capture, impairment, lend. */
static void lcore_rx_frames(struct lcore *lc, struct port *p, uint32_t descs) {
  struct impair *im = lc->impair_rx[p->index];
  struct pkt *pk = &lc->pkt[0];

  for (uint32_t at = 0; at < descs;) {
    const struct abi_frame_desc *d = &lc->rx[at];
    uint32_t n = txq_pieces(d, descs - at);
    at += n;
    if (HS_LIKELY(im == NULL && lc->capture[p->index] == NULL)) {
      lcore_lend(lc, d, n);
      continue;
    }
    lcore_view(lc, d, n, pk);
    lcore_capture(lc, p->index, CAPTURE_IN, pk);
    if (im == NULL) {
      lcore_lend(lc, d, n);
      continue;
    }
    port_count(p, ABI_PC_IMPAIR_DROP, impair_put(im, pk, lc->now));
    for (uint32_t i = 0; i < n; i++)
      slots_put(&lc->slots, d[i].slot);
  }
}

/** A packet that impairment lets go: into RX slots of its own. Returns 0 when there are none. */
static int lcore_rx_copy(struct lcore *lc, struct port *p, const struct pkt *pk) {
  struct abi_frame_desc d[PKT_LEN_MAX / (ABI_SLOT_SIZE - ABI_SLOT_HEAD) + 1];
  const uint32_t room = ABI_SLOT_SIZE - ABI_SLOT_HEAD;
  uint32_t n = (pk->len + room - 1) / room;

  if (lc->slots.n_free < n)
    return 0;
  memset(d, 0, n * sizeof d[0]);
  for (uint32_t i = 0; i < n; i++) {
    d[i].slot = slots_get(&lc->slots);
    d[i].off = frame_rx_off(lc->fs, d[i].slot) + ABI_SLOT_HEAD;
    d[i].len = HS_MIN(pk->len - i * room, room);
    d[i].port = p->index;
    d[i].flags = i + 1 < n ? ABI_FR_CHAIN : 0;
    memcpy(lc->fs->seg->base + d[i].off, (const uint8_t *)pk->iov[0].iov_base + i * room, d[i].len);
  }
  d[0].flags |= pk->flags & ABI_FR_CSUM_OK;
  lcore_lend(lc, d, n);
  return 1;
}

static uint32_t lcore_rx(struct lcore *lc, struct port *p) {
  struct impair *im = lc->impair_rx[p->index];
  uint32_t work = 0;

  while (im != NULL && work < PORT_RX_FRAMES && impair_peek(im, &lc->pkt[0], lc->now)) {
    if (!lcore_rx_copy(lc, p, &lc->pkt[0])) {
      p->rx_starved = 1;
      break;
    }
    impair_pop(im);
    work++;
  }
  uint32_t descs = p->ops->rx_burst(p, lc->rx, PORT_RX_DESCS);
  lcore_rx_frames(lc, p, descs);
  return work + descs;
}

/* --- commands and counters --- */

static void lcore_obey(struct lcore *lc) {
  const struct lcore_cmd *c = &lc->cmd;

  switch (c->kind) {
  case LCORE_RESET_RINGS:
    link_reset(&lc->links);
    break;
  case LCORE_IMPAIR_RX:
    lc->impair_rx[c->port] = c->impair;
    break;
  case LCORE_IMPAIR_TX:
    lc->impair_tx[c->port] = c->impair;
    break;
  case LCORE_CAPTURE:
    lc->snaplen[c->port] = c->snaplen;
    lc->capture[c->port] = c->capture;
    break;
  }
  __atomic_store_n(&lc->pending, 0, __ATOMIC_RELEASE);
}

int lcore_command(struct lcore *lc, const struct lcore_cmd *cmd) {
  const struct timespec step = {.tv_nsec = LCORE_COMMAND_STEP};
  usec_t end = clock_now_us() + LCORE_COMMAND_MS * 1000u;

  if (lc->pending)
    return -EBUSY; /* an earlier one timed out and still waits */
  lc->cmd = *cmd;
  __atomic_store_n(&lc->pending, 1, __ATOMIC_RELEASE);
  if (!lc->running) {
    lcore_obey(lc);
    return 0;
  }
  bell_ring_service(lc->bell_in);
  while (__atomic_load_n(&lc->pending, __ATOMIC_ACQUIRE)) {
    if (clock_now_us() > end)
      return -ETIMEDOUT;
    nanosleep(&step, NULL);
  }
  return 0;
}

/** Heartbeat and the counters of the stats page, once per millisecond. */
static void lcore_beat(struct lcore *lc) {
  uint64_t lost = 0;

  lc->beat_at = lc->now + LCORE_BEAT_US;
  link_heartbeat(&lc->links, lc->now);
  lc->stat[LCORE_STAT_SLEEPS] = lc->idle.sleeps;
  lc->stat[LCORE_STAT_YIELDS] = lc->idle.yields;
  lc->stat[LCORE_STAT_AGAIN] = lc->links.n_again;
  lc->stat[LCORE_STAT_BAD_DONE] = lc->links.n_bad_done;
  lc->stat[LCORE_STAT_SLOTS_FREE] = lc->slots.n_free;
  for (uint32_t i = 0; i < lc->n_ports; i++)
    lost += lc->capture[i] != NULL ? capture_lost(lc->capture[i]) : 0;
  lc->stat[LCORE_STAT_CAPTURE_LOST] = lost;
}

void lcore_ring(const struct lcore *lc, uint32_t mask) {
  for (uint32_t i = 0; mask != 0; i++, mask >>= 1)
    if (mask & 1u)
      (void)bell_ring_service(lc->bell_out[i]);
}

uint32_t lcore_turn(struct lcore *lc, usec_t now) {
  uint32_t work = 0;

  lc->now = now;
  if (now >= lc->beat_at)
    lcore_beat(lc);
  region_refresh(lc->regions);
  if (HS_UNLIKELY(__atomic_load_n(&lc->pending, __ATOMIC_ACQUIRE)) && lc->running) {
    lcore_obey(lc);
    work++;
  }
  work += link_turn(&lc->links);
  for (uint32_t i = 0; i < lc->links.n; i++)
    work += lcore_take(lc, i);
  int rx = link_rx_ready(&lc->links);
  for (uint32_t i = 0; i < lc->n_ports; i++) {
    struct port *p = &lc->port[i];
    work += lcore_tx(lc, p);
    p->rx_starved = 0;
    if (rx)
      work += lcore_rx(lc, p);
  }
  lcore_ring(lc, link_flush(&lc->links));
  lc->stat[LCORE_STAT_TURNS] += work > 0;
  return work;
}

/* --- sleep --- */

/** How long the loop may sleep, µs, and whether some port waits for slots. 0: not at all. */
static usec_t lcore_nap(const struct lcore *lc, int *starved) {
  usec_t nap = IDLE_CEILING_MS * 1000u;
  int rx = link_rx_ready(&lc->links);

  *starved = 0;
  for (uint32_t i = 0; i < lc->n_ports; i++) {
    const struct port *p = &lc->port[i];
    if (rx && !p->rx_empty)
      return 0;
    *starved |= p->rx_starved;
    if (p->tx_full || p->tx_no_wake)
      nap = HS_MIN(nap, (usec_t)LCORE_RETRY_US);
    if (p->poll_us > 0)
      nap = HS_MIN(nap, (usec_t)p->poll_us);
    for (int dir = 0; dir < 2; dir++) {
      const struct impair *im = dir ? lc->impair_tx[i] : lc->impair_rx[i];
      usec_t due = im != NULL ? impair_next(im) : UINT64_MAX;
      nap = due <= lc->now ? 0 : HS_MIN(nap, due - lc->now);
    }
  }
  return nap;
}

/** The sleep ended at its ceiling: 1 when work lies there whose bell does not ring. What came in this very moment, or
 * from a producer that was interrupted between its store and its ring, is given a while to ring yet. */
static int lcore_is_late(struct lcore *lc, int starved) {
  const struct timespec while_yet = {.tv_nsec = LCORE_LATE_NS}, at_once = {0};
  struct pollfd fds[ABI_PORTS_MAX * PORT_FDS_MAX];
  struct epoll_event ev[16];
  nfds_t n = 0;

  if (link_rx_ready(&lc->links) && !starved)
    for (uint32_t i = 0; i < lc->n_ports; i++)
      for (uint32_t f = 0; f < lc->port[i].n_fds; f++)
        fds[n++] = (struct pollfd){.fd = lc->port[i].fds[f], .events = POLLIN};
  if (!link_waiting(&lc->links, starved) && ppoll(fds, n, &at_once, NULL) <= 0)
    return 0;
  return epoll_pwait2(lc->epfd, ev, ARRAY_LEN(ev), &while_yet, NULL) == 0;
}

/** Arm, look again, sleep. Returns 1 when a bell was missed. */
static int lcore_sleep(struct lcore *lc) {
  struct epoll_event ev[16];
  int starved, ceiling = 0;
  usec_t nap = lcore_nap(lc, &starved);

  if (nap == 0)
    return 0;
  if (link_arm(&lc->links, starved) && !__atomic_load_n(&lc->pending, __ATOMIC_ACQUIRE) &&
      !__atomic_load_n(&lc->stop, __ATOMIC_ACQUIRE)) {
    struct timespec ts = {.tv_sec = (time_t)(nap / 1000000u), .tv_nsec = (long)(nap % 1000000u) * 1000};
    int n = epoll_pwait2(lc->epfd, ev, ARRAY_LEN(ev), &ts, NULL);
    ceiling = n == 0 && nap == IDLE_CEILING_MS * 1000u && lcore_is_late(lc, starved);
  }
  link_disarm(&lc->links);
  return ceiling;
}

static void *lcore_main(void *arg) {
  struct lcore *lc = arg;
  while (!__atomic_load_n(&lc->stop, __ATOMIC_ACQUIRE)) {
    usec_t now = clock_now_us();
    uint32_t work = lcore_turn(lc, now);
    switch (idle_next(&lc->idle, work, now)) {
    case IDLE_WORK:
      break;
    case IDLE_PAUSE:
      idle_pause();
      break;
    case IDLE_YIELD:
      (void)idle_yield(&lc->idle, now);
      break;
    case IDLE_SLEEP:
      if (HS_UNLIKELY(lcore_sleep(lc))) {
        lc->stat[LCORE_STAT_LATE]++;
        link_late(&lc->links);
      }
      break;
    }
  }
  return NULL;
}

static int lcore_epoll(struct lcore *lc) {
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET};

  lc->epfd = epoll_create1(EPOLL_CLOEXEC);
  if (lc->epfd < 0)
    return err_last();
  if (lc->bell_in >= 0 && epoll_ctl(lc->epfd, EPOLL_CTL_ADD, lc->bell_in, &ev) < 0)
    return err_last();
  for (uint32_t i = 0; i < lc->n_ports; i++) {
    ev.events = EPOLLIN | EPOLLOUT | EPOLLET;
    for (uint32_t f = 0; f < lc->port[i].n_fds; f++)
      if (epoll_ctl(lc->epfd, EPOLL_CTL_ADD, lc->port[i].fds[f], &ev) < 0)
        return err_last();
  }
  return 0;
}

static int lcore_pin(struct lcore *lc) {
  cpu_set_t set;

  if (lc->cpu < 0)
    return 0;
  CPU_ZERO(&set);
  CPU_SET((unsigned)lc->cpu, &set);
  return -pthread_setaffinity_np(lc->thread, sizeof set, &set);
}

int lcore_start(struct lcore *lc, struct port *ports, uint32_t n_ports, enum idle_mode mode, int cpu) {
  lc->port = ports;
  lc->n_ports = n_ports;
  lc->cpu = cpu;
  idle_init(&lc->idle, mode);
  lc->txq = calloc(n_ports + 1u, sizeof *lc->txq);
  if (lc->txq == NULL)
    return -ENOMEM;
  int rc = lcore_epoll(lc);
  if (rc < 0)
    return rc;
  lc->running = 1;
  rc = -pthread_create(&lc->thread, NULL, lcore_main, lc);
  if (rc < 0) {
    lc->running = 0;
    return rc;
  }
  (void)pthread_setname_np(lc->thread, "nicio-lcore");
  rc = lcore_pin(lc);
  if (rc < 0)
    log_warn("nicio.pin", "cpu %d: %s", cpu, err_text(rc));
  return 0;
}

void lcore_stop(struct lcore *lc) {
  if (!lc->running)
    return;
  __atomic_store_n(&lc->stop, 1, __ATOMIC_RELEASE);
  bell_ring_service(lc->bell_in);
  pthread_join(lc->thread, NULL);
  lc->running = 0;
}

void lcore_fini(struct lcore *lc) {
  for (uint32_t i = 0; i < ABI_PORTS_MAX; i++) {
    impair_free(lc->impair_rx[i]);
    impair_free(lc->impair_tx[i]);
  }
  free(lc->txq);
  free(lc->book);
  free(lc->stack);
  if (lc->epfd >= 0)
    close(lc->epfd);
  lc->epfd = -1;
}
