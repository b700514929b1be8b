/*
 * Stats pages: a restart goes on counting, also with another list of counters; a reader survives a lying page.
 *
 * Real memfds; writer and reader in one process.
 */
#include "base/err.h"
#include "shm/stats.h"
#include "test.h"

#include <stdio.h>

static const struct abi_stat_desc first[] = {
    {.name = "a.in", .help = "in"}, {.name = "b.out"}, {.name = "g", .kind = 1}};
static const struct abi_stat_desc second[] = {{.name = "g", .kind = 1}, {.name = "new"}, {.name = "a.in"}};

static void page(struct seg *s) {
  struct abi_stats_geom g;
  uint64_t geom[16];
  uint64_t size = stats_geom_make(&g);
  memcpy(geom, &g, sizeof geom);
  assert_int_equal(seg_create(s, "stats", ABI_SEG_STATS, 9, size, geom), 0);
}

static void goes_on_counting(void **state) {
  (void)state;
  struct seg s;
  struct abi_stat_desc d;
  uint64_t v;
  page(&s);
  uint64_t *value = stats_open(&s, 2, first, 3);
  assert_non_null(value);
  value[0] = 5;
  value[1] = 6;
  value[2] = 7;
  assert_int_equal(stats_read(&s, 0, &d, &v), 0);
  assert_string_equal(d.name, "a.in");
  assert_string_equal(d.help, "in");
  assert_int_equal(v, 5);
  assert_int_equal(stats_read(&s, 3, &d, &v), -ENOENT);
  value = stats_open(&s, 2, first, 3);
  assert_int_equal(value[0], 5);
  assert_int_equal(value[1], 6);
  assert_int_equal(value[2], 0); /* a gauge is measured anew */
  value = stats_open(&s, 2, second, 3);
  assert_int_equal(value[0], 0);
  assert_int_equal(value[1], 0);
  assert_int_equal(value[2], 5);
  assert_int_equal(stats_read(&s, 2, &d, &v), 0);
  assert_string_equal(d.name, "a.in");
  const struct abi_stats *p = (const struct abi_stats *)(const void *)(s.base + s.geom[0]);
  assert_int_equal(p->epoch, 3);
  assert_int_equal(p->service, 2);
  seg_detach(&s);
}

static void refuses(void **state) {
  (void)state;
  static struct abi_stat_desc many[ABI_STATS_MAX];
  struct seg s;
  struct abi_stat_desc d;
  uint64_t v;
  page(&s);
  for (uint32_t i = 0; i < ABI_STATS_MAX; i++)
    snprintf(many[i].name, sizeof many[i].name, "c%u", i);
  assert_null(stats_open(&s, 1, many, ABI_STATS_MAX + 1));
  assert_non_null(stats_open(&s, 1, many, ABI_STATS_MAX));
  assert_int_equal(stats_read(&s, ABI_STATS_MAX - 1, &d, &v), 0);
  struct abi_stats *p = (struct abi_stats *)(void *)(s.base + s.geom[0]);
  p->n = UINT32_MAX;
  assert_int_equal(stats_read(&s, ABI_STATS_MAX, &d, &v), -ENOENT);
  memset(p->desc, 'x', sizeof p->desc[0]);
  assert_int_equal(stats_read(&s, 0, &d, &v), 0);
  assert_int_equal(strlen(d.name), sizeof d.name - 1);
  assert_int_equal(strlen(d.help), sizeof d.help - 1);
  s.geom[0] = s.size - 64;
  assert_int_equal(stats_read(&s, 0, &d, &v), -ENOENT);
  s.geom[0] = 8;
  assert_null(stats_open(&s, 1, many, 1));
  seg_detach(&s);
}

static void read_only_page_is_not_opened(void **state) {
  (void)state;
  struct seg s, r;
  struct abi_stat_desc d;
  uint64_t v;
  page(&s);
  stats_open(&s, 4, first, 2)[1] = 3;
  assert_int_equal(seg_attach(&r, seg_reopen_rdonly(&s), ABI_SEG_STATS, SEG_RDONLY, NULL), 0);
  assert_null(stats_open(&r, 4, first, 2));
  assert_int_equal(stats_read(&r, 1, &d, &v), 0);
  assert_int_equal(v, 3);
  seg_detach(&r);
  seg_detach(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(goes_on_counting),
      cmocka_unit_test(refuses),
      cmocka_unit_test(read_only_page_is_not_opened),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
