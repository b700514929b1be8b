/*
 * A toy of a stream transport inside one engine: pipes between two apps, with connect, listen, accept, half close,
 * reset and back-pressure, all through struct transport_ops and what the session layer offers to every transport. It
 * proves that one can be added without touching session code. (tests/sim/sim_udp.c has one of datagrams.)
 */
#include "engine_rig.h"
#include "session/life.h"
#include "test.h"

#include <errno.h>
#include <string.h>

#define PIPE_PROTO 5u
#define PIPE_ROOM  4096u

/** What the transport keeps of a session. */
struct pipe {
  struct session *peer; /* NULL once it is gone */
  uint8_t ended;        /* its end was told to the peer */
  uint8_t heard;        /* the peer's end was told to it */
};

static struct pipe *pipe_of(struct session *s) {
  return (struct pipe *)(void *)s->priv;
}

static void pipe_part(struct worker *w, struct session *s) {
  struct session *p = pipe_of(s)->peer;
  if (p)
    pipe_of(p)->peer = NULL;
  pipe_of(s)->peer = NULL;
  session_transport_gone(w, s);
}

/* Both have ended, or the app is gone and all is told. */
static void pipe_maybe_over(struct worker *w, struct session *s) {
  struct session *p = pipe_of(s)->peer;
  if (!pipe_of(s)->ended || (p && !pipe_of(p)->ended && !s->app_closed))
    return;
  int both = p && pipe_of(p)->ended;
  pipe_part(w, s);
  if (both)
    session_transport_gone(w, p);
}

/* Moves what fits. */
static int pipe_output(struct worker *w, struct session *s, usec_t now) {
  struct session *p = pipe_of(s)->peer;
  uint8_t bytes[256];
  int64_t n, room;
  (void)now;
  if (!s->believed || !p || !p->e)
    return 0;
  while ((room = fifo_prod_room(&p->rx)) > 0 &&
         (n = fifo_cons_read(&s->tx, bytes, room < (int64_t)sizeof bytes ? (uint32_t)room : sizeof bytes)) > 0) {
    assert_int_equal(fifo_prod_write(&p->rx, bytes, (uint32_t)n), n);
    app_hint(p->app, p->slot);
  }
  if (s->shut_wr || s->app_closed) {
    if (fifo_cons_used(&s->tx) != 0 || pipe_of(s)->ended)
      return 0;
    pipe_of(s)->ended = pipe_of(p)->heard = 1;
    __atomic_store_n(&p->e->fin_pos, p->rx.tail, __ATOMIC_RELAXED);
    session_set_flag(p, ABI_SE_PEER_FIN);
    session_set_flag(s, ABI_SE_FIN_ACKED);
    pipe_maybe_over(w, s);
  }
  return 0;
}

static void pipe_endpoints(struct session *s) {
  s->e->local = (struct abi_endpoint){.family = 4, .port = be16_from(s->lport)};
  s->e->remote = (struct abi_endpoint){.family = 4, .port = be16_from(s->rport)};
  memcpy(s->e->local.ip, s->local.b, sizeof s->local.b);
  memcpy(s->e->remote.ip, s->remote.b, sizeof s->remote.b);
}

static int pipe_connect(struct worker *w, struct session *s, usec_t now) {
  struct listener *l = listen_find(w, 0, PIPE_PROTO, &s->remote, s->rport, 0);
  (void)now;
  if (!l || listen_ready(l) > l->entry.backlog)
    return -ECONNREFUSED;
  struct session *t = session_new(w);
  if (!t || session_transport(w, t, s->ops))
    return -ENOBUFS;
  *pipe_of(s) = (struct pipe){.peer = t};
  *pipe_of(t) = (struct pipe){.peer = s};
  s->local = t->local = t->remote = s->remote;
  s->lport = 50000;
  t->lport = s->rport;
  t->rport = s->lport;
  pipe_endpoints(s);
  __atomic_store_n(&s->e->gen, s->gen, __ATOMIC_RELEASE);
  session_set_state(s, ABI_SESS_CONNECTING);
  offer_wait(w, t, l);
  offer_park(w, t);
  w->offers_due = 1;
  return 0;
}

