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

#define QUICK_BYTES 100 /* that ride on a connect to port 80 */

static uint32_t n_unlisten; /* calls for entry 0 */

static int quick_early(struct worker *w, uint32_t vrf, const struct abi_endpoint *remote, uint32_t flags, usec_t now) {
  (void)w;
  (void)now;
  assert_int_equal(vrf, 0);
  if (flags & ABI_OPT_TFO_BARE)
    return -EOPNOTSUPP;
  return be16_get(remote->port) == 80 ? QUICK_BYTES : 0;
}

static void quick_unlisten(struct worker *w, uint32_t entry) {
  (void)w;
  assert_int_equal(entry, 0);
  n_unlisten++;
}

/** Pipes with bytes on the connect, which keep something for each listener. */
static struct transport_ops quick_pipes(void) {
  struct transport_ops ops = pipes;
  ops.early = quick_early;
  ops.unlisten = quick_unlisten;
  return ops;
}

static struct rig r;

/* One host alone: its app listens at slot 0, port 80, and connects from other slots. */
static void begin_with(const struct transport_ops *ops, int armed) {
  memset(&r, 0, sizeof r);
  rig_open(&r, 3);
  assert_int_equal(transport_add(&r.host[0].w, ops), 0);
  rig_listen(&r.host[0], 0, 80, 4, armed);
  struct abi_listen_entry *le = seg_at(&r.host[0].policy, 4096, sizeof *le);
  le->proto = PIPE_PROTO; /* the broker writes it at once; the engine has not looked yet */
  rig_turns(&r, 4);
}

static void begin(int armed) {
  begin_with(&pipes, armed);
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

/* kind: ABI_REQ_*; reuse: ABI_REQ_LOCAL; flags: ABI_OPT_*. */
static void dial_as(struct rig_sess *c, uint32_t slot, uint16_t port, uint8_t kind, uint8_t reuse, uint32_t flags) {
  rig_sess_open(&r.host[0], c, slot, 1);
  c->a->req = (struct abi_request){
      .id = 1, .proto = PIPE_PROTO, .kind = kind, .reuse = reuse, .remote = rig_endpoint(1, port, 4)};
  c->a->opt.flags = flags;
  __atomic_store_n(&c->a->gen, 1, __ATOMIC_RELEASE);
  __atomic_store_n(&c->a->op, ABI_OP_CONNECT, __ATOMIC_RELEASE);
  if (r.host[0].view.app->slots_high <= slot)
    r.host[0].view.app->slots_high = slot + 1;
  rig_hint(&r.host[0], slot);
  rig_turns(&r, 4);
}

static void dial(struct rig_sess *c, uint32_t slot, uint16_t port) {
  dial_as(c, slot, port, ABI_REQ_CONNECT, 0, 0);
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

/* The app asks what may ride on its connect. A transport that knows no such thing connects. */
static void test_early(void **state) {
  struct transport_ops ops = quick_pipes();
  struct rig_sess c, s;
  (void)state;
  begin(1);
  dial_as(&c, 1, 80, ABI_REQ_FAST, 0, 0);
  assert_int_equal(rig_accept(&r.host[0], 0, &s), 1);
  rig_turns(&r, 4);
  assert_int_equal(c.e->state, ABI_SESS_READY);
  rig_want(&c, ABI_WANT_ABORT);
  rig_turns(&r, 4);
  rig_want(&s, ABI_WANT_CLOSE);
  end(&c, &s);

  begin_with(&ops, 1);
  dial_as(&c, 1, 80, ABI_REQ_FAST, 0, 0);
  assert_int_equal(c.e->state, ABI_SESS_CLOSED);
  assert_int_equal(c.e->error, ENODATA); /* not connected: it comes again, with its bytes */
  assert_int_equal(c.e->mss, QUICK_BYTES);
  dial_as(&c, 2, 81, ABI_REQ_FAST, 0, 0);
  assert_int_equal(c.e->error, ECONNREFUSED); /* no bytes: it did connect */
  dial_as(&c, 3, 80, ABI_REQ_FAST, 0, ABI_OPT_TFO_BARE);
  assert_int_equal(c.e->error, EOPNOTSUPP);
  assert_int_equal(r.host[0].w.listeners.l[0].pending, 0);
  end(&c, NULL);
}

/* Another listener in the entry, or none. */
static void relist(int live, uint16_t port) {
  struct abi_listen_entry *le = seg_at(&r.host[0].policy, 4096, sizeof *le);
  struct abi_policy *p = seg_at(&r.host[0].policy, 256, sizeof *p);
  le->gen += 2;
  le->live = (uint32_t)live;
  le->slot_gen++;
  le->addr.port = be16_from(port);
  p->policy_gen++;
  assert_int_equal(listen_refresh(&r.host[0].w), p->policy_gen);
}

/* What is kept for a listener goes with it, and what came for it later once its place is taken. */
static void test_unlisten(void **state) {
  struct transport_ops ops = quick_pipes();
  struct rig_sess c;
  (void)state;
  n_unlisten = 0;
  begin_with(&ops, 1);
  assert_int_equal(n_unlisten, 0);
  relist(0, 80);
  assert_int_equal(n_unlisten, 1);
  relist(1, 81);
  assert_int_equal(n_unlisten, 2);
  dial(&c, 1, 80);
  assert_int_equal(c.e->error, ECONNREFUSED);
  end(&c, NULL);
  begin(1); /* who keeps nothing is not told */
  relist(0, 80);
  dial(&c, 1, 80);
  assert_int_equal(c.e->error, ECONNREFUSED);
  assert_int_equal(n_unlisten, 2);
  end(&c, NULL);
}

/* A proxy of another namespace: an app that keeps to its own does not reach it by a port that nobody has. */
static void test_wall(void **state) {
  struct rig_sess c, s;
  (void)state;
  begin(1);
  struct abi_listen_entry *le = seg_at(&r.host[0].policy, 4096, sizeof *le);
  le->flags |= ABI_LISTEN_PROXY;
  le->ns = 1;
  relist(1, 80);
  dial_as(&c, 1, 99, ABI_REQ_CONNECT, ABI_REQ_LOCAL, 0);
  assert_int_equal(c.e->error, ECONNREFUSED);
  assert_int_equal(r.host[0].w.counters[EC_NS_REFUSED], 1);
  le->ns = 0;
  relist(1, 80);
  dial_as(&c, 2, 99, ABI_REQ_CONNECT, ABI_REQ_LOCAL, 0); /* the proxy is its own: pipes have none at all */
  assert_int_equal(c.e->error, ECONNREFUSED);
  assert_int_equal(r.host[0].w.counters[EC_NS_REFUSED], 1);
  assert_int_equal(rig_accept(&r.host[0], 0, &s), 0);
  end(&c, NULL);
}

/* SO_LINGER of 0 s ends a stream by a reset, whether or not its transport counts orphans. */
static void test_linger(void **state) {
  struct rig_sess c, s;
  (void)state;
  meet(&c, &s);
  c.a->opt.flags = ABI_OPT_LINGER;
  rig_want(&c, ABI_WANT_CLOSE);
  rig_turns(&r, 4);
  assert_int_equal(s.e->error, ECONNRESET);
  rig_want(&s, ABI_WANT_CLOSE);
  end(&c, &s);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes),    cmocka_unit_test(test_reset),
                                     cmocka_unit_test(test_connects), cmocka_unit_test(test_early),
                                     cmocka_unit_test(test_unlisten), cmocka_unit_test(test_wall),
                                     cmocka_unit_test(test_linger)};
  return cmocka_run_group_tests_name("toy stream transport", tests, NULL, NULL);
}
