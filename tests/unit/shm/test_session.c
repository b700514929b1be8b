/*
 * Worker segments: default geometry is accepted, every damaged number is refused, slot and lane numbers are checked.
 *
 * Real memfds; needs no privileges. Geometry at random: tests/fuzz/fuzz_seg.c.
 */
#include "base/bits.h"
#include "base/err.h"
#include "shm/arena.h"
#include "shm/session.h"
#include "test.h"

#include <fcntl.h>
#include <unistd.h>

#define SLOTS 1000u
#define LANES 2u
#define ARENA (3ull * ABI_CHUNK_MAX)

static int make(uint32_t kind, void (*damage)(struct abi_worker_geom *, uint32_t), uint32_t how) {
  struct abi_worker_geom g;
  struct seg s;
  uint64_t geom[16];
  uint64_t size = worker_geom_make(&g, kind, 11, 22, SLOTS, LANES, ARENA);
  if (damage != NULL)
    damage(&g, how);
  memcpy(geom, &g, sizeof geom);
  assert_int_equal(seg_create(&s, "w", kind, kind, size, geom), 0);
  int fd = dup(s.fd);
  seg_detach(&s);
  return fd;
}

static void geometry_is_sound(void **state) {
  (void)state;
  for (uint32_t kind = ABI_SEG_ENGINE; kind <= ABI_SEG_APP; kind++)
    for (uint32_t n = 1; n <= 1u << 20; n = n * 3 + 1) {
      struct abi_worker_geom g;
      uint64_t size = worker_geom_make(&g, kind, 1, 2, n, ABI_LANES_MAX, 1);
      assert_true(g.n_slots == n && g.n_slots_app >= 1 && g.n_slots_app <= n);
      assert_true(bits_is_pow2(g.ring_cap) && g.ring_cap >= n);
      assert_int_equal(g.block_off, 4096);
      assert_true(g.rings_off >= g.block_off + sizeof(struct abi_worker_app));
      assert_true(g.slots_off >= g.rings_off + ABI_LANES_MAX * g.ring_cap * 4);
      uint64_t end = g.slots_off + n * 512ull;
      if (kind == ABI_SEG_APP) {
        assert_int_equal(g.meant_off, 0);
        assert_true(g.locks_off >= end && g.locks_size >= 65536 + arena_meta_size(g.arena_size));
        end = g.locks_off + g.locks_size;
      } else {
        assert_int_equal(g.locks_size, 0);
        assert_true(g.meant_off >= end && g.meant_off % ABI_CACHE_LINE == 0);
        end = g.meant_off + n * sizeof(struct abi_endpoint);
      }
      assert_true(g.arena_off >= end && g.arena_off % ABI_CHUNK_MAX == 0);
      assert_int_equal(g.arena_size, ABI_CHUNK_MAX);
      assert_int_equal(size, g.arena_off + g.arena_size);
    }
}

static void opens_and_checks_numbers(void **state) {
  (void)state;
  struct worker_view v;
  const char *why = NULL;
  int a = make(ABI_SEG_APP, NULL, 0), e = make(ABI_SEG_ENGINE, NULL, 0);
  assert_int_equal(worker_view_open(&v, a, SEG_RDWR, e, SEG_RDWR, &why), 0);
  assert_ptr_equal(v.app, v.seg_a.base + 4096);
  assert_ptr_equal(v.engine, v.seg_e.base + 4096);
  assert_int_equal((uint8_t *)worker_view_app(&v, SLOTS - 1) - (uint8_t *)worker_view_app(&v, 0), (SLOTS - 1) * 512);
  assert_null(worker_view_app(&v, SLOTS));
  assert_null(worker_view_engine(&v, SLOTS));
  assert_null(worker_view_engine(&v, UINT32_MAX));
  assert_non_null(worker_view_engine(&v, SLOTS - 1));
  assert_null(worker_view_meant(&v, SLOTS));
  assert_ptr_equal(worker_view_meant(&v, SLOTS - 1) - (SLOTS - 1), v.seg_e.base + v.ge.meant_off);
  assert_int_equal(worker_view_ring_app(&v, 1) - worker_view_ring_app(&v, 0), v.ga.ring_cap);
  assert_int_equal(worker_view_ring_engine(&v, 1) - worker_view_ring_engine(&v, 0), v.ge.ring_cap);
  assert_null(worker_view_ring_app(&v, LANES));
  assert_null(worker_view_ring_engine(&v, LANES));
  /* the last bytes of everything are there */
  memset(worker_view_app(&v, SLOTS - 1), 1, 512);
  memset(worker_view_engine(&v, SLOTS - 1), 1, 512);
  memset(worker_view_meant(&v, SLOTS - 1), 1, sizeof(struct abi_endpoint));
  assert_int_equal(*((uint8_t *)worker_view_meant(&v, 0) - 1), 1); /* side by side with the slots … */
  assert_int_equal(v.seg_e.base[v.ge.arena_off], 0);               /* … and short of the arena */
  memset(v.seg_a.base + v.ga.arena_off + v.ga.arena_size - 64, 1, 64);
  memset(v.seg_a.base + v.ga.locks_off + v.ga.locks_size - 64, 1, 64);
  worker_view_close(&v);
  worker_view_close(&v);
  assert_true(fcntl(a, F_GETFD) < 0 && fcntl(e, F_GETFD) < 0);
}

