/*
 * The small headers of base: bits, err, clock, list, rng, bytes, bug.
 */
#include "base/bits.h"
#include "base/bug.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/rng.h"
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void bits_round_and_compare(void **state) {
  (void)state;
  assert_int_equal(bits_pow2_up(0), 1);
  assert_int_equal(bits_pow2_up(1), 1);
  assert_int_equal(bits_pow2_up(3), 4);
  assert_int_equal(bits_pow2_up(4), 4);
  assert_true(bits_pow2_up((1ull << 63) - 1) == 1ull << 63);
  assert_false(bits_is_pow2(0));
  assert_true(bits_is_pow2(1ull << 40));
  assert_false(bits_is_pow2(6));
  assert_int_equal(bits_log2(1), 0);
  assert_int_equal(bits_log2(UINT64_MAX), 63);
  assert_int_equal(bits_align_up(65, 64), 128);
  assert_int_equal(bits_align_down(127, 64), 64);
  assert_int_equal(bits_div_up(10, 5), 2);
  assert_int_equal(bits_div_up(11, 5), 3);
  int calls = 0;
  assert_int_equal(HS_MAX(calls++, -1), 0); /* each argument once */
  assert_int_equal(calls, 1);
  assert_int_equal(HS_CLAMP(7, 1, 5), 5);
  assert_int_equal(HS_CLAMP(-7, 1, 5), 1);
  int a[3];
  assert_int_equal(ARRAY_LEN(a), 3);
}

static void bytes_order_and_sequence(void **state) {
  (void)state;
  const uint8_t p[4] = {0x12, 0x34, 0x56, 0x78};
  uint8_t q[4];
  assert_int_equal(load_be16(p), 0x1234);
  assert_int_equal(load_be32(p), 0x12345678);
  store_be32(q, 0x12345678);
  assert_memory_equal(p, q, 4);
  assert_int_equal(be16_get(be16_from(0xabcd)), 0xabcd);
  assert_true(seq_lt(0xfffffff0u, 5));
  assert_false(seq_lt(5, 0xfffffff0u));
  assert_true(seq_geq(5, 5));
}

static void err_names(void **state) {
  (void)state;
  assert_string_equal(err_name(-ECONNREFUSED), "ECONNREFUSED");
  assert_string_equal(err_name(ENOMEM), "ENOMEM");
  assert_string_equal(err_name(0), "OK");
  assert_string_equal(err_name(-100000), "EUNKNOWN");
  assert_string_equal(err_name(INT32_MIN), "EUNKNOWN");
  assert_non_null(err_text(-EPERM));
  assert_non_null(err_text(INT32_MIN));
  errno = ENOENT;
  assert_int_equal(err_last(), -ENOENT);
  errno = 0;
  assert_int_equal(err_last(), -EIO);
}

static void clock_goes_forward(void **state) {
  (void)state;
  usec_t a = clock_now_us(), b = clock_now_us();
  assert_true(b >= a && a > 0);
  assert_true(clock_wall_us() > 1700000000ull * CLOCK_US_PER_S);
}

struct item {
  int n;
  struct list link;
};

static int list_sum_digits(const struct list *head) {
  int sum = 0;
  struct list *pos;
  list_for_each(pos, head) sum = sum * 10 + list_entry(pos, struct item, link)->n;
  return sum;
}

