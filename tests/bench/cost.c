/*
 * What a segment costs: two whole engine workers (tests/sim/engine_rig.h) with one connection that carries data, among
 * N - 1 others in the tables. One thing happens per turn of the worker, and each kind of turn has a function of its own
 * around it, so that callgrind counts them apart: cost_idle, cost_data_in (a full segment in order arrives, every other
 * one is acknowledged), cost_ack_in (an acknowledgement arrives), cost_data_out (the app wrote a segment). cost.py runs
 * this and takes the idle turn off.
 *
 * Usage: cost CONNECTIONS TURNS
 */
#include "engine_rig.h"
#include "session/transport_tcp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SEGMENT 1448u
#define STEP    50u /* µs of virtual time: doorbells are looked at */

enum kind { KIND_NONE, KIND_IDLE, KIND_DATA_IN, KIND_ACK_IN, KIND_DATA_OUT };

static unsigned connections = 1, turns = 2000;
static const struct worker *subject; /* the worker whose turns count */
static enum kind kind;
static unsigned counted[KIND_DATA_OUT + 1];
static int warm; /* figures count from here on */

uint32_t __real_worker_turn(struct worker *w);
uint32_t __wrap_worker_turn(struct worker *w);
uint32_t cost_idle(struct worker *w);
uint32_t cost_data_in(struct worker *w);
uint32_t cost_ack_in(struct worker *w);
uint32_t cost_data_out(struct worker *w);

#define COST_TURN(name)                                                                                                \
  __attribute__((noinline)) uint32_t name(struct worker *w) {                                                          \
    uint32_t r = __real_worker_turn(w);                                                                                \
    __asm__ volatile("" ::: "memory"); /* no tail call: the function has to be there */                                \
    return r;                                                                                                          \
  }
COST_TURN(cost_idle)
COST_TURN(cost_data_in)
COST_TURN(cost_ack_in)
COST_TURN(cost_data_out)

uint32_t __wrap_worker_turn(struct worker *w) {
  static uint32_t (*const turn[])(struct worker *) = {__real_worker_turn, cost_idle, cost_data_in, cost_ack_in,
                                                      cost_data_out};
  enum kind k = warm && w == subject ? kind : KIND_NONE;
  counted[k]++;
  return turn[k](w);
}

/* Strangers: in the tables of sessions, flows and timers. */
static void fill(struct rig_host *h, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    struct session *s = session_new(&h->w);
    assert_non_null(s);
    s->local = ip_addr_from4(0x0a000000u + h->number);
    s->remote = ip_addr_from4(0x0b000000u + i / 60000);
    s->lport = 80;
    s->rport = (uint16_t)(1024 + i % 60000);
    s->proto = 6;
    assert_int_equal(flow_add(&h->w, s), 0);
    timer_set(&h->w.wheel, &s->timer, rig_now() + 3600ull * 1000000 + (usec_t)i * 7);
  }
}

static uint64_t tcp_count(const struct rig_host *h, enum tcp_counter c) {
  return h->counters[EC_N + c];
}

static void one_segment(struct rig *r, struct rig_sess *c, struct rig_sess *s) {
  static uint8_t bytes[SEGMENT];
  struct rig_host *a = &r->host[0], *b = &r->host[1];
  subject = &a->w;
  kind = KIND_IDLE;
  rig_step(r, STEP);
  assert_int_equal(rig_write(c, bytes, SEGMENT), SEGMENT);
  rig_hint(a, c->slot);
  kind = KIND_DATA_OUT;
  uint64_t out = tcp_count(a, TCP_C_bytes_out), in = tcp_count(b, TCP_C_bytes_in);
  rig_step(r, STEP);
  assert_int_equal(tcp_count(a, TCP_C_bytes_out) - out, SEGMENT);
  kind = KIND_NONE;
  rig_step(r, STEP); /* nicio takes it to the wire */
  subject = &b->w;
  kind = KIND_DATA_IN;
  rig_step(r, 250); /* it arrives */
  assert_int_equal(tcp_count(b, TCP_C_bytes_in) - in, SEGMENT);
  kind = KIND_NONE;
  while (rig_read(s, bytes, SEGMENT) > 0)
    rig_hint(b, s->slot);
  rig_step(r, STEP);
  for (unsigned i = 0; i < 3; i++) { /* the acknowledgement, if this was the second of two */
    const struct rig_host *h = a;
    subject = &a->w;
    kind = h->wire_head != h->wire_tail && h->wire[h->wire_head % RIG_WIRE].due <= rig_now() + 150 ? KIND_ACK_IN
                                                                                                   : KIND_NONE;
    rig_step(r, 150);
  }
  kind = KIND_NONE;
}

static void test_cost(void **state) {
  static struct rig r;
  struct rig_sess c, s;
  (void)state;
  rig_connections = connections + 16;
  rig_open(&r, 1);
  rig_listen(&r.host[1], 1, 80, 4, 1);
  rig_step(&r, 100);
  rig_connect(&r.host[0], &c, 2, 1, 80, 4);
  int accepted = 0;
  for (unsigned i = 0; i < 100 && !accepted; i++) {
    rig_step(&r, 250);
    accepted = rig_accept(&r.host[1], 1, &s);
  }
  assert_int_equal(accepted, 1);
  for (unsigned i = 0; i < 2; i++)
    fill(&r.host[i], connections - 1);
  for (unsigned i = 0; i < 40; i++) /* quick ACKs are over, windows have grown */
    one_segment(&r, &c, &s);
  warm = 1;
  for (unsigned i = 0; i < turns; i++)
    one_segment(&r, &c, &s);
  print_message("fast data %llu, fast acks %llu, segments in %llu / %llu\n",
                (unsigned long long)tcp_count(&r.host[1], TCP_C_fast_data),
                (unsigned long long)tcp_count(&r.host[0], TCP_C_fast_ack),
                (unsigned long long)tcp_count(&r.host[1], TCP_C_segs_in),
                (unsigned long long)tcp_count(&r.host[0], TCP_C_segs_in));
  print_message("memory tcb %zu session %zu soft %zu\n", TRANSPORT_TCP_IDLE - sizeof(struct session),
                sizeof(struct session), sizeof(struct tcp_conn));
  print_message("counts idle %u data_in %u ack_in %u data_out %u retransmitted %llu\n", counted[KIND_IDLE],
                counted[KIND_DATA_IN], counted[KIND_ACK_IN], counted[KIND_DATA_OUT],
                (unsigned long long)tcp_count(&r.host[0], TCP_C_rexmit_segs));
  rig_close(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_cost)};
  if (argc > 1)
    connections = (unsigned)strtoul(argv[1], NULL, 10);
  if (argc > 2)
    turns = (unsigned)strtoul(argv[2], NULL, 10);
  return cmocka_run_group_tests_name("cost", tests, NULL, NULL);
}
