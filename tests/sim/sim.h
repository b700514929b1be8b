/*
 * Simulator: two hosts, each a tcp_env with one connection over plain-memory fifos, joined by a seeded path with delay,
 * jitter (which reorders), loss, duplication, corruption, a rate and a virtual clock. Segments are serialised by the
 * wire room with real checksums in both address families, so that a corrupted one is found as on a real host. An app on
 * each side writes a known stream, reads and compares the other's, shuts down and closes.
 *
 * Engine crashes: the soft half and the env are thrown away between two calls, or inside one at any FAULT_POINT, and
 * the connection is adopted from its durable half and the fifo cursors. Test programs in this folder use it; one
 * thread.
 */
#ifndef HS_TESTS_SIM_H
#define HS_TESTS_SIM_H

#include "base/rng.h"
#include "tcp_conn.h"
#include "wire/addr.h"

#include <setjmp.h>

#define SIM_FIFO_MAX (1u << 19)

/** One case. Chances in ppm, times in µs. */
struct sim_case {
  uint64_t seed;
  uint8_t family; /* 4 or 6 */
  uint8_t gro;    /* bursts stay whole on the path (as AF_PACKET with vnet headers) instead of being cut */
  uint8_t no_sack, no_ts, no_wscale;
  uint8_t newreno; /* instead of the default, cubic */
  const char *cc;  /* or any other by its name; NULL = none */
  uint8_t no_pacing;
  uint8_t ecn;         /* enum tcp_ecn of both hosts */
  uint32_t mark_ce;    /* chance that a packet that may be marked is */
  uint32_t mark_queue; /* with rate: packets that find more bytes than this in the queue are marked; 0 = none */
  uint8_t close_first; /* 0 = both at their end, 1 = the client closes as soon as all is read, … 2 = simultaneously */
  uint32_t delack;     /* µs by which an ACK may be delayed; 0 = the default */
  uint8_t patient;     /* apps close only when their FIN is acknowledged: an orphan gives up after eight retries */
  uint8_t simultaneous_open;
  uint8_t parked;     /* the server's app takes offers only after a while */
  uint32_t bytes[2];  /* client → server, server → client */
  uint32_t fifo[2];   /* rx and tx fifo size of each side */
  uint32_t write_max; /* largest single write; 1 = byte by byte */
  uint32_t read_max;
  uint32_t delay, jitter;
  uint32_t loss, dup, corrupt;
  uint32_t burst;       /* mean number of packets that a loss takes (Gilbert), 20 ms at most; 0 = each on its own */
  uint8_t data_only;    /* what is lost goes from client to server */
  uint32_t lose_every;  /* each n-th packet with data from client to server is lost; 0 = none */
  uint32_t lose_at;     /* the n-th of them alone is; 0 = none */
  uint32_t mark;        /* the server notes when it has read so much */
  uint32_t rate;        /* bytes per ms and direction, 0 = no limit */
  uint32_t queue;       /* bytes that the bottleneck holds when rate is set */
  uint32_t blocked;     /* chance that ops->send has no frame */
  uint32_t no_chunk;    /* chance that rx_place places fewer bytes */
  uint32_t slow_app;    /* chance per look that the reader does not read */
  uint32_t crash;       /* chance per event that an engine dies between two calls */
  uint32_t crash_in;    /* an engine dies inside, at about every n-th fault point */
  const char *crash_at; /* … only at this one */
  uint32_t down;        /* time that a dead engine stays away */
  uint32_t lose_ooo;    /* chance that the successor drops the out-of-order ranges (SACK reneging) */
  uint32_t mtu;         /* 0 = 1500 */
  uint32_t late;        /* chance that a packet is overtaken: it takes late_by longer */
  uint32_t late_by;
  uint8_t no_logs;   /* the env has no memory for what is out (tcp_env_memory) */
  uint32_t urgent;   /* chance that a write's last byte is urgent */
  uint32_t abort_at; /* the client aborts when it has read so much; 0 = never */
};

/** Plain-memory fifo; positions run free. head and tail are what would lie in shared memory. */
struct sim_fifo {
  uint8_t *mem;
  uint32_t size; /* power of two */
  uint32_t head, tail;
};

struct sim;

