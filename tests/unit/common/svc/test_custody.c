/*
 * Custody client against a broker's end in the same process: vault, Hello in parts, Return, and what is said again to
 * the next broker.
 */
#include "abi/registry.h"
#include "abi/seg.h"
#include "base/err.h"
#include "svc/custody.h"
#include "svc/custody_msg.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef Hoststack__Custody__Message msg;

/** The broker's end, and what the client's callbacks saw. */
struct rig {
  char dir[64], path[100];
  struct loop *l;
  int listener;
  struct chan *ch;
  struct custody *c;
  unsigned hellos, have, vaulted, returned, deposits, seen, live, drained, lied;
  uint64_t last_vaulted, last_returned, last_worker;
  unsigned items, drops, readies, policies, deads, items_at_vaulted;
  uint32_t last_gen;
  int refuse; /* what the item callback says */
  char why[100];
};

static void b_msg(void *ctx, const uint8_t *buf, size_t len, int *fds, int n_fds) {
  struct rig *r = ctx;
  msg *m = hoststack__custody__message__unpack(NULL, len, buf);
  assert_non_null(m);
  switch (m->body_case) {
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_HELLO:
    assert_int_equal(m->hello->service, CUSTODY_ENGINE);
    assert_int_equal(m->hello->pid, getpid());
    assert_int_equal(m->hello->abi_major, ABI_MAJOR);
    r->have += (unsigned)m->hello->n_have;
    r->hellos += m->hello->more ? 0 : 1;
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_VAULTED:
    r->vaulted++;
    r->last_vaulted = m->vaulted->id;
    r->items_at_vaulted = r->items;
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_RETURN:
    assert_int_equal(n_fds, 1);
    r->returned++;
    r->last_returned = m->return_->item->id;
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_DEPOSIT:
    assert_int_equal(n_fds, 1);
    assert_int_equal(m->deposit->item->owner, 3);
    r->deposits++;
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_POLICY_SEEN:
    r->seen++;
    r->last_gen = m->policy_seen->gen;
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_LIVE:
    r->live++;
    r->last_worker = m->worker_live->worker_id;
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_DRAINED:
    r->drained++;
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_LIED:
    r->lied++;
    snprintf(r->why, sizeof r->why, "%s", m->worker_lied->why);
    break;
  default:
    fail();
  }
  for (int i = 0; i < n_fds; i++)
    close(fds[i]);
  hoststack__custody__message__free_unpacked(m, NULL);
}

static void b_closed(void *ctx, int why) {
  struct rig *r = ctx;
  (void)why;
  chan_free(r->ch);
  r->ch = NULL;
}

static const struct chan_ops b_ops = {.msg = b_msg, .closed = b_closed};

static void b_accept(void *ctx, int fd, uint32_t events) {
  struct rig *r = ctx;
  (void)events;
  int s = attach_accept(fd);
  assert_true(s >= 0);
  assert_int_equal(chan_new(&r->ch, r->l, s, 1, CUSTODY_QUEUE, &b_ops, r), 0);
}

static void b_listen(struct rig *r) {
  r->listener = attach_listen(r->path, 0600, 4);
  assert_true(r->listener >= 0);
  assert_int_equal(loop_add_fd(r->l, r->listener, EPOLLIN, b_accept, r), 0);
}

/** The broker dies. */
static void b_die(struct rig *r) {
  loop_del_fd(r->l, r->listener);
  close(r->listener);
  chan_free(r->ch);
  r->ch = NULL;
}

static int c_item(void *ctx, const struct custody_item *it) {
  struct rig *r = ctx;
  assert_true(it->fd >= 0);
  r->items++;
  return r->refuse;
}
static void c_drop(void *ctx, const struct custody_item *it) {
  struct rig *r = ctx;
  assert_true(it->fd >= 0);
  r->drops++;
}
static void c_ready(void *ctx, uint32_t epoch) {
  struct rig *r = ctx;
  assert_int_equal(epoch, 9);
  r->readies++;
}
static void c_policy(void *ctx, uint32_t gen) {
  struct rig *r = ctx;
  r->policies++;
  assert_int_equal(custody_policy_seen(r->c, gen), 0);
}
static void c_dead(void *ctx, uint64_t worker_id) {
  struct rig *r = ctx;
  assert_int_equal(worker_id, 77);
  r->deads++;
}
static const struct custody_ops c_ops = {
    .item = c_item, .drop = c_drop, .ready = c_ready, .policy = c_policy, .worker_dead = c_dead};