static void list_keeps_order(void **state) {
  (void)state;
  struct list a, b, *pos, *tmp;
  struct item it[6];
  memset(it, 0, sizeof it);
  list_init(&a);
  list_init(&b);
  assert_true(list_empty(&a));
  assert_null(list_first(&a));
  assert_null(list_pop_head(&a));
  for (int i = 0; i < 6; i++) {
    it[i].n = i + 1;
    assert_false(list_linked(&it[i].link));
    if (i < 3)
      list_add_tail(&a, &it[i].link);
    else
      list_add_head(&b, &it[i].link);
  }
  assert_int_equal(list_sum_digits(&a), 123);
  assert_int_equal(list_sum_digits(&b), 654);
  list_splice_tail(&a, &b);
  assert_true(list_empty(&b));
  list_splice_tail(&a, &b); /* nothing to move */
  assert_int_equal(list_sum_digits(&a), 123654);
  list_del(&it[5].link);
  list_del(&it[5].link); /* harmless */
  assert_false(list_linked(&it[5].link));
  list_add_before(&it[0].link, &it[5].link);
  assert_int_equal(list_sum_digits(&a), 612354);
  assert_ptr_equal(list_last(&a), &it[3].link);
  list_for_each_safe(pos, tmp, &a) if (list_entry(pos, struct item, link)->n % 2 == 0) list_del(pos);
  assert_int_equal(list_sum_digits(&a), 135);
  assert_ptr_equal(list_pop_head(&a), &it[0].link);
  list_add_after(&it[2].link, &it[0].link);
  assert_int_equal(list_sum_digits(&a), 315);
}

static void rng_repeats_and_spreads(void **state) {
  (void)state;
  struct rng a, b, c;
  rng_init(&a, 1);
  rng_init(&b, 1);
  rng_init(&c, 2);
  int equal = 0;
  unsigned hist[7] = {0};
  for (int i = 0; i < 7000; i++) {
    uint64_t x = rng_u64(&a);
    assert_true(x == rng_u64(&b));
    equal += x == rng_u64(&c);
    hist[rng_below(&c, 7)]++;
    double u = rng_unit(&c);
    assert_true(u >= 0 && u < 1);
    uint64_t r = rng_range(&c, 10, 12);
    assert_true(r >= 10 && r <= 12);
  }
  assert_int_equal(equal, 0);
  for (int i = 0; i < 7; i++)
    assert_in_range(hist[i], 800, 1200);
  assert_int_equal(rng_below(&a, 0), 0);
  assert_int_equal(rng_below(&a, 1), 0);
  assert_true(rng_range(&a, 5, 5) == 5);
  unsigned hits = 0;
  for (int i = 0; i < 100000; i++)
    hits += (unsigned)rng_chance_ppm(&a, 100000);
  assert_in_range(hits, 9500, 10500);
  assert_false(rng_chance_ppm(&a, 0));
  assert_true(rng_chance_ppm(&a, 1000000));
}

static void rng_fills(void **state) {
  (void)state;
  struct rng r;
  uint8_t a[37] = {0}, b[37] = {0}, guard[40];
  rng_init(&r, 9);
  memset(guard, 0x5a, sizeof guard);
  rng_fill(&r, guard, 37);
  assert_int_equal(guard[37], 0x5a);
  assert_int_equal(rng_secure(a, sizeof a), 0);
  assert_int_equal(rng_secure(b, sizeof b), 0);
  assert_memory_not_equal(a, b, sizeof a);
}

static void bug_aborts_with_place(void **state) {
  (void)state;
  int fd[2];
  char text[256] = {0};
  assert_int_equal(pipe(fd), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGABRT, SIG_DFL);
    dup2(fd[1], STDERR_FILENO);
    BUG_ON(1 + 1 == 3);
    BUG_ON(1 + 1 == 2);
    _exit(0);
  }
  close(fd[1]);
  ssize_t n = read(fd[0], text, sizeof text - 1);
  close(fd[0]);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  assert_true(n > 0);
  assert_non_null(strstr(text, "test_small.c"));
  assert_non_null(strstr(text, "1 + 1 == 2"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bits_round_and_compare),
      cmocka_unit_test(bytes_order_and_sequence),
      cmocka_unit_test(err_names),
      cmocka_unit_test(clock_goes_forward),
      cmocka_unit_test(list_keeps_order),
      cmocka_unit_test(rng_repeats_and_spreads),
      cmocka_unit_test(rng_fills),
      cmocka_unit_test(bug_aborts_with_place),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
