/*
 * Two workers of the library with a fake stack that pairs them: worker 0 connects, worker 1 listens and accepts. One
 * thread acts as both (vppcom_worker_index_set); nothing here waits for anything but the fake's answers.
 */
#ifndef HS_TESTS_CUT_RIG_H
#define HS_TESTS_CUT_RIG_H

#include "vcl_rig.h"

#include "abi/worker.h"

#include <sys/mman.h>
#include <sys/socket.h>

struct cut_rig {
  struct rig rig; /* first: rig_teardown's */
  pthread_t holder;
  pthread_mutex_t lock;
  pthread_cond_t cond;
  int up, stop;
  uint32_t l, c, s;
};

/** Whether the broker pairs workers from now on. */
static inline void cut_allow(struct cut_rig *r, int allowed) {
  fake_lock(&r->rig.fake);
  r->rig.fake.cut = allowed;
  fake_unlock(&r->rig.fake);
}

static inline void *cut_rig_hold(void *arg) {
  struct cut_rig *r = arg;
  int rc = vppcom_worker_register();
  pthread_mutex_lock(&r->lock);
  r->up = rc == 0 ? 1 : -1;
  pthread_cond_broadcast(&r->cond);
  while (!r->stop)
    pthread_cond_wait(&r->cond, &r->lock);
  pthread_mutex_unlock(&r->lock);
  return NULL;
}

static inline int cut_rig_setup(void **state) {
  struct cut_rig *r = calloc(1, sizeof *r);
  if (r == NULL || fake_start(&r->rig.fake) != 0)
    return -1;
  cut_allow(r, 1);
  *state = r;
  waiter_late_ms = RIG_LATE_MS;
  pthread_mutex_init(&r->lock, NULL);
  pthread_cond_init(&r->cond, NULL);
  if (vppcom_app_create("cut") != 0 || pthread_create(&r->holder, NULL, cut_rig_hold, r) != 0)
    return -1;
  pthread_mutex_lock(&r->lock);
  while (r->up == 0)
    pthread_cond_wait(&r->cond, &r->lock);
  pthread_mutex_unlock(&r->lock);
  return r->up == 1 ? 0 : -1;
}

static inline int cut_rig_teardown(void **state) {
  struct cut_rig *r = *state;
  vppcom_worker_index_set(0);
  pthread_mutex_lock(&r->lock);
  r->stop = 1;
  pthread_cond_broadcast(&r->cond);
  pthread_mutex_unlock(&r->lock);
  pthread_join(r->holder, NULL);
  return rig_teardown(state);
}

/** Acts as the worker that connects (0) or accepts (1) and takes whatever came. */
static inline void cut_as(int worker) {
  vcl_poll_t none = {.sh = ~0u};
  vppcom_worker_index_set(worker);
  (void)vppcom_poll(&none, 0, 0);
}

static inline uint32_t cut_listen(uint16_t port) {
  cut_as(1);
  uint32_t l = rig_listen(port, 1);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  return l;
}

static inline uint32_t cut_dial(uint16_t port) {
  cut_as(0);
  uint32_t c = rig_session(1);
  assert_int_equal(rig_connect(c, port), VPPCOM_EINPROGRESS);
  return c;
}

/** … from a port of its own choice, which other sessions may share. */
static inline uint32_t cut_dial_bound(uint16_t from, uint16_t port) {
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, from);
  uint32_t on = 1, len = sizeof on;
  cut_as(0);
  uint32_t c = rig_session(1);
  assert_int_equal(vppcom_session_attr(c, VPPCOM_ATTR_SET_REUSEPORT, &on, &len), 0);
  assert_int_equal(vppcom_session_bind(c, &ep), 0);
  assert_int_equal(rig_connect(c, port), VPPCOM_EINPROGRESS);
  return c;
}

/** The next connection of l. */
static inline uint32_t cut_accept(uint32_t l) {
  cut_as(1);
  assert_true((rig_wait(l, POLLIN) & POLLIN) != 0);
  int s = vppcom_session_accept(l, NULL, O_NONBLOCK);
  assert_true(s >= 0);
  return (uint32_t)s;
}

static inline void cut_open(struct cut_rig *r, uint16_t port) {
  r->l = cut_listen(port);
  r->c = cut_dial(port);
  r->s = cut_accept(r->l);
}

static inline void cut_close(struct cut_rig *r) {
  cut_as(0);
  (void)vppcom_session_close(r->c);
  cut_as(1);
  (void)vppcom_session_close(r->s);
  (void)vppcom_session_close(r->l);
  cut_as(0);
}

/** One side's segment of the newest pair, writable: what a hostile app can write. *g: its geometry. */
static inline uint8_t *cut_map(struct cut_rig *r, int side, struct abi_worker_geom *g) {
  fake_lock(&r->rig.fake);
  assert_true(r->rig.fake.n_pairs > 0);
  int fd = r->rig.fake.pair[r->rig.fake.n_pairs - 1].seg[side];
  fake_unlock(&r->rig.fake);
  struct abi_seg_hdr *hdr = mmap(NULL, sizeof *hdr, PROT_READ, MAP_SHARED, fd, 0);
  assert_true(hdr != MAP_FAILED);
  size_t size = (size_t)hdr->size;
  memcpy(g, hdr->geom, sizeof *g);
  munmap(hdr, sizeof *hdr);
  uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  assert_true(base != MAP_FAILED);
  return base;
}

#endif