/* Somebody may take it. */
static void pipe_accept_ready(struct worker *w, struct session *s, usec_t now) {
  struct listener *l = listen_share(w, s->listener, 0);
  struct app_worker *a = l ? worker_app(w, l->entry.worker_id) : NULL;
  uint32_t slot = a ? app_slot_get(a) : APP_NO_SLOT;
  (void)now;
  if (slot == APP_NO_SLOT)
    return;
  uint32_t gen = worker_view_engine(&a->v, slot)->gen + 1;
  assert_int_equal(session_bind_record(w, s, a, slot, gen, 0), 0);
  offer_unpark(s);
  pipe_endpoints(s);
  s->e->listener = l->entry.slot;
  s->e->listener_gen = l->entry.slot_gen;
  fifo_prod_size_set(&s->rx, PIPE_ROOM);
  __atomic_store_n(&s->e->gen, gen, __ATOMIC_RELEASE);
  session_set_state(s, ABI_SESS_OFFERED);
}

static void pipe_accepted(struct worker *w, struct session *s) {
  struct session *c = pipe_of(s)->peer;
  if (!c)
    return;
  fifo_prod_size_set(&c->rx, PIPE_ROOM);
  session_set_state(c, ABI_SESS_READY);
  session_dirty(w, c);
}

static void pipe_consumed(struct worker *w, struct session *s, usec_t now) {
  if (pipe_of(s)->peer)
    (void)pipe_output(w, pipe_of(s)->peer, now);
}

static void pipe_abort(struct worker *w, struct session *s, int err, usec_t now) {
  struct session *p = pipe_of(s)->peer;
  (void)now;
  session_set_error(s, err);
  if (p) {
    session_set_error(p, p->e && p->e->state == ABI_SESS_CONNECTING ? ECONNREFUSED : ECONNRESET);
    session_set_flag(p, ABI_SE_RESET);
  }
  pipe_part(w, s);
  if (p)
    session_transport_gone(w, p);
}

static void pipe_wind_up(struct worker *w, struct session *s, usec_t now) {
  struct session *p = pipe_of(s)->peer;
  if (s->app_closed && p && !p->e) { /* nobody was offered it yet */
    pipe_abort(w, s, 0, now);
    return;
  }
  (void)pipe_output(w, s, now);
  if (!s->dead && s->ops && !pipe_of(s)->peer)
    pipe_part(w, s);
}

static const struct transport_ops pipes = {.name = "pipe",
                                           .proto = PIPE_PROTO,
                                           .priv_size = sizeof(struct pipe),
                                           .connect = pipe_connect,
                                           .output = pipe_output,
                                           .consumed = pipe_consumed,
                                           .shutdown = pipe_wind_up,
                                           .close = pipe_wind_up,
                                           .abort = pipe_abort,
                                           .accept_ready = pipe_accept_ready,
                                           .accepted = pipe_accepted};

static struct rig r;

/* One host alone: its app listens at slot 0, port 80, and connects from other slots. */
static void begin(int armed) {
  memset(&r, 0, sizeof r);
  rig_open(&r, 3);
  assert_int_equal(transport_add(&r.host[0].w, &pipes), 0);
  rig_listen(&r.host[0], 0, 80, 4, armed);
  struct abi_listen_entry *le = seg_at(&r.host[0].policy, 4096, sizeof *le);
  le->proto = PIPE_PROTO; /* the broker writes it at once; the engine has not looked yet */
  rig_turns(&r, 4);
}

static void end(struct rig_sess *c, struct rig_sess *s) {
  rig_turns(&r, 4);
  assert_int_equal(c->e->state, ABI_SESS_CLOSED);
  if (s)
    assert_int_equal(s->e->state, ABI_SESS_CLOSED);
  assert_int_equal(r.host[0].w.sessions.n_used, 0);
  assert_int_equal(r.host[0].w.listeners.l[0].pending, 0);
  assert_int_equal(life_wrong, 0);
  rig_close(&r);
}

static void dial(struct rig_sess *c, uint32_t slot, uint16_t port) {
  rig_sess_open(&r.host[0], c, slot, 1);
  c->a->req = (struct abi_request){.id = 1, .proto = PIPE_PROTO, .remote = rig_endpoint(1, port, 4)};
  __atomic_store_n(&c->a->gen, 1, __ATOMIC_RELEASE);
  __atomic_store_n(&c->a->op, ABI_OP_CONNECT, __ATOMIC_RELEASE);
  if (r.host[0].view.app->slots_high <= slot)
    r.host[0].view.app->slots_high = slot + 1;
  rig_hint(&r.host[0], slot);
  rig_turns(&r, 4);
}

