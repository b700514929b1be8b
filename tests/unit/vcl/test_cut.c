/*
 * Cut-through between two workers: life, ends, refusal, the way back to TCP, and a peer that lies.
 */
#include "cut_rig.h"

#include "base/clock.h"
#include "vcl_app.h"
#include "vcl_cut.h"

#include <arpa/inet.h>
#include <sys/stat.h>

static int take(uint32_t h, void *buf, uint32_t n) {
  return vppcom_session_read(h, buf, n);
}

static int error_of(uint32_t h) {
  int err = -1;
  uint32_t len = sizeof err;
  assert_int_equal(vppcom_session_attr(h, VPPCOM_ATTR_GET_ERROR, &err, &len), 0);
  return err;
}

static void test_bytes_both_ways(void **state) {
  struct cut_rig *r = *state;
  char buf[64];
  cut_open(r, 7400);
  cut_as(0);
  assert_int_equal(vppcom_session_write(r->c, "question", 8), 8);
  cut_as(1);
  assert_int_equal(take(r->s, buf, sizeof buf), 8);
  assert_memory_equal(buf, "question", 8);
  assert_int_equal(take(r->s, buf, sizeof buf), VPPCOM_EAGAIN);
  assert_int_equal(vppcom_session_write(r->s, "answer", 6), 6);
  cut_as(0);
  assert_int_equal(take(r->c, buf, sizeof buf), 6);
  assert_int_equal(fake_live_sessions(&r->rig.fake), 0); /* the engine knows nothing of it */
  cut_close(r);
}

static void test_names(void **state) {
  struct cut_rig *r = *state;
  uint8_t a[16], b[16];
  vppcom_endpt_t mine = {.ip = a}, theirs = {.ip = b};
  uint32_t len = sizeof mine;
  cut_open(r, 7401);
  cut_as(0);
  assert_int_equal(vppcom_session_attr(r->c, VPPCOM_ATTR_GET_LCL_ADDR, &mine, &len), 0);
  cut_as(1);
  assert_int_equal(vppcom_session_attr(r->s, VPPCOM_ATTR_GET_PEER_ADDR, &theirs, &len), 0);
  assert_int_equal(mine.port, theirs.port);
  assert_memory_equal(a, b, 4);
  cut_close(r);
}

/* More than the fifo holds: the writer stops, is told when there is room, nothing is lost. */
static void test_bulk(void **state) {
  struct cut_rig *r = *state;
  static uint8_t block[50000], got[70000];
  uint64_t sent = 0, seen = 0, total = 20000000;
  cut_open(r, 7402);
  while (seen < total) {
    cut_as(0);
    for (int n = 1; n > 0 && sent < total;) {
      for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)((sent + i) * 7 + (sent + i) / 4099);
      size_t want = total - sent < sizeof block ? (size_t)(total - sent) : sizeof block;
      n = vppcom_session_write(r->c, block, want);
      assert_true(n > 0 || n == VPPCOM_EAGAIN);
      sent += n > 0 ? (uint64_t)n : 0;
    }
    cut_as(1);
    for (int n = 1; n > 0;) {
      n = take(r->s, got, sizeof got);
      for (int i = 0; i < n; i++)
        if (got[i] != (uint8_t)((seen + (uint64_t)i) * 7 + (seen + (uint64_t)i) / 4099))
          fail_msg("wrong byte at %llu", (unsigned long long)seen + (unsigned long long)i);
      seen += n > 0 ? (uint64_t)n : 0;
    }
    if (sent < total) {
      cut_as(0);
      assert_true((rig_wait(r->c, POLLOUT) & POLLOUT) != 0);
    }
  }
  cut_close(r);
}

static void test_half_close(void **state) {
  struct cut_rig *r = *state;
  char buf[8];
  cut_open(r, 7403);
  cut_as(0);
  assert_int_equal(vppcom_session_write(r->c, "abc", 3), 3);
  assert_int_equal(vppcom_session_shutdown(r->c, SHUT_WR), 0);
  assert_int_equal(vppcom_session_write(r->c, "x", 1), VPPCOM_EPIPE);
  cut_as(1);
  assert_int_equal(take(r->s, buf, 8), 3);
  assert_int_equal(take(r->s, buf, 8), 0);
  assert_int_equal(rig_wait(r->s, POLLIN | POLLRDHUP | POLLOUT), POLLIN | POLLRDHUP | POLLOUT);
  assert_int_equal(vppcom_session_write(r->s, "de", 2), 2);
  cut_as(0);
  assert_int_equal(take(r->c, buf, 8), 2);
  cut_close(r);
}

