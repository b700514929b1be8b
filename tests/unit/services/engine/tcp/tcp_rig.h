/*
 * Rig for the TCP core's unit tests, in the style "send this, expect exactly that, then nothing": one connection over
 * plain buffers, a list of what it sent, an explicit clock. Sequence numbers in calls are relative: the peer's to its
 * SYN (0), ours to ours (0), so the first data byte is 1 on both sides.
 */
#ifndef HS_TESTS_TCP_RIG_H
#define HS_TESTS_TCP_RIG_H

#include "tcp_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define RIG_BUF  (1u << 20)
#define RIG_SENT 256u
#define RIG_PEER 0xfffff000u /* the peer's ISN: wraps within the first 4 KB */
#define RIG_MS   1000ull
#define RIG_S    1000000ull
#define RIG_MSS  1460u
#define RIG_WND  60000u

struct rig {
  struct tcp_env env;
  struct tcp_conn conn;
  struct abi_tcb d;
  uint64_t counters[TCP_N_COUNTERS];
  uint64_t logs[2 * TCP_LOG_SIZE / 8];
  uint64_t busy[64 * TCP_BUSY_SIZE / 8];
  uint8_t rx[RIG_BUF];
  uint32_t rx_head, rx_tail, rx_limit;
  uint32_t tx_head, tx_tail;
  uint32_t place_max; /* rx_place places at most so much; UINT32_MAX = all */
  int send_rc, offers;
  uint32_t gso;
  struct tcp_seg_out sent[RIG_SENT];
  uint32_t n_sent, seen;
  uint32_t events; /* bits 1 << enum tcp_event, since the last rig_events */
  int closed;
  usec_t now, timer_at;
  /* of the peer */
  uint16_t wnd;
  uint32_t ts_val; /* 0: no timestamps */
  struct tcp_sack sack[4];
  uint32_t n_sack;
};

/** A rig with default configuration, delayed ACK at once off (quickack as shipped). No timestamps, no scaling, SACK as
 * asked by the rig_opts of the open. */
void rig_init(struct rig *r);

/* What the peer's SYN or SYN-ACK offers. */
#define RIG_SACK 1u
#define RIG_TS   2u
#define RIG_WS   4u /* shift 7 */

/** SYN → SYN-ACK → ACK. Leaves an ESTABLISHED connection with nothing unseen. */
void rig_passive(struct rig *r, unsigned opts);
/** rig_passive without Nagle's algorithm, events forgotten. */
void rig_start(struct rig *r, unsigned opts);
/** rig_passive with a large window and ten full segments out, looked at. */
void rig_ten_out(struct rig *r, unsigned opts);
/** SYN ← SYN-ACK ← ACK. */
void rig_active(struct rig *r, unsigned opts);
/** Passive, and on to the state asked for, nothing unseen. */
void rig_to(struct rig *r, uint32_t state);
/** Drop the soft half and adopt. */
int rig_adopt(struct rig *r);

/** A segment from the peer, then tcp_output as after a burst. seq relative to the peer's ISN, ack to ours. */
void rig_in(struct rig *r, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len);
/** The same without tcp_output. */
void rig_in_raw(struct rig *r, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len, uint32_t segs);
/** The first byte of the n-th full segment, from 0. */
uint32_t rig_at(const struct rig *r, uint32_t n);
/** The next segment from the peer has one SACK block more: of these full segments, without the last. */
void rig_sack(struct rig *r, uint32_t first, uint32_t last);
void rig_syn_in(struct rig *r, unsigned flags, uint32_t ack, unsigned opts);
/** The app writes so many bytes; tcp_output. */
void rig_write(struct rig *r, uint32_t len);
/** The app reads so many bytes; tcp_rx_consumed. */
void rig_read(struct rig *r, uint32_t len);
/** Let time pass; timers run when they are due. */
void rig_pass(struct rig *r, usec_t us);
void rig_shutdown(struct rig *r);
void rig_close(struct rig *r);
/** Events since the last call, as bits. */
uint32_t rig_events(struct rig *r);
/** Forget what was sent and not looked at. */
void rig_skip(struct rig *r);
/** Count of unseen segments. */
uint32_t rig_unseen(const struct rig *r);

void rig_expect_at(struct rig *r, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len, const char *file, int line);
void rig_nothing_at(struct rig *r, const char *file, int line);
void rig_state_at(struct rig *r, uint32_t state, const char *file, int line);
/** The next segment sent is exactly this. ack is not compared without TCP_ACK. PSH is not compared. */
#define EXPECT(r, flags, seq, ack, len) rig_expect_at(r, flags, seq, ack, len, __FILE__, __LINE__)
/** Nothing else was sent; invariants hold. */
#define NOTHING(r)       rig_nothing_at(r, __FILE__, __LINE__)
#define STATE(r, state)  rig_state_at(r, state, __FILE__, __LINE__)
#define LAST(r)          (&(r)->sent[((r)->seen - 1) % RIG_SENT])
#define EV(ev)           (1u << (ev))
#define COUNTER(r, name) ((r)->counters[TCP_C_##name])

/** A rig per test, on the heap. */
struct rig *rig_new(void);
int rig_setup(void **state);
int rig_teardown(void **state);
#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

#endif
