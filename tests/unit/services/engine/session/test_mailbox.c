/*
 * Mailbox between two threads: everything posted is run, once and in order.
 */
#include "session/mailbox.h"
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define POSTS 20000u

struct tally {
  uint32_t next;
  int wrong;
};
static struct tally tally;

static void count(struct worker *w, void *arg) {
  (void)w;
  tally.wrong |= (uint32_t)(uintptr_t)arg != tally.next;
  tally.next++;
}

static void *poster(void *arg) {
  for (uint32_t i = 0; i < POSTS; i++)
    if (mailbox_post(arg, count, (void *)(uintptr_t)i) < 0)
      return arg;
  return NULL;
}

static void test_two_threads(void **state) {
  (void)state;
  struct mailbox m;
  pthread_t t;
  void *failed;
  tally = (struct tally){0};
  assert_int_equal(mailbox_init(&m), 0);
  assert_int_equal(mailbox_run(&m, NULL), 0);
  assert_int_equal(pthread_create(&t, NULL, poster, &m), 0);
  while (tally.next < POSTS) {
    struct pollfd p = {.fd = m.bell, .events = POLLIN};
    uint64_t n;
    assert_int_equal(poll(&p, 1, 10000), 1); /* a post always rings */
    assert_int_equal(read(m.bell, &n, sizeof n), sizeof n);
    (void)mailbox_run(&m, NULL);
  }
  assert_int_equal(pthread_join(t, &failed), 0);
  assert_null(failed);
  assert_int_equal(tally.wrong, 0);
  mailbox_fini(&m);
}

static void copied(struct worker *w, void *arg) {
  (void)w;
  tally.next += *(const uint32_t *)arg;
}

/* The note is the mail's own; only so many may wait. */
static void test_copies(void **state) {
  (void)state;
  struct mailbox m;
  uint32_t note = 5;
  tally = (struct tally){0};
  assert_int_equal(mailbox_init(&m), 0);
  assert_int_equal(mailbox_post_copy(&m, copied, &note, sizeof note), 0);
  note = 7;
  assert_int_equal(mailbox_post_copy(&m, copied, &note, sizeof note), 0);
  note = 0;
  assert_int_equal(mailbox_run(&m, NULL), 2);
  assert_int_equal(tally.next, 12);
  for (uint32_t i = 0; i < MAILBOX_COPIES; i++)
    assert_int_equal(mailbox_post_copy(&m, copied, &note, sizeof note), 0);
  assert_int_equal(mailbox_post_copy(&m, copied, &note, sizeof note), -ENOBUFS);
  assert_int_equal(mailbox_run(&m, NULL), MAILBOX_COPIES);
  assert_int_equal(mailbox_post_copy(&m, copied, &note, sizeof note), 0);
  mailbox_fini(&m);
}

static void test_fini_frees_unread(void **state) {
  (void)state;
  struct mailbox m;
  assert_int_equal(mailbox_init(&m), 0);
  assert_true(mailbox_post(&m, count, NULL) >= 0);
  mailbox_fini(&m); /* the leak checker watches */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_threads), cmocka_unit_test(test_copies),
                                     cmocka_unit_test(test_fini_frees_unread)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