static void test_resets(void **state) {
  struct cut_rig *r = *state;
  char buf[8];
  cut_open(r, 7404);
  cut_as(0);
  assert_int_equal(vppcom_session_write(r->c, "last", 4), 4);
  assert_int_equal(vppcom_session_terminate(r->c), 0);
  cut_as(1);
  assert_int_equal(take(r->s, buf, 8), 4);
  assert_int_equal(take(r->s, buf, 8), VPPCOM_ECONNRESET);
  assert_int_equal(vppcom_session_write(r->s, "x", 1), VPPCOM_EPIPE);
  cut_close(r);
  cut_open(r, 7405); /* closed with bytes unread */
  cut_as(0);
  assert_int_equal(vppcom_session_write(r->c, "never", 5), 5);
  cut_as(1);
  vppcom_session_close(r->s);
  cut_as(0);
  assert_int_equal(take(r->c, buf, 8), VPPCOM_ECONNRESET);
  cut_close(r);
  cut_open(r, 7406); /* written after the end: once as if it left, then a broken pipe */
  cut_as(1);
  vppcom_session_close(r->s);
  cut_as(0);
  assert_int_equal(take(r->c, buf, 8), 0);
  assert_int_equal(vppcom_session_write(r->c, "x", 1), 1);
  assert_int_equal(vppcom_session_write(r->c, "x", 1), VPPCOM_EPIPE);
  cut_close(r);
}

/* The slots go round: many connections after each other and at once, none stays behind. */
static void test_many(void **state) {
  struct cut_rig *r = *state;
  uint32_t c[16], s[16];
  char b;
  r->l = cut_listen(7407);
  for (int round = 0; round < 40; round++) {
    for (int i = 0; i < 16; i++)
      c[i] = cut_dial(7407);
    for (int i = 0; i < 16; i++)
      s[i] = cut_accept(r->l);
    assert_int_equal(fake_live_sessions(&r->rig.fake), 0); /* none by TCP: slots come back */
    cut_as(0);
    for (int i = 0; i < 16; i++)
      assert_int_equal(vppcom_session_write(c[i], "x", 1), 1);
    for (int k = 0; k < 2; k++) {
      cut_as(round % 2 != k);
      for (int i = 0; i < 16; i++) {
        if (round % 2 != k)
          assert_int_equal(take(s[i], &b, 1), 1);
        assert_int_equal(vppcom_session_close(round % 2 != k ? s[i] : c[i]), 0);
      }
    }
  }
  fake_lock(&r->rig.fake);
  assert_int_equal(r->rig.fake.n_pairs, 1);
  fake_unlock(&r->rig.fake);
  cut_as(1);
  vppcom_session_close(r->l);
  rig_settle(&r->rig);
}

/* A connect beyond the backlog goes by TCP. */
static void test_backlog(void **state) {
  struct cut_rig *r = *state;
  uint32_t c[20];
  r->l = cut_listen(7408); /* 16 */
  for (int i = 0; i < 20; i++)
    c[i] = cut_dial(7408);
  RIG_UNTIL(fake_live_sessions(&r->rig.fake) >= 8);
  assert_int_equal(fake_live_sessions(&r->rig.fake), 8); /* four connections, both ends */
  for (int i = 0; i < 20; i++) {
    uint32_t s = cut_accept(r->l);
    vppcom_session_close(s);
  }
  cut_as(0);
  for (int i = 0; i < 20; i++)
    vppcom_session_close(c[i]);
  cut_as(1);
  vppcom_session_close(r->l);
  cut_as(0);
  rig_settle(&r->rig);
}

static int unbinds(struct cut_rig *r) {
  return fake_count(&r->rig.fake, &r->rig.fake.n_unbind);
}

/* The listener goes; another one takes its port and is reached by TCP only. Returns how many unbinds there were before.
 */
