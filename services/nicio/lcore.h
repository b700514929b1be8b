/*
 * The lcore: the one thread that moves frames. Ports on one side, links to the engine on the other, and between them
 * the stages capture and impairment. Everything below struct lcore belongs to that thread while it runs; the control
 * thread reaches it by commands (a mailbox of one) and through the region table.
 *
 * A turn: epochs and slots that came home → descriptors from the engine to port queues → queues to devices → devices to
 * links → publish, ring at most once. Without work it polls, yields, then sleeps on the descriptors of the ports and
 * its bell (svc/idle.h, DATAPATH.md).
 */
#ifndef NICIO_LCORE_H
#define NICIO_LCORE_H

#include "capture.h"
#include "impair.h"
#include "link.h"
#include "port.h"
#include "region.h"
#include "svc/idle.h"
#include "txq.h"

#include <pthread.h>

/* Counters of the stats page: name, help. */
#define LCORE_STATS(X)                                                                                                 \
  X(TURNS, "nicio.turns", "turns of the data loop that found work")                                                    \
  X(SLEEPS, "nicio.sleeps", "times the data loop slept")                                                               \
  X(YIELDS, "nicio.yields", "times the data loop yielded the core")                                                    \
  X(LATE, "nicio.late_wakeup", "work found at the sleep ceiling, must be 0")                                           \
  X(AGAIN, "nicio.lent_again", "times frames were lent again to an engine")                                            \
  X(BAD_DONE, "nicio.bad_done", "slots returned that were not lent")                                                   \
  X(NO_REGION, "nicio.no_region", "frames dropped because their segment was gone")                                     \
  X(CAPTURE_LOST, "nicio.capture_lost", "frames that a capture missed")                                                \
  X(SLOTS_FREE, "nicio.slots_free", "RX slots in stock")
enum lcore_stat {
#define LCORE_STAT_ID(id, name, help) LCORE_STAT_##id,
  LCORE_STATS(LCORE_STAT_ID)
#undef LCORE_STAT_ID
      LCORE_STAT_N
};

enum lcore_cmd_kind { LCORE_RESET_RINGS = 1, LCORE_IMPAIR_RX, LCORE_IMPAIR_TX, LCORE_CAPTURE };

struct lcore_cmd {
  enum lcore_cmd_kind kind;
  uint32_t port;
  struct impair *impair;        /* NULL = off; the old one is the control thread's again afterwards */
  struct capture_ring *capture; /* NULL stops */
  uint32_t snaplen;
};

struct lcore {
  pthread_t thread;
  int running;
  int stop;    /* atomic */
  int pending; /* atomic: cmd waits */
  struct lcore_cmd cmd;
  int bell_in;                 /* eventfd: rung to wake us */
  int bell_out[ABI_LINKS_MAX]; /* rung by us to wake an engine worker; -1: it has none */
  int epfd;
  int cpu; /* -1 = not pinned */
  struct idle idle;
  struct links links;
  struct slots slots;
  uint32_t *stack;       /* memory of slots */
  struct lend_rec *book; /* memory of links */
  struct regions *regions;
  const struct frame_seg *fs;
  struct port *port;
  uint32_t n_ports;
  struct txq *txq;                                                    /* one per port */
  struct impair *impair_rx[ABI_PORTS_MAX], *impair_tx[ABI_PORTS_MAX]; /* NULL = off */
  struct capture_ring *capture[ABI_PORTS_MAX];
  uint32_t snaplen[ABI_PORTS_MAX];
  uint64_t *stat; /* stats page, or private memory */
  uint64_t stat_private[LCORE_STAT_N];
  usec_t now, beat_at;
  struct abi_frame_desc rx[PORT_RX_DESCS];
  struct abi_frame_desc tx[128];
  struct pkt pkt[TXQ_BURST];
};

/** Make everything but the thread; n_eth RX slots belong to an ethdev pool. 0 or -errno; lcore_fini is due either way.
 */
HS_MUST_CHECK int lcore_init(struct lcore *lc, const struct frame_seg *fs, struct regions *rg, uint32_t n_eth);
/** Give the ports (opened) and start the thread. 0 or -errno. */
HS_MUST_CHECK int lcore_start(struct lcore *lc, struct port *ports, uint32_t n_ports, enum idle_mode mode, int cpu);
/** Stop and join the thread. */
void lcore_stop(struct lcore *lc);
void lcore_fini(struct lcore *lc);
/** Control thread: hand a command over and wait until the lcore has done it. 0 or -ETIMEDOUT. Without a running thread
 * it is done at once. */
int lcore_command(struct lcore *lc, const struct lcore_cmd *cmd);
/** Wake the engine workers of these links. */
void lcore_ring(const struct lcore *lc, uint32_t mask);
/** One turn, for tests and the thread. Returns the work done. */
uint32_t lcore_turn(struct lcore *lc, usec_t now);

#endif
