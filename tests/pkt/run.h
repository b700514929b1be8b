/*
 * One case while it runs: what is known of its connections, and the steps that its lines are made of. For run.c and
 * the files that carry out a kind of line each: send.c, expect.c, app.c, state.c. One thread; a step that fails leaves
 * the case by run_fail, which does not return.
 */
#ifndef HS_PKT_RUN_H
#define HS_PKT_RUN_H

#include "pkt.h"

#include <setjmp.h>

#define PEER_ISN       0xfffff000u /* wraps within the first 4 KB */
#define ENGINE_AT_ONCE 2000u       /* µs */
#define LINUX_AT_ONCE  30000u

#define SENT 64u

struct conn {
  int known; /* dut_isn */
  uint32_t dut_isn;
  uint16_t dut_port;
  uint8_t dut_ws;
  int dut_ts, peer_ts;
  uint32_t ts_last, ts_mark;
  struct {
    uint32_t end, ts;
  } sent[SENT]; /* the last segments with data: where each ended, its timestamp */
  unsigned n_sent;
  uint32_t dut_mss;
  uint32_t written, was_read; /* stream positions of the app */
};

struct run {
  const struct pkt_case *c;
  const struct pkt_dut *d;
  struct pkt_addr a;
  struct conn conn[PKT_CONNS];
  uint32_t tsval;
  unsigned n_cookie; /* the last Fast Open cookie that was given out */
  uint8_t cookie[16];
  uint64_t last; /* when the last line was done */
  const struct pkt_line *line;
  int trace;
  char *msg;
  unsigned room;
  jmp_buf out;
};

/* run.c */

/** Ends the case: the line, the device, and why. */
_Noreturn void run_fail(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** rc as the device's functions return it: fails below 0. */
void run_must(struct run *r, int rc, const char *what);
/** The segment as a case would write it; in a buffer of its own. */
const char *run_text(const struct run *r, const struct pkt_wire *w, unsigned conn);
/** A line of the trace, if one is wanted. */
void run_tell(const struct run *r, const char *dir, const char *text);
/** The next segment of this case's connections, until `until` (µs). 1 = there is one; *conn says whose. */
int run_take(struct run *r, struct pkt_wire *w, unsigned *conn, uint64_t until);
/** Nothing may be sent until then. */
void run_quiet(struct run *r, uint64_t until);
/** The next line's time counts from now. */
void run_done(struct run *r);

/* send.c */
void send_line(struct run *r, const struct pkt_line *l);
void send_icmp(struct run *r, const struct pkt_line *l);

/* expect.c */
void expect_line(struct run *r, const struct pkt_line *l);
/** Time passes, and whatever is sent meanwhile is not looked at. */
void expect_skip(struct run *r, const struct pkt_line *l);

/* app.c */
void app_line(struct run *r, const struct pkt_line *l);

/* state.c */
void state_check(struct run *r, const char *name, unsigned conn);
/** `to STATE`: the segments and calls that lead there. */
void state_reach(struct run *r, const struct pkt_line *l);

#endif