struct sim_host {
  struct sim *sim;
  int id;
  /* survives a crash */
  struct abi_tcb tcb;
  struct sim_fifo tx, rx;
  uint64_t written, read;   /* by the app */
  uint32_t tx_urg, urg_pos; /* behind the last urgent byte that was written, that was told of; 0 = none */
  usec_t read_all_at;       /* when the last byte was read */
  usec_t mark_at;           /* when sim_case.mark bytes were */
  int want_shut, want_close, want_abort, saw_eof, listening, takes_offers;
  int ended; /* the transport is gone */
  uint32_t end_error;
  /* dies with the engine */
  struct tcp_env env;
  struct tcp_conn *conn; /* NULL: none, or down */
  uint64_t logs[4 * TCP_LOG_SIZE / 8];
  uint64_t busy[8 * TCP_BUSY_SIZE / 8];
  uint64_t counters[TCP_N_COUNTERS];
  uint64_t totals[TCP_N_COUNTERS]; /* over all lives */
  usec_t timer_at;
  int touched, starved, closed_event;
  int calls; /* nested calls into the engine: 0 or 1 */
  /* the simulator's */
  int down;
  usec_t up_at;
  uint32_t crashes;
};

struct sim_pkt {
  usec_t at;
  uint64_t order;
  int to;
  uint32_t len, gso;
  uint8_t *bytes;
};

struct sim {
  struct sim_case cfg;
  struct rng rng;
  usec_t now;
  uint64_t order, steps;
  struct sim_host host[2]; /* 0 connects, 1 listens */
  struct sim_pkt *heap;
  uint32_t n_heap, heap_room;
  usec_t line_own[2], *line_free; /* when each direction's line is free: line_own, or one shared with other sims */
  usec_t queue_max;               /* longest wait for the line from client to server, µs */
  uint64_t marked;
  usec_t bad[2]; /* direction in a burst of losses since then; 0 = not */
  struct ip_addr addr[2];
  jmp_buf crashed;
  int victim;
  char crash_name[64];
  char fault[256]; /* what went wrong; empty = nothing */
  uint64_t lost, delivered, corrupted_dropped;
  uint64_t client_data; /* packets with data that the client sent */
};

/** Run a case to its end. 0, or -1 with sim->fault filled. The caller owns *s and calls sim_fini. */
int sim_run(struct sim *s, const struct sim_case *cfg);
/** The same in steps, so that several can share a line (s->line_free): begin; then as long as sim_step returns 1, the
 * sim with the earliest sim_next is stepped. sim_step: 0 = at its end, -1 = fault. Cases with crash_in run alone. */
int sim_begin(struct sim *s, const struct sim_case *cfg, usec_t *line);
usec_t sim_next(const struct sim *s);
int sim_step(struct sim *s);
void sim_fini(struct sim *s);

/** Byte `pos` of the stream that host `from` sends. */
static inline uint8_t sim_byte(uint64_t seed, int from, uint64_t pos) {
  uint64_t x = (pos >> 3) + seed * 2 + (uint64_t)from + 1;
  x *= 0x9e3779b97f4a7c15ull;
  x ^= x >> 29;
  return (uint8_t)(x >> ((pos & 7) * 8));
}

/* sim_path.c */
int sim_path_send(struct sim *s, int from, const struct tcp_seg_out *out);
int sim_path_due(const struct sim *s, usec_t now);
usec_t sim_path_next(const struct sim *s);
void sim_path_deliver(struct sim *s);
void sim_path_fini(struct sim *s);

/* sim_host.c */
int sim_host_init(struct sim *s, int id);
void sim_host_fini(struct sim_host *h);
void sim_host_input(struct sim *s, int id, const struct tcp_seg_in *seg);
void sim_host_output(struct sim *s, int id);
void sim_host_timer(struct sim *s, int id);
void sim_host_connect(struct sim *s, int id);
void sim_host_crash(struct sim *s, int id);
void sim_host_adopt(struct sim *s, int id);
void sim_host_app(struct sim *s, int id);
void sim_host_check(struct sim *s, int id);
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** Fills out a fifo's bytes from its head. */
void sim_fifo_peek(const struct sim_fifo *f, uint32_t off, void *dst, uint32_t len);

#endif