static void damage(struct abi_worker_geom *g, uint32_t how) {
  switch (how) {
  case 0:
    g->worker_id = 0;
    break;
  case 1:
    g->n_slots = 0;
    break;
  case 2:
    g->n_slots = (1u << 20) + 1;
    break;
  case 3:
    g->n_slots_app = SLOTS + 1;
    break;
  case 4:
    g->n_lanes = 0;
    break;
  case 5:
    g->n_lanes = ABI_LANES_MAX + 1;
    break;
  case 6:
    g->ring_cap = 512; /* less than the slots */
    break;
  case 7:
    g->ring_cap = 1025;
    break;
  case 8:
    g->ring_cap = 1ull << 40;
    break;
  case 9:
    g->block_off = 128; /* inside the header */
    break;
  case 10:
    g->block_off += 32;
    break;
  case 11:
    g->rings_off = UINT64_MAX - 63;
    break;
  case 12:
    g->slots_off = g->arena_off + g->arena_size - 512;
    break;
  case 13:
    g->arena_size = 0;
    break;
  case 14:
    g->arena_size += ABI_CHUNK_MAX;
    break;
  case 15:
    g->arena_size -= 4096;
    break;
  case 16:
    g->arena_off += 4096;
    break;
  case 17: /* only the partner differs from here on */
    g->worker_id++;
    break;
  case 18:
    g->app_id++;
    break;
  case 19:
    g->n_slots--;
    break;
  case 20:
    g->n_slots_app--;
    break;
  case 21:
    g->n_lanes--;
    break;
  case 22:
    g->ring_cap *= 2;
    g->n_lanes /= 2;
    break;
  case 23: /* E only; 0 is an older broker's */
    g->meant_off = g->arena_off + g->arena_size - 64;
    break;
  default:
    g->locks_off = UINT64_MAX - 4095; /* A only */
    break;
  }
}

static void refuses_damage(void **state) {
  (void)state;
  for (uint32_t how = 0; how <= 24; how++)
    for (int side = 0; side < 2; side++) {
      struct worker_view v;
      const char *why = NULL;
      int a = make(ABI_SEG_APP, side == 0 ? damage : NULL, how);
      int e = make(ABI_SEG_ENGINE, side == 1 ? damage : NULL, how);
      int rc = worker_view_open(&v, a, SEG_RDONLY, e, SEG_RDWR, &why);
      if (how == 14 && side == 0) { /* room for parts, as far as anybody knows here: zeros */
        assert_int_equal(rc, 0);
        assert_int_equal(v.seg_a.size, v.seg_a.file + ABI_CHUNK_MAX);
        assert_int_equal(v.seg_a.base[v.seg_a.file], 0);
        worker_view_close(&v);
        continue;
      }
      if (how >= 23 && side == (how == 24)) {
        assert_int_equal(rc, 0);
        worker_view_close(&v);
        continue;
      }
      if (rc != -EPROTO)
        fail_msg("damage %u of side %d gave %d", how, side, rc);
      assert_non_null(why);
      assert_true(fcntl(a, F_GETFD) < 0 && fcntl(e, F_GETFD) < 0);
    }
}

static void refuses_wrong_kinds(void **state) {
  (void)state;
  struct worker_view v;
  const char *why = NULL;
  int a = make(ABI_SEG_APP, NULL, 0), e = make(ABI_SEG_ENGINE, NULL, 0);
  assert_int_equal(worker_view_open(&v, e, SEG_RDONLY, a, SEG_RDONLY, &why), -EPROTO);
  assert_string_equal(why, "kind");
  assert_true(fcntl(a, F_GETFD) < 0 && fcntl(e, F_GETFD) < 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(geometry_is_sound),
      cmocka_unit_test(opens_and_checks_numbers),
      cmocka_unit_test(refuses_damage),
      cmocka_unit_test(refuses_wrong_kinds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
