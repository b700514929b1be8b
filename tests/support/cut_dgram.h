/*
 * Datagram sockets of cut_rig.h's two workers: worker 1 receives, worker 0 sends, branches of a pair carry what goes
 * between them. test_branch.c (connected senders) and test_roam.c (senders that are not).
 */
#ifndef HS_TESTS_CUT_DGRAM_H
#define HS_TESTS_CUT_DGRAM_H

#include "cut_rig.h"

#include "vcl_app.h"
#include "vcl_cut.h"

static inline uint32_t cut_udp(int worker) {
  cut_as(worker);
  int h = vppcom_session_create(VPPCOM_PROTO_UDP, 1);
  assert_true(h >= 0);
  return (uint32_t)h;
}

static inline uint32_t cut_udp_bound(int worker, uint16_t port) {
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, port);
  uint32_t h = cut_udp(worker);
  assert_int_equal(vppcom_session_bind(h, &ep), 0);
  return h;
}

/** Reads one datagram. from, unless NULL: the sender's port, 0 where none came. Returns its length or vppcom's error.
 */
static inline int cut_take(uint32_t h, char *buf, uint32_t n, uint16_t *from) {
  uint8_t ip[16];
  vppcom_endpt_t ep = {.ip = ip};
  int rc = vppcom_session_recvfrom(h, buf, n, 0, &ep);
  if (from != NULL)
    *from = (uint16_t)(rc >= 0 ? ep.port << 8 | ep.port >> 8 : 0);
  return rc;
}

/** Worker 1's, bound, and waited at. */
static inline uint32_t cut_receiver(uint16_t port) {
  char b;
  uint32_t h = cut_udp_bound(1, port);
  assert_int_equal(cut_take(h, &b, 1, NULL), VPPCOM_EAGAIN);
  return h;
}

/** Sends to a port of the stack's own address. Returns what vppcom does. */
static inline int cut_say(uint32_t h, uint16_t to, const char *text) {
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 1, to);
  return vppcom_session_sendto(h, (void *)(uintptr_t)text, (uint32_t)strlen(text), 0, &ep);
}

/** How many datagrams went through the engine so far. */
static inline int cut_by_engine(struct cut_rig *r) {
  fake_run(&r->rig.fake);
  return fake_count(&r->rig.fake, &r->rig.fake.n_dgrams);
}

/** How many branches a worker has, after it took whatever came. */
static inline uint32_t cut_branches(int worker) {
  uint32_t n = 0;
  const struct pool *all = &app_state.workers[worker]->sessions;
  cut_as(worker);
  for (uint32_t i = pool_next(all, 0); i != POOL_NONE; i = pool_next(all, i + 1))
    n += ((const struct session *)pool_ref(all, i))->kind == SESSION_BRANCH;
  return n;
}

/** Worker 0's c and worker 1's s are closed, and each side has heard of the other's end. */
static inline void cut_done(struct cut_rig *r, uint32_t c, uint32_t s) {
  cut_as(0);
  (void)vppcom_session_close(c);
  cut_as(1);
  (void)vppcom_session_close(s);
  cut_as(0);
  cut_as(1);
  rig_settle(&r->rig);
  cut_as(0);
  rig_settle(&r->rig);
}

#endif