static int listener_moves(struct cut_rig *r, uint32_t *l, uint16_t port) {
  int unbound = unbinds(r);
  cut_allow(r, 0);
  cut_as(1);
  vppcom_session_close(*l);
  *l = cut_listen(port);
  cut_as(0);
  return unbound;
}

/* The listener goes before it accepts: by TCP, where another one has taken the port. What was written arrives. */
static void test_returned(void **state) {
  struct cut_rig *r = *state;
  char buf[8];
  uint32_t l = cut_listen(7409), c = cut_dial(7409);
  assert_int_equal(vppcom_session_write(c, "kept", 4), 4);
  (void)listener_moves(r, &l, 7409);
  uint32_t s = cut_accept(l);
  cut_as(0);
  assert_true((rig_wait(c, POLLOUT) & POLLOUT) != 0); /* open again, by TCP: what was written is written again */
  cut_as(1);
  assert_true((rig_wait(s, POLLIN) & POLLIN) != 0);
  assert_int_equal(take(s, buf, 8), 4);
  assert_memory_equal(buf, "kept", 4);
  vppcom_session_close(s);
  vppcom_session_close(l);
  cut_as(0);
  vppcom_session_close(c);
  cut_allow(r, 1);
  rig_settle(&r->rig);
}

static void test_refused_after_close(void **state) {
  struct cut_rig *r = *state;
  cut_open(r, 7410);
  cut_as(1);
  vppcom_session_close(r->l);
  uint32_t c = cut_dial(7410);
  assert_true((rig_wait(c, POLLIN | POLLOUT) & POLLERR) != 0);
  assert_int_equal(error_of(c), ECONNREFUSED);
  vppcom_session_close(c);
  cut_close(r);
}

/* The broker is gone: pairs that exist go on, with new connections, too. */
static void test_broker_down(void **state) {
  struct cut_rig *r = *state;
  char b;
  cut_open(r, 7411);
  fake_broker_kill(&r->rig.fake);
  cut_as(0);
  assert_int_equal(vppcom_session_write(r->c, "x", 1), 1);
  cut_as(1);
  assert_int_equal(take(r->s, &b, 1), 1);
  uint32_t c = cut_dial(7411), s = cut_accept(r->l);
  cut_as(0);
  assert_int_equal(vppcom_session_write(c, "y", 1), 1);
  cut_as(1);
  assert_int_equal(take(s, &b, 1), 1);
  vppcom_session_close(s);
  cut_as(0);
  vppcom_session_close(c);
  assert_int_equal(fake_live_sessions(&r->rig.fake), 0);
  fake_broker_up(&r->rig.fake);
  cut_close(r);
}

/* All services are gone: connections over pairs go on. */
static void test_all_dead(void **state) {
  struct cut_rig *r = *state;
  char b;
  cut_open(r, 7412);
  fake_all_dead(&r->rig.fake);
  for (int i = 0; i < 3; i++) {
    cut_as(0);
    assert_int_equal(vppcom_session_write(r->c, "x", 1), 1);
    cut_as(1);
    assert_true((rig_wait(r->s, POLLIN) & POLLIN) != 0);
    assert_int_equal(take(r->s, &b, 1), 1);
  }
  fake_all_new(&r->rig.fake);
  cut_close(r);
}

/** Bytes of memory that the connecting side's segment of the newest pair holds. */
static int64_t pair_memory(struct cut_rig *r) {
  struct stat st;
  fake_lock(&r->rig.fake);
  assert_int_equal(fstat(r->rig.fake.pair[r->rig.fake.n_pairs - 1].seg[0], &st), 0);
  fake_unlock(&r->rig.fake);
  return (int64_t)st.st_blocks * 512;
}