static void meet(struct rig_sess *c, struct rig_sess *s) {
  begin(1);
  dial(c, 1, 80);
  assert_int_equal(c->e->state, ABI_SESS_CONNECTING);
  assert_int_equal(r.host[0].w.listeners.l[0].pending, 1);
  assert_int_equal(rig_accept(&r.host[0], 0, s), 1);
  rig_turns(&r, 4);
  assert_int_equal(c->e->state, ABI_SESS_READY);
  assert_int_equal(s->e->state, ABI_SESS_READY);
  assert_int_equal(be16_get(s->e->local.port), 80);
  assert_int_equal(be16_get(s->e->remote.port), be16_get(c->e->local.port));
}

static void test_bytes(void **state) {
  struct rig_sess c, s;
  static char out[10000], in[10000];
  (void)state;
  meet(&c, &s);
  for (uint32_t i = 0; i < sizeof out; i++)
    out[i] = (char)(i * 7 + (i >> 8));
  assert_int_equal(rig_write(&c, out, sizeof out), sizeof out);
  rig_turns(&r, 4);
  assert_int_equal(fifo_cons_used(&s.rx), PIPE_ROOM); /* the rest waits at the writer's */
  for (uint32_t got = 0; got < sizeof in; rig_turns(&r, 4))
    got += rig_read(&s, in + got, 1500);
  assert_memory_equal(in, out, sizeof in);
  assert_int_equal(rig_write(&s, "answer", 6), 6);
  rig_want(&s, ABI_WANT_SHUT_WR); /* half closed: the other half goes on */
  rig_turns(&r, 4);
  assert_int_equal(rig_read(&c, in, 10), 6);
  assert_true(rig_eof(&c));
  assert_int_equal(rig_write(&c, "last", 4), 4);
  rig_want(&c, ABI_WANT_CLOSE);
  rig_turns(&r, 4);
  assert_int_equal(rig_read(&s, in, 10), 4);
  assert_true(rig_eof(&s));
  rig_want(&s, ABI_WANT_CLOSE);
  end(&c, &s);
}

static void test_reset(void **state) {
  struct rig_sess c, s;
  (void)state;
  meet(&c, &s);
  rig_want(&c, ABI_WANT_ABORT);
  rig_turns(&r, 4);
  assert_int_equal(s.e->error, ECONNRESET);
  assert_true(s.e->flags & ABI_SE_RESET);
  rig_want(&s, ABI_WANT_CLOSE);
  end(&c, &s);
}

/* Nobody listens; the backlog is full; nobody takes offers yet; the client gives up before it is taken. */
static void test_connects(void **state) {
  struct rig_sess c, more, s;
  (void)state;
  begin(0);
  dial(&c, 1, 81);
  assert_int_equal(c.e->state, ABI_SESS_CLOSED);
  assert_int_equal(c.e->error, ECONNREFUSED);
  for (uint32_t i = 0; i <= 8; i++) /* backlog + 1 */
    dial(&c, 2 + i, 80);
  assert_int_equal(r.host[0].w.listeners.l[0].pending, 9);
  dial(&more, 11, 80);
  assert_int_equal(more.e->error, ECONNREFUSED);
  assert_int_equal(c.e->state, ABI_SESS_CONNECTING);
  rig_want(&c, ABI_WANT_CLOSE); /* half open, cancelled */
  rig_turns(&r, 4);
  assert_int_equal(c.e->state, ABI_SESS_CLOSED);
  assert_int_equal(r.host[0].w.listeners.l[0].pending, 8);
  rig_arm(&r.host[0], 0);
  rig_turns(&r, 8);
  uint32_t taken = 0;
  while (rig_accept(&r.host[0], 0, &s)) {
    rig_turns(&r, 4);
    rig_want(&s, ABI_WANT_ABORT);
    rig_turns(&r, 4);
    taken++;
  }
  assert_int_equal(taken, 8);
  for (uint32_t i = 0; i < 8; i++) {
    assert_int_equal(worker_view_engine(&r.host[0].view, 2 + i)->error, ECONNRESET);
    struct rig_sess done = {.h = &r.host[0], .slot = 2 + i, .a = worker_view_app(&r.host[0].view, 2 + i)};
    assert_non_null(done.a);
    rig_want(&done, ABI_WANT_CLOSE);
  }
  end(&c, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes), cmocka_unit_test(test_reset),
                                     cmocka_unit_test(test_connects)};
  return cmocka_run_group_tests_name("toy stream transport", tests, NULL, NULL);
}
