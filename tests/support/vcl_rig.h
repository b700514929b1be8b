/*
 * What the library's tests share: a fake stack, the application on it, connected pairs of sessions.
 */
#ifndef HS_TESTS_VCL_RIG_H
#define HS_TESTS_VCL_RIG_H

#include "test.h"

#include "fake_engine.h"
#include "vcl_opt.h"
#include "vcl_stage.h"
#include "vcl_wait.h"
#include "vcl_waiter.h"
#include "vppcom.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define RIG_LATE_MS 10000 /* a bell that has not rung by then was never going to */

struct rig {
  struct fake fake;
  uint32_t listener, client, server;
  uint16_t port;
};

static inline int rig_setup(void **state) {
  struct rig *r = calloc(1, sizeof *r);
  if (r == NULL || fake_start(&r->fake) != 0)
    return -1;
  *state = r;
  waiter_late_ms = RIG_LATE_MS;
  return vppcom_app_create("test") == 0 ? 0 : -1;
}

static inline int rig_teardown(void **state) {
  struct rig *r = *state;
  uint32_t late = 0;
  fake_lock(&r->fake);
  for (int i = 0; i < FAKE_PROCS; i++)
    if (r->fake.worker[i].used)
      late += r->fake.worker[i].v.app->lane[0].from_engine.late_wakeup;
  fake_unlock(&r->fake);
  vppcom_app_destroy();
  fake_stop(&r->fake);
  free(r);
  if (stage_wrong != 0)
    print_error("sessions changed %u times as vcl/stage.c does not know\n", stage_wrong);
  if (late != 0)
    print_error("work was found %u times at the ceiling of a sleep: lost wake-ups\n", late);
  return late == 0 && stage_wrong == 0 ? 0 : -1;
}

static inline vppcom_endpt_t rig_ep(uint8_t ip[16], uint8_t last, uint16_t port) {
  memset(ip, 0, 16);
  if (last != 0) {
    ip[0] = 10;
    ip[3] = last;
  }
  vppcom_endpt_t ep;
  memset(&ep, 0, sizeof ep);
  ep.is_ip4 = VPPCOM_IS_IP4;
  ep.ip = ip;
  ep.port = (uint16_t)(port << 8 | port >> 8);
  return ep;
}

/** The port of a session's own or its peer's address. op: VPPCOM_ATTR_GET_LCL_ADDR, VPPCOM_ATTR_GET_PEER_ADDR. */
static inline uint16_t rig_port_of(uint32_t h, uint32_t op) {
  uint8_t ip[16];
  vppcom_endpt_t ep = {.ip = ip};
  uint32_t len = sizeof ep;
  assert_int_equal(vppcom_session_attr(h, op, &ep, &len), 0);
  return (uint16_t)(ep.port << 8 | ep.port >> 8);
}

static inline int rig_connect(uint32_t h, uint16_t port) {
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 1, port);
  return vppcom_session_connect(h, &ep);
}

/** A session; the test fails if there is none. */
static inline uint32_t rig_session(int nonblock) {
  int h = vppcom_session_create(VPPCOM_PROTO_TCP, (uint8_t)nonblock);
  assert_true(h >= 0);
  return (uint32_t)h;
}

static inline uint32_t rig_listen(uint16_t port, int nonblock) {
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, port);
  uint32_t h = rig_session(nonblock);
  assert_int_equal(vppcom_session_bind(h, &ep), 0);
  assert_int_equal(vppcom_session_listen(h, 16), 0);
  return h;
}

#define RIG_WAIT_S 30.0 /* for what is expected to come: no machine is that slow */

/** Waits up to 30 s, in steps of 2 ms, for what another thread does; the caller asserts it. Counts its steps: a machine
 * that stood still for a while has lost none of them. */
#define RIG_UNTIL(what)                                                                                                \
  do {                                                                                                                 \
    for (int rig_i = 0; rig_i < 15000 && !(what); rig_i++)                                                             \
      (void)poll(NULL, 0, 2);                                                                                          \
  } while (0)

/** Waits up to RIG_WAIT_S for events of one session. Returns revents. */
static inline int rig_wait(uint32_t h, short events) {
  vcl_poll_t p = {.sh = h, .events = events};
  int n = vppcom_poll(&p, 1, RIG_WAIT_S);
  assert_true(n >= 0);
  return p.revents;
}

/** Listener on `port`, a client connected to it, the accepted server side; all nonblocking when asked. */
static inline void rig_pair(struct rig *r, uint16_t port, int nonblock) {
  r->port = port;
  r->listener = rig_listen(port, 0);
  r->client = rig_session(0);
  assert_int_equal(rig_connect(r->client, port), 0);
  int h = vppcom_session_accept(r->listener, NULL, nonblock ? O_NONBLOCK : 0);
  assert_true(h >= 0);
  r->server = (uint32_t)h;
  uint32_t flags = nonblock ? O_NONBLOCK : 0;
  uint32_t len = sizeof flags;
  assert_int_equal(vppcom_session_attr(r->client, VPPCOM_ATTR_SET_FLAGS, &flags, &len), 0);
  fake_run(&r->fake); /* all that the engine has to say of the handshake is said and heard: no edge of it comes later */
  (void)vcl_pump();
}

static inline void rig_unpair(struct rig *r) {
  (void)vppcom_session_close(r->client);
  (void)vppcom_session_close(r->server);
  (void)vppcom_session_close(r->listener);
}

/** Waits until the fake holds no session any more. */
static inline void rig_settle(struct rig *r) {
  RIG_UNTIL(((void)vcl_pump(), fake_live_sessions(&r->fake) == 0));
  assert_int_equal(fake_live_sessions(&r->fake), 0);
}

#endif