/* A pair holds little at first, what its bytes need meanwhile, and little again when its last session is gone. */
static void test_memory(void **state) {
  struct cut_rig *r = *state;
  static uint8_t block[1 << 16];
  uint32_t c[3], s[3];
  cut_open(r, 7413);
  assert_true(pair_memory(r) < 256 << 10);
  for (int i = 0; i < 3; i++) {
    c[i] = cut_dial(7413);
    s[i] = cut_accept(r->l);
  }
  cut_as(0);
  for (int i = 0; i < 3; i++)
    for (int n = 1; n > 0;) {
      n = vppcom_session_write(c[i], block, sizeof block);
      assert_true(n > 0 || n == VPPCOM_EAGAIN);
    }
  assert_true(pair_memory(r) > 2 << 20);
  cut_as(1);
  for (int i = 0; i < 3; i++) {
    while (take(s[i], block, sizeof block) > 0)
      ;
    vppcom_session_close(s[i]);
  }
  cut_as(0);
  for (int i = 0; i < 3; i++)
    vppcom_session_close(c[i]);
  cut_close(r);
  RIG_UNTIL((cut_as(0), cut_as(1), pair_memory(r) <= 3 << 19));
  assert_true(pair_memory(r) <= 3 << 19);
}

/* A pair without sessions goes after a while, on both sides; the next connect gets a new one. */
static void test_idle(void **state) {
  struct cut_rig *r = *state;
  cut_open(r, 7414);
  uint32_t l = r->l;
  cut_as(0);
  vppcom_session_close(r->c);
  cut_as(1);
  vppcom_session_close(r->s);
  struct cut_state *from = app_state.workers[0]->cut, *to = app_state.workers[1]->cut;
  assert_int_equal(from->n_pairs, 1);
  assert_int_equal(to->n_pairs, 1);
  int gone = 0;
  for (int i = 0; i < 4000 && !(gone != 0 && from->n_pairs + to->n_pairs == 0); i++) {
    cut_as(0);
    if (from->n_pairs != 0) {
      struct cut_pair *p = list_entry(list_first(&from->pairs), struct cut_pair, link);
      if (p->home.n_sessions == 0)
        p->idle_since = clock_now_us() - 11 * CLOCK_US_PER_S;
    }
    cut_as(1);
    fake_lock(&r->rig.fake);
    gone = r->rig.fake.n_pair_gone;
    fake_unlock(&r->rig.fake);
    (void)poll(NULL, 0, 5);
  }
  assert_true(gone >= 1);
  assert_int_equal(from->n_pairs, 0);
  assert_int_equal(to->n_pairs, 0);
  r->c = cut_dial(7414);
  r->s = cut_accept(l);
  assert_int_equal(from->n_pairs, 1);
  assert_int_equal(fake_live_sessions(&r->rig.fake), 0);
  cut_close(r);
}

/* A client that is bound keeps its port and its reservation, over a pair, too; both go with it. */
static void test_bound(void **state) {
  struct cut_rig *r = *state;
  r->l = cut_listen(7415);
  cut_as(0);
  const struct home *h = app_state.workers[0]->home;
  uint32_t held = h->slot_next - h->n_free;
  for (int round = 0; round < 20; round++) {
    uint32_t c = cut_dial_bound((uint16_t)(7500 + round), 7415), s = cut_accept(r->l);
    assert_int_equal(rig_port_of(s, VPPCOM_ATTR_GET_PEER_ADDR), 7500 + round);
    cut_as(0);
    assert_int_equal(rig_port_of(c, VPPCOM_ATTR_GET_LCL_ADDR), 7500 + round);
    assert_int_equal(h->slot_next - h->n_free, held + 1); /* the one that the reservation names */
    assert_int_equal(fake_live_sessions(&r->rig.fake), 0);
    int unbound = unbinds(r);
    vppcom_session_close(c);
    assert_int_equal(h->slot_next - h->n_free, held);
    RIG_UNTIL(unbinds(r) == unbound + 1);
    assert_int_equal(unbinds(r), unbound + 1);
    cut_as(1);
    vppcom_session_close(s);
    cut_as(0);
  }
  cut_as(1);
  vppcom_session_close(r->l);
}

