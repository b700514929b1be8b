/*
 * States: their names, the one that the device says a connection is in, and `to STATE`, which leads there by segments
 * and calls. Called by run.c; the names by script.c.
 */
#include "run.h"

#include <string.h>

static const char *const state_names[] = {"NONE",       "ESTABLISHED", "SYN_SENT",  "SYN_RECEIVED",
                                          "FIN_WAIT_1", "FIN_WAIT_2",  "TIME_WAIT", "CLOSED",
                                          "CLOSE_WAIT", "LAST_ACK",    "LISTEN",    "CLOSING"};

int pkt_state_number(const char *name) {
  for (int i = 0; i < 12; i++)
    if (!strcmp(state_names[i], name))
      return i;
  return -1;
}

void state_check(struct run *r, const char *name, unsigned conn) {
  int want = pkt_state_number(name);
  int got = r->d->state(r->conn[conn].dut_port, (uint16_t)(r->c->peer_port + conn));
  if (got == 7)
    got = 0;
  if (got != (want == 7 ? 0 : want))
    run_fail(r, "the state is %s, not %s", state_names[got <= 11 ? got : 0], name);
}

static void do_in(struct run *r, unsigned conn, uint8_t flags, int64_t seq, int64_t ack) {
  struct pkt_line l = {.verb = PKT_IN, .conn = conn, .no = r->line->no};
  l.seg = (struct pkt_seg){.flags = flags, .seq = seq, .ack = ack, .has = flags & TH_ACK ? PKT_HAS_ACK : 0};
  send_line(r, &l);
  run_done(r);
}

static void do_out(struct run *r, unsigned conn, uint8_t flags, int64_t seq, int64_t ack) {
  struct pkt_line l = {.verb = PKT_OUT, .conn = conn, .no = r->line->no};
  l.seg = (struct pkt_seg){.flags = flags, .seq = seq, .ack = ack, .has = PKT_HAS_ACK, .ecn = 255};
  expect_line(r, &l);
  run_done(r);
}

static void to_established(struct run *r, unsigned conn, int active, int want) {
  if (active) {
    run_must(r, r->d->connect(conn), "connect");
    do_out(r, conn, TH_SYN, 0, 0);
    if (want == 2)
      return;
    do_in(r, conn, TH_SYN | TH_ACK, 0, 1);
    do_out(r, conn, TH_ACK, 1, 1);
    return;
  }
  run_must(r, r->d->listen(8), "listen");
  do_in(r, conn, TH_SYN, 0, 0);
  do_out(r, conn, TH_SYN | TH_ACK, 0, 1);
  if (want == 3)
    return;
  do_in(r, conn, TH_ACK, 1, 1);
  run_must(r, r->d->accept(conn), "accept");
}

void state_reach(struct run *r, const struct pkt_line *l) {
  int want = pkt_state_number(l->word), peer_first = want == 8 || want == 9;
  unsigned c = l->conn;
  to_established(r, c, l->n || want == 2, want);
  if (peer_first) {
    do_in(r, c, TH_FIN | TH_ACK, 1, 1);
    do_out(r, c, TH_ACK, 1, 2);
  }
  if (want == 4 || want == 5 || want == 6 || want == 9 || want == 11) {
    run_must(r, r->d->shutdown(c), "shutdown");
    do_out(r, c, TH_FIN | TH_ACK, 1, peer_first ? 2 : 1);
  }
  if (want == 5 || want == 6)
    do_in(r, c, TH_ACK, 1, 2);
  if (want == 6 || want == 11) {
    do_in(r, c, TH_FIN | TH_ACK, 1, want == 6 ? 2 : 1);
    do_out(r, c, TH_ACK, 2, 2);
  }
  state_check(r, l->word, c);
}
