/*
 * The SACK scoreboard: peers that renege or lie, more ranges than it has room for, and 50000 random blocks against a
 * bitmap.
 */
#include "tcp_rig.h"

static void test_reneging(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK);
  rig_sack(r, 1, 5);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, rig_at(r, 1), 0); /* it has 1 … 4, it said: then why only this? */
  assert_int_equal(COUNTER(r, reneged), 1);
  assert_true(rig_unseen(r) >= 1);
  EXPECT(r, TCP_ACK, rig_at(r, 1), 1, 1460);
}

static void test_hostile_sack(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK);
  r->sack[0] = (struct tcp_sack){rig_at(r, 9), rig_at(r, 40)}; /* beyond snd_max */
  r->sack[1] = (struct tcp_sack){rig_at(r, 5), rig_at(r, 3)};  /* inverted */
  r->sack[2] = (struct tcp_sack){rig_at(r, 2), rig_at(r, 2)};  /* empty */
  r->sack[3] = (struct tcp_sack){(uint32_t)-70000, (uint32_t)-60000};
  r->n_sack = 4;
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(r->conn.b->board.n, 0);
  NOTHING(r);
}

static void board_overflow(struct rig *r, int memory) {
  rig_init(r);
  if (!memory)
    tcp_env_memory(&r->env, NULL, 0);
  rig_passive(r, RIG_SACK);
  r->conn.cwnd = 1u << 20;
  r->wnd = 65535;
  r->conn.reo_seen = 1;
  rig_write(r, 60000);
  rig_skip(r);
  for (uint32_t i = 0; i < TCP_BOARD_MAX + 4; i++) {
    r->sack[0] = (struct tcp_sack){1001 + i * 2000, 1501 + i * 2000};
    r->n_sack = 1;
    rig_in_raw(r, TCP_ACK, 1, 1, 0, 1);
    assert_int_equal(tcp_sack_check(&r->conn), 0);
  }
  assert_int_equal(r->conn.b->board.n, memory ? TCP_BOARD_MAX + 4 : TCP_BOARD_MAX);
  assert_int_equal(tcp_sent_check(&r->conn), 0);
  r->sack[0] = (struct tcp_sack){1, 40001}; /* one that swallows all */
  r->sack[0].l = 501;
  r->n_sack = 1;
  rig_in_raw(r, TCP_ACK, 1, 1, 0, 1);
  assert_int_equal(r->conn.b->board.n, 1);
  assert_int_equal(r->conn.b->board.bytes, 39500);
}

static void test_board_overflow(void **state) {
  board_overflow(*state, 1);
  board_overflow(*state, 0);
}

/* More ranges than the board has room for, told from above and from below: what it had to forget, or never took, has
 * arrived and is not sent again; only the holes below its highest range are. */
static void test_board_full_is_no_loss(void **state) {
  for (int down = 0; down < 2; down++) {
    struct rig *r = *state;
    rig_init(r);
    tcp_env_memory(&r->env, NULL, 0);
    r->gso = RIG_MSS;
    r->wnd = 65535;
    rig_passive(r, RIG_SACK);
    r->conn.cwnd = 1u << 20;
    rig_write(r, 44 * RIG_MSS);
    rig_skip(r);
    r->now += 100 * RIG_MS;
    for (uint32_t i = 0; i < 22; i++) { /* every other segment */
      uint32_t k = down ? 21 - i : i;
      r->sack[0] = (struct tcp_sack){1 + (2 * k + 1) * RIG_MSS, 1 + (2 * k + 2) * RIG_MSS};
      r->n_sack = 1;
      rig_in_raw(r, TCP_ACK, 1, 1, 0, 1);
      assert_int_equal(tcp_sack_check(&r->conn), 0);
      assert_int_equal(tcp_sent_check(&r->conn), 0);
    }
    assert_int_equal(r->conn.b->board.n, TCP_BOARD_MAX);
    rig_skip(r);
    (void)tcp_output(&r->env, &r->conn, r->now);
    if (down) /* it looks like reordering: RACK waits */
      rig_pass(r, 100 * RIG_MS);
    rig_skip(r);
    assert_true(COUNTER(r, rexmit_segs) > 0);
    assert_true(COUNTER(r, rexmit_bytes) <= 22 * RIG_MSS);
  }
}

/* The scoreboard against a bitmap of 32 cells of 100 bytes: it never overflows, so both must agree. */
static void test_board_against_a_bitmap(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = &r->conn;
  uint32_t x = 99;
  rig_passive(r, RIG_SACK);
  c->snd_una = 0xfffffe00u; /* over the wrap */
  r->d.snd_max = c->snd_nxt = c->snd_una + 3200;
  uint32_t have = 0, base = c->snd_una;
  for (int i = 0; i < 50000; i++) {
    x = x * 1664525u + 1013904223u;
    uint32_t first = (x >> 8) % 32, n = (x >> 20) % 4 + 1;
    n = HS_MIN(n, 32 - first);
    struct tcp_seg_in s = {.segs = 1};
    struct tcp_sack_news news;
    s.hdr.ack = c->snd_una;
    s.hdr.opts.present = TCP_OPT_HAS_SACK;
    s.hdr.opts.n_sack = 1;
    s.hdr.opts.sack[0] = (struct tcp_sack){base + first * 100, base + (first + n) * 100};
    uint32_t mask = (uint32_t)(((1ull << n) - 1) << first);
    uint32_t una_cell = (c->snd_una - base) / 100;
    mask &= (uint32_t) ~((1ull << una_cell) - 1);
    tcp_sack_update(&r->env, c, &s, 0, &news, r->now);
    assert_int_equal(news.bytes, (uint32_t)__builtin_popcount(mask & ~have) * 100);
    have |= mask;
    assert_int_equal(tcp_sack_check(c), 0);
    assert_int_equal(c->b->board.bytes, (uint32_t)__builtin_popcount(have) * 100);
    for (uint32_t k = 0; k < 32; k++)
      assert_int_equal(tcp_sack_above(c, base + k * 100), (uint32_t)__builtin_popcount(have & ~((1u << k) - 1)) * 100);
    if (i % 7 == 0 && una_cell < 31 && !(have >> una_cell & 1)) { /* the first hole is filled */
      while (++una_cell < 32 && (have >> una_cell & 1)) {
      }
      c->snd_una = base + una_cell * 100;
      have &= (uint32_t) ~((1ull << una_cell) - 1);
      tcp_sack_acked(c);
    }
    if (c->snd_una == base + 3200 || i % 100 == 99) {
      c->snd_una = base;
      have = c->b->board.n = c->b->board.bytes = 0;
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_reneging),
      RIG_TEST(test_hostile_sack),
      RIG_TEST(test_board_overflow),
      RIG_TEST(test_board_full_is_no_loss),
      RIG_TEST(test_board_against_a_bitmap),
  };
  return cmocka_run_group_tests_name("tcp_board", tests, NULL, NULL);
}