/* A port has one connection to one place, whether the first one is over a pair or by TCP. */
static void test_bound_twice(void **state) {
  struct cut_rig *r = *state;
  for (int cut = 0; cut < 2; cut++) {
    uint16_t port = (uint16_t)(7430 + cut);
    uint32_t other = cut_listen(7432);
    r->l = cut_listen(port);
    cut_allow(r, cut);
    uint32_t a = cut_dial_bound((uint16_t)(7520 + cut), port), s = cut_accept(r->l);
    assert_int_equal(fake_live_sessions(&r->rig.fake) == 0, cut);
    cut_allow(r, 1);
    if (!cut) { /* a grant for that listener; what was answered before counts for a moment */
      for (int i = 0; i < 2000 && app_state.workers[0]->cut->n_pairs == 0; i++) {
        uint32_t c = cut_dial(port), d = cut_accept(r->l);
        vppcom_session_close(d);
        cut_as(0);
        vppcom_session_close(c);
        (void)poll(NULL, 0, 10);
      }
      assert_int_equal(app_state.workers[0]->cut->n_pairs, 1);
    }
    cut_as(0);
    uint8_t ip[16];
    vppcom_endpt_t ep = rig_ep(ip, 0, (uint16_t)(7520 + cut));
    uint32_t on = 1, len = sizeof on, b = rig_session(1);
    assert_int_equal(vppcom_session_attr(b, VPPCOM_ATTR_SET_REUSEPORT, &on, &len), 0);
    assert_int_equal(vppcom_session_bind(b, &ep), 0);
    assert_int_equal(rig_connect(b, port), -EADDRNOTAVAIL);
    assert_int_equal(rig_connect(b, 7432), VPPCOM_EINPROGRESS); /* elsewhere it may */
    uint32_t elsewhere = cut_accept(other);
    assert_int_equal(rig_port_of(elsewhere, VPPCOM_ATTR_GET_PEER_ADDR), 7520 + cut);
    vppcom_session_close(elsewhere);
    vppcom_session_close(other);
    vppcom_session_close(s);
    vppcom_session_close(r->l);
    cut_as(0);
    vppcom_session_close(a);
    vppcom_session_close(b);
    rig_settle(&r->rig);
  }
}

/* Its listener goes before it accepts: by TCP from the same port, with the same reservation. */
static void test_bound_returned(void **state) {
  struct cut_rig *r = *state;
  char buf[8];
  uint32_t l = cut_listen(7417), c = cut_dial_bound(7522, 7417);
  assert_int_equal(vppcom_session_write(c, "kept", 4), 4);
  int unbound = listener_moves(r, &l, 7417);
  uint32_t s = cut_accept(l);
  assert_int_equal(rig_port_of(s, VPPCOM_ATTR_GET_PEER_ADDR), 7522);
  cut_as(0);
  assert_true((rig_wait(c, POLLOUT) & POLLOUT) != 0);
  cut_as(1);
  assert_true((rig_wait(s, POLLIN) & POLLIN) != 0);
  assert_int_equal(take(s, buf, 8), 4);
  RIG_UNTIL(unbinds(r) == unbound + 1);
  assert_int_equal(unbinds(r), unbound + 1); /* the listener's */
  cut_allow(r, 1);
  vppcom_session_close(s);
  vppcom_session_close(l);
  cut_as(0);
  vppcom_session_close(c);
  rig_settle(&r->rig);
  RIG_UNTIL(((void)vcl_pump(), unbinds(r) == unbound + 3));
  assert_int_equal(unbinds(r), unbound + 3);
}

/* --- lies: whatever the other side writes, this one survives and ends what it can't believe --- */

static struct abi_sess_app *half(uint8_t *base, const struct abi_worker_geom *g, uint32_t slot) {
  return (struct abi_sess_app *)(void *)(base + g->slots_off) + slot;
}

static void test_liar_fifo(void **state) {
  struct cut_rig *r = *state;
  struct abi_worker_geom g;
  char buf[64];
  for (int lie = 0; lie < 5; lie++) {
    cut_open(r, (uint16_t)(7420 + lie));
    cut_as(0);
    assert_int_equal(vppcom_session_write(r->c, "honest", 6), 6);
    uint8_t *base = cut_map(r, 0, &g);
    struct abi_sess_app *a = NULL;
    for (uint32_t slot = 0; slot < g.n_slots && a == NULL; slot++)
      if (half(base, &g, slot)->op == ABI_OP_CONNECT && half(base, &g, slot)->tx.tail == 6)
        a = half(base, &g, slot);
    assert_non_null(a);
    if (lie == 0)
      a->tx.tail = ABI_FIFO_MAX + 1;
    else if (lie == 1)
      a->tx_chunk[0].unit = 0x7fffffff;
    else if (lie == 2)
      a->tx_chunk[0].len = 3;
    else if (lie == 3)
      a->tx.chunk_tail += 77;
    else
      a->rx_head = 12345; /* more than was ever written to it */
    cut_as(1);
    if (lie == 4) {
      assert_int_equal(take(r->s, buf, sizeof buf), 6);
      assert_int_equal(vppcom_session_write(r->s, "x", 1), VPPCOM_ECONNRESET);
    } else {
      assert_int_equal(take(r->s, buf, sizeof buf), VPPCOM_ECONNRESET);
    }
    a->tx_chunk[0].unit = 0;
    munmap(base, g.arena_off + g.arena_size);
    cut_close(r);
  }
}