static int setup(void **state) {
  struct rig *r = calloc(1, sizeof *r);
  snprintf(r->dir, sizeof r->dir, "/tmp/hs-custody-test.XXXXXX");
  assert_non_null(mkdtemp(r->dir));
  snprintf(r->path, sizeof r->path, "%s/custody", r->dir);
  assert_int_equal(loop_new(&r->l), 0);
  /* The client first: it waits for a broker. */
  assert_int_equal(custody_new(&r->c, r->l, r->path, CUSTODY_ENGINE, &c_ops, r), 0);
  assert_true(loop_turn(r->l, 50) >= 0);
  b_listen(r);
  *state = r;
  return 0;
}

static int teardown(void **state) {
  struct rig *r = *state;
  custody_free(r->c);
  b_die(r);
  loop_free(r->l);
  unlink(r->path);
  rmdir(r->dir);
  free(r);
  return 0;
}

static void until(struct rig *r, const unsigned *word, unsigned want) {
  for (unsigned i = 0; *word < want; i++) {
    assert_true(i < 10000);
    assert_true(loop_turn(r->l, 50) >= 0);
  }
}

static void give(struct rig *r, uint64_t id, uint32_t kind, uint32_t seg_kind, uint64_t owner) {
  struct custody_item it = {.id = id, .kind = kind, .seg_kind = seg_kind, .owner = owner, .size = 4096};
  Hoststack__Custody__Item pb;
  Hoststack__Custody__Give g = HOSTSTACK__CUSTODY__GIVE__INIT;
  msg m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  int fd = eventfd(0, EFD_CLOEXEC);
  custody_msg_from_item(&pb, &it);
  g.item = &pb;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_GIVE;
  m.give = &g;
  assert_int_equal(custody_msg_send(r->ch, &m, fd), 0);
  close(fd);
}

static void welcome(struct rig *r, uint64_t *need, size_t n) {
  Hoststack__Custody__Welcome w = HOSTSTACK__CUSTODY__WELCOME__INIT;
  msg m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  w.broker_epoch = 9;
  w.need = need;
  w.n_need = n;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_WELCOME;
  m.welcome = &w;
  assert_int_equal(custody_msg_send(r->ch, &m, -1), 0);
}

static void ready(struct rig *r) {
  Hoststack__Custody__Ready rd = HOSTSTACK__CUSTODY__READY__INIT;
  msg m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_READY;
  m.ready = &rd;
  assert_int_equal(custody_msg_send(r->ch, &m, -1), 0);
}

static void drop(struct rig *r, uint64_t id) {
  Hoststack__Custody__Drop d = HOSTSTACK__CUSTODY__DROP__INIT;
  msg m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  d.id = &id;
  d.n_id = 1;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_DROP;
  m.drop = &d;
  assert_int_equal(custody_msg_send(r->ch, &m, -1), 0);
}

static int n_open(void) {
  DIR *d = opendir("/proc/self/fd");
  int n = 0;
  while (readdir(d) != NULL)
    n++;
  closedir(d);
  return n;
}

static void test_give_drop(void **state) {
  struct rig *r = *state;
  until(r, &r->hellos, 1);
  assert_int_equal(r->have, 0);
  int before = n_open();
  give(r, 5, ABI_ITEM_SEG, ABI_SEG_TCB, 0);
  until(r, &r->vaulted, 1);
  assert_int_equal(r->last_vaulted, 5);
  assert_int_equal(r->items_at_vaulted, 1); /* the callback came before Vaulted */
  give(r, 5, ABI_ITEM_SEG, ABI_SEG_TCB, 0);
  until(r, &r->vaulted, 2);
  assert_int_equal(r->items, 1); /* said twice, held once */
  assert_int_equal(n_open(), before + 1);
  const struct custody_item *it = custody_find(r->c, ABI_ITEM_SEG, ABI_SEG_TCB, 0);
  assert_non_null(it);
  assert_int_equal(it->size, 4096);
  drop(r, 4);
  drop(r, 5);
  until(r, &r->drops, 1);
  assert_null(custody_find(r->c, ABI_ITEM_SEG, ABI_SEG_TCB, 0));
  assert_int_equal(n_open(), before);
}

/** What the service can't use is let go of, and the broker doesn't hear that it came, now or in the next Hello. */
static void test_refused(void **state) {
  struct rig *r = *state;
  until(r, &r->hellos, 1);
  int before = n_open();
  r->refuse = -ENOMEM;
  give(r, 5, ABI_ITEM_SEG, ABI_SEG_PART, 77);
  until(r, &r->items, 1);
  r->refuse = 0;
  give(r, 6, ABI_ITEM_SEG, ABI_SEG_PART, 77);
  until(r, &r->vaulted, 1);
  assert_int_equal(r->last_vaulted, 6);
  assert_int_equal(n_open(), before + 1);
  b_die(r);
  b_listen(r);
  until(r, &r->hellos, 2);
  assert_int_equal(r->have, 1);
  give(r, 5, ABI_ITEM_SEG, ABI_SEG_PART, 77);
  until(r, &r->vaulted, 2);
  assert_int_equal(r->last_vaulted, 5);
}

