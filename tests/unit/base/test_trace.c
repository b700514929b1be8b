/*
 * Trace ring: order, overwriting, JSON form, several threads at once.
 */
#include "base/trace.h"
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void off_costs_nothing_and_keeps_nothing(void **state) {
  (void)state;
  struct trace_rec r;
  TRACE(tcp_rto, 1, 2, 3, 4);
  trace_put(TRACE_tcp_rto, 1, 2, 3, 4);
  assert_int_equal(trace_read(&r, 1), 0);
  assert_int_equal(trace_dump(1, 10), 0);
  assert_int_equal(trace_start(1), -EINVAL);
  assert_int_equal(trace_start((1u << 20) + 1), -EINVAL);
}

static void newest_in_order(void **state) {
  (void)state;
  struct trace_rec r[200];
  assert_int_equal(trace_start(100), 0); /* 128 */
  for (unsigned i = 0; i < 1000; i++) {
    trace_set_now(5000 + i);
    TRACE(tcp_rto, i, 2, 3, 4);
  }
  trace_stop();
  TRACE(tcp_rto, 7777, 0, 0, 0);
  assert_int_equal(trace_read(r, 200), 128);
  for (unsigned i = 0; i < 128; i++) {
    assert_int_equal(r[i].arg[0], 872 + i);
    assert_int_equal(r[i].time, 5872 + i);
    assert_int_equal(r[i].seq, 873 + i);
    assert_int_equal(r[i].id, TRACE_tcp_rto);
  }
  assert_int_equal(trace_read(r, 3), 3);
  assert_int_equal(r[2].arg[0], 999);
  trace_free();
}

static void json_has_the_names(void **state) {
  (void)state;
  struct trace_rec r = {.seq = 3, .time = 17, .id = TRACE_tcp_rto, .arg = {1, 2, UINT64_MAX, 4}};
  char buf[512];
  int n = trace_format(&r, buf, sizeof buf);
  assert_true(n > 0);
  assert_string_equal(buf, "{\"seq\":3,\"time_us\":17,\"event\":\"tcp_rto\",\"conn\":1,\"seq\":2,"
                           "\"rto_us\":18446744073709551615,\"backoff\":4}");
  assert_int_equal(trace_format(&r, buf, 20), -ENOSPC);
  r.id = 4711;
  assert_true(trace_format(&r, buf, sizeof buf) > 0);
  assert_non_null(strstr(buf, "unknown"));
  assert_string_equal(trace_name(TRACE_sess_state), "sess_state");
  assert_null(trace_name(TRACE_N_EVENTS));
}

static void dump_writes_lines(void **state) {
  (void)state;
  int fd[2];
  char buf[4096];
  assert_int_equal(pipe(fd), 0);
  assert_int_equal(trace_start(64), 0);
  for (unsigned i = 0; i < 5; i++)
    TRACE(peer_gone, i, 0, 0, 0);
  assert_int_equal(trace_dump(fd[1], 3), 3);
  ssize_t n = read(fd[0], buf, sizeof buf - 1);
  assert_true(n > 0);
  buf[n] = 0;
  assert_null(strstr(buf, "\"peer\":1,"));
  assert_non_null(strstr(buf, "\"peer\":2,"));
  assert_non_null(strstr(buf, "\"peer\":4,"));
  close(fd[0]);
  assert_true(trace_dump(-1, 3) < 0);
  close(fd[1]);
  trace_stop();
  trace_free();
}

static void *writer(void *arg) {
  for (unsigned i = 0; i < 20000; i++)
    TRACE(tcp_rtt, (uintptr_t)arg, i, i * 3, i * 7);
  return NULL;
}

static void threads_never_mix_records(void **state) {
  (void)state;
  pthread_t th[3];
  struct trace_rec *r = calloc(256, sizeof *r);
  assert_non_null(r);
  assert_int_equal(trace_start(256), 0);
  for (uintptr_t i = 0; i < 3; i++)
    assert_int_equal(pthread_create(&th[i], NULL, writer, (void *)i), 0);
  for (unsigned round = 0; round < 200; round++) {
    size_t n = trace_read(r, 256);
    for (size_t i = 0; i < n; i++) {
      assert_true(r[i].arg[0] < 3);
      assert_int_equal(r[i].arg[2], r[i].arg[1] * 3);
      assert_int_equal(r[i].arg[3], r[i].arg[1] * 7);
    }
  }
  for (unsigned i = 0; i < 3; i++)
    pthread_join(th[i], NULL);
  trace_stop();
  assert_in_range(trace_read(r, 256), 200, 256); /* a few may have been dropped */
  trace_free();
  free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(off_costs_nothing_and_keeps_nothing),
      cmocka_unit_test(newest_in_order),
      cmocka_unit_test(json_has_the_names),
      cmocka_unit_test(dump_writes_lines),
      cmocka_unit_test(threads_never_mix_records),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