/* A ring that holds more than it can: the pair ends and the broker is told; new connects get a new pair. */
static void test_liar_ring(void **state) {
  struct cut_rig *r = *state;
  struct abi_worker_geom g;
  char b;
  cut_open(r, 7430);
  uint8_t *base = cut_map(r, 0, &g);
  struct abi_worker_app *block = (struct abi_worker_app *)(void *)(base + g.block_off);
  block->lane[0].to_engine.tail += (uint32_t)g.ring_cap + 1;
  cut_as(1);
  assert_int_equal(take(r->s, &b, 1), VPPCOM_ECONNRESET);
  RIG_UNTIL((cut_as(1), fake_count(&r->rig.fake, &r->rig.fake.n_pair_lied) != 0));
  assert_true(fake_count(&r->rig.fake, &r->rig.fake.n_pair_lied) != 0);
  cut_as(0);
  assert_true((rig_wait(r->c, POLLIN) & POLLHUP) != 0 || take(r->c, &b, 1) <= 0);
  vppcom_session_close(r->c);
  r->c = cut_dial(7430);
  uint32_t s = cut_accept(r->l);
  cut_as(0);
  assert_int_equal(vppcom_session_write(r->c, "z", 1), 1);
  cut_as(1);
  assert_int_equal(take(s, &b, 1), 1);
  vppcom_session_close(s);
  munmap(base, g.arena_off + g.arena_size);
  cut_close(r);
}

/* Connects that name what they may not: other listeners' ids, addresses that are not the stack's, slots beyond. */
static void test_liar_connect(void **state) {
  struct cut_rig *r = *state;
  struct abi_worker_geom g;
  cut_open(r, 7431);
  uint8_t *base = cut_map(r, 0, &g);
  struct abi_worker_app *block = (struct abi_worker_app *)(void *)(base + g.block_off);
  uint32_t *ring = (uint32_t *)(void *)(base + g.rings_off);
  struct abi_request good = half(base, &g, 0)->req;
  uint32_t goal = half(base, &g, 0)->pair_slot;
  for (uint32_t i = 0; i < 4; i++) {
    uint32_t slot = 20 + i;
    struct abi_sess_app *a = half(base, &g, slot);
    a->req = good;
    a->pair_slot = goal;
    if (i == 0)
      a->req.id += 1;
    else if (i == 1)
      a->pair_slot = 0xffffffff;
    else if (i == 2)
      a->req.local.ip[15] ^= 1;
    else
      a->req.remote.port = be16_from(1);
    a->gen = a->accepted = 9;
    a->op = ABI_OP_CONNECT;
    uint32_t tail = block->lane[0].to_engine.tail;
    ring[tail & (g.ring_cap - 1)] = slot;
    __atomic_store_n(&block->lane[0].to_engine.tail, tail + 1, __ATOMIC_RELEASE);
  }
  cut_as(1);
  assert_int_equal(vppcom_session_accept(r->l, NULL, O_NONBLOCK), VPPCOM_EAGAIN);
  munmap(base, g.arena_off + g.arena_size);
  cut_close(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, cut_rig_setup, cut_rig_teardown)
      T(test_bytes_both_ways),
      T(test_names),
      T(test_bulk),
      T(test_half_close),
      T(test_resets),
      T(test_many),
      T(test_backlog),
      T(test_returned),
      T(test_refused_after_close),
      T(test_broker_down),
      T(test_all_dead),
      T(test_liar_fifo),
      T(test_liar_ring),
      T(test_liar_connect),
      T(test_memory),
      T(test_idle),
      T(test_bound),
      T(test_bound_twice),
      T(test_bound_returned),
#undef T
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