static void test_next_broker(void **state) {
  struct rig *r = *state;
  uint64_t need[] = {99, 7};
  until(r, &r->hellos, 1);
  give(r, 6, ABI_ITEM_SEG, ABI_SEG_ENGINE, 77);
  give(r, 7, ABI_ITEM_SEG, ABI_SEG_APP, 77);
  until(r, &r->vaulted, 2);
  /* Facts said before Ready wait for it. */
  assert_int_equal(custody_worker_live(r->c, 77), 0);
  assert_int_equal(custody_policy_seen(r->c, 3), 0);
  int fd = eventfd(0, EFD_CLOEXEC);
  assert_int_equal(custody_deposit(r->c, ABI_ITEM_PORT, 3, fd), 0);
  close(fd);
  assert_int_equal(r->live + r->seen + r->deposits, 0);
  welcome(r, NULL, 0);
  ready(r);
  until(r, &r->seen, 1);
  assert_int_equal(r->readies, 1);
  assert_int_equal(r->live, 1);
  assert_int_equal(r->deposits, 1);
  assert_int_equal(custody_worker_lied(r->c, 77, "it scribbled"), 0);
  until(r, &r->lied, 1);
  assert_string_equal(r->why, "it scribbled");
  /* The broker dies; the next one is shown the vault and hears everything again. */
  b_die(r);
  assert_int_equal(custody_worker_drained(r->c, 77), 0);
  b_listen(r);
  until(r, &r->hellos, 2);
  assert_int_equal(r->have, 2);
  welcome(r, need, 2);
  until(r, &r->returned, 1);
  assert_int_equal(r->last_returned, 7);
  assert_int_equal(r->drained, 0);
  ready(r);
  until(r, &r->seen, 2);
  assert_int_equal(r->readies, 2);
  assert_int_equal(r->live, 1); /* drained: no longer said to live */
  assert_int_equal(r->drained, 1);
  assert_int_equal(r->lied, 2);
  assert_int_equal(r->deposits, 2); /* it has not come back as an item */
  give(r, 8, ABI_ITEM_PORT, 0, 3);
  drop(r, 7); /* the worker is gone: nothing is said of it any more */
  until(r, &r->drops, 1);
  b_die(r);
  b_listen(r);
  until(r, &r->hellos, 3);
  welcome(r, NULL, 0);
  ready(r);
  until(r, &r->seen, 3);
  assert_int_equal(r->drained, 1);
  assert_int_equal(r->lied, 2);
  assert_int_equal(r->deposits, 2);
}

static void test_callbacks(void **state) {
  struct rig *r = *state;
  Hoststack__Custody__PolicyGen pg = HOSTSTACK__CUSTODY__POLICY_GEN__INIT;
  Hoststack__Custody__WorkerDead wd = HOSTSTACK__CUSTODY__WORKER_DEAD__INIT;
  msg m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  until(r, &r->hellos, 1);
  welcome(r, NULL, 0);
  ready(r);
  pg.gen = 12;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_POLICY_GEN;
  m.policy_gen = &pg;
  assert_int_equal(custody_msg_send(r->ch, &m, -1), 0);
  wd.worker_id = 77;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_DEAD;
  m.worker_dead = &wd;
  assert_int_equal(custody_msg_send(r->ch, &m, -1), 0);
  until(r, &r->seen, 1);
  until(r, &r->deads, 1);
  assert_int_equal(r->last_gen, 12);
  /* Noise does not hurt it. */
  assert_int_equal(chan_send(r->ch, "\xff\xff\xff", 3, NULL, 0), 0);
  give(r, 1, ABI_ITEM_BELL, 0, 2);
  until(r, &r->vaulted, 1);
}

static void count_items(void *ctx, const struct custody_item *it) {
  (void)it;
  ++*(unsigned *)ctx;
}

static void test_many(void **state) {
  struct rig *r = *state;
  unsigned n = 0;
  enum { MANY = 2500 };
  until(r, &r->hellos, 1);
  for (uint64_t id = 1; id <= MANY; id++) {
    give(r, id, ABI_ITEM_BELL, 0, id);
    if (id % 100 == 0) /* what is under way counts as open files of this process */
      until(r, &r->vaulted, (unsigned)id);
  }
  custody_each(r->c, count_items, &n);
  assert_int_equal(n, MANY);
  b_die(r);
  b_listen(r);
  until(r, &r->hellos, 2);
  assert_int_equal(r->have, MANY);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  const struct CMUnitTest tests[] = {T(test_give_drop), T(test_refused), T(test_next_broker), T(test_callbacks),
                                     T(test_many)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
