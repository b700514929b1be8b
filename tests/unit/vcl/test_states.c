/*
 * Every call of data and attributes on a session in every state that it can be in: what read and write say there, and
 * that neither ever says -EINVAL of a valid handle (VCL-CONTRACT: Envoy aborts on it). Another worker's session, too.
 */
#include "vcl_rig.h"

#include <pthread.h>
#include <sys/socket.h>

/** A state, how a session comes there, and what a nonblocking read and write of a byte say in it. */
struct at {
  const char *name;
  uint32_t (*make)(struct rig *r, uint16_t port);
  int read, write;
};

static void nonblock(uint32_t h) {
  uint32_t flags = O_NONBLOCK, len = sizeof flags;
  assert_int_equal(vppcom_session_attr(h, VPPCOM_ATTR_SET_FLAGS, &flags, &len), 0);
}

static void wait_for(uint32_t h, int events) {
  RIG_UNTIL((rig_wait(h, POLLIN | POLLRDHUP) & events) == events);
  assert_int_equal(rig_wait(h, POLLIN | POLLRDHUP) & events, events);
}

static uint32_t at_new(struct rig *r, uint16_t port) {
  (void)r;
  (void)port;
  return rig_session(1);
}

static uint32_t at_bound(struct rig *r, uint16_t port) {
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, port);
  uint32_t h = rig_session(1);
  (void)r;
  assert_int_equal(vppcom_session_bind(h, &ep), 0);
  return h;
}

static uint32_t at_listen(struct rig *r, uint16_t port) {
  (void)r;
  return rig_listen(port, 1);
}

static uint32_t at_listen_offer(struct rig *r, uint16_t port) {
  uint32_t l = rig_listen(port, 1);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  assert_int_equal(fake_dial(&r->fake, port), 0);
  wait_for(l, POLLIN);
  return l;
}

static uint32_t at_listen_shut(struct rig *r, uint16_t port) {
  uint32_t l = rig_listen(port, 1);
  (void)r;
  assert_int_equal(vppcom_session_shutdown(l, SHUT_RD), 0);
  return l;
}

static uint32_t at_connecting(struct rig *r, uint16_t port) {
  uint32_t h = rig_session(1);
  (void)r;
  (void)port;
  assert_int_equal(rig_connect(h, FAKE_PORT_SILENT), VPPCOM_EINPROGRESS);
  return h;
}

static uint32_t at_refused(struct rig *r, uint16_t port) {
  uint32_t h = rig_session(0);
  (void)r;
  (void)port;
  assert_int_equal(rig_connect(h, 9), VPPCOM_ECONNREFUSED);
  nonblock(h);
  return h;
}

static uint32_t at_open(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  return r->client;
}

static uint32_t at_accepted(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  return r->server;
}

static uint32_t at_readable(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  assert_int_equal(vppcom_session_write(r->client, "abc", 3), 3);
  wait_for(r->server, POLLIN);
  return r->server;
}

static uint32_t at_full(struct rig *r, uint16_t port) {
  static char big[64 * 1024];
  int n;
  rig_pair(r, port, 1);
  fake_lock(&r->fake);
  r->fake.hold = 1;
  fake_unlock(&r->fake);
  while ((n = vppcom_session_write(r->client, big, sizeof big)) > 0)
    ;
  assert_int_equal(n, VPPCOM_EAGAIN);
  return r->client;
}

static uint32_t at_peer_ended(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  assert_int_equal(vppcom_session_shutdown(r->client, SHUT_WR), 0);
  wait_for(r->server, POLLRDHUP);
  return r->server;
}

static uint32_t at_shut_wr(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  assert_int_equal(vppcom_session_shutdown(r->client, SHUT_WR), 0);
  return r->client;
}

static uint32_t at_shut_rd(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  assert_int_equal(vppcom_session_shutdown(r->client, SHUT_RD), 0);
  return r->client;
}

static uint32_t at_over(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  assert_int_equal(vppcom_session_shutdown(r->client, SHUT_WR), 0);
  assert_int_equal(vppcom_session_shutdown(r->server, SHUT_WR), 0);
  wait_for(r->client, POLLHUP);
  return r->client;
}

static uint32_t at_reset(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  assert_int_equal(vppcom_session_terminate(r->client), 0);
  r->client = INVALID_SESSION_ID;
  wait_for(r->server, POLLHUP);
  return r->server;
}

static uint32_t at_reset_told(struct rig *r, uint16_t port) {
  char b;
  uint32_t h = at_reset(r, port);
  assert_int_equal(vppcom_session_read(h, &b, 1), VPPCOM_ECONNRESET);
  return h;
}

static uint32_t at_detached(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  fake_detach_all(&r->fake);
  RIG_UNTIL(vppcom_worker_is_detached());
  assert_true(vppcom_worker_is_detached());
  return r->client;
}

static uint32_t at_all_dead(struct rig *r, uint16_t port) {
  rig_pair(r, port, 1);
  fake_all_dead(&r->fake);
  wait_for(r->client, POLLHUP);
  return r->client;
}

static uint32_t at_dgram(struct rig *r, uint16_t port) {
  int h = vppcom_session_create(VPPCOM_PROTO_UDP, 1);
  (void)r;
  (void)port;
  assert_true(h >= 0);
  return (uint32_t)h;
}

/** A session of datagrams that is bound. */
static uint32_t at_dgram_bound(struct rig *r, uint16_t port) {
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, port);
  uint32_t h = at_dgram(r, port);
  assert_int_equal(vppcom_session_bind(h, &ep), 0);
  return h;
}

/** One that is connected to the port, and has sent `text` there unless it is NULL. */
static uint32_t dgram_to(struct rig *r, uint16_t port, const char *text) {
  uint32_t h = at_dgram(r, port);
  assert_int_equal(rig_connect(h, port), 0);
  if (text != NULL)
    assert_int_equal(vppcom_session_write(h, (void *)(uintptr_t)text, strlen(text)), strlen(text));
  fake_run(&r->fake);
  return h;
}

/** Once h, which is bound to the port, has a datagram of r->client's. */
static uint32_t told(struct rig *r, uint32_t h, uint16_t port) {
  r->client = dgram_to(r, port, "x");
  wait_for(h, POLLIN);
  return h;
}

static uint32_t at_dgram_readable(struct rig *r, uint16_t port) {
  return told(r, at_dgram_bound(r, port), port);
}

static uint32_t at_dgram_unbound(struct rig *r, uint16_t port) {
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 1, port);
  uint32_t h = at_dgram(r, port);
  r->server = at_dgram_bound(r, port);
  assert_int_equal(vppcom_session_sendto(h, (void *)(uintptr_t) "x", 1, 0, &ep), 1);
  return h;
}

static uint32_t at_dgram_listen(struct rig *r, uint16_t port) {
  uint32_t h = at_dgram_bound(r, port);
  assert_int_equal(vppcom_session_listen(h, 1), 0);
  return h;
}

static uint32_t at_dgram_waiting(struct rig *r, uint16_t port) {
  return told(r, at_dgram_listen(r, port), port);
}

/** Whose peer's datagram came before it was there. */
static uint32_t at_dgram_accepted(struct rig *r, uint16_t port) {
  r->listener = at_dgram_waiting(r, port);
  int h = vppcom_session_accept(r->listener, NULL, O_NONBLOCK);
  assert_true(h >= 0);
  return (uint32_t)h;
}

static uint32_t at_dgram_connected(struct rig *r, uint16_t port) {
  r->server = at_dgram_bound(r, port);
  return dgram_to(r, port, NULL);
}

static uint32_t at_dgram_full(struct rig *r, uint16_t port) {
  static char big[60000];
  uint32_t h = at_dgram_connected(r, port);
  int n;
  fake_lock(&r->fake);
  r->fake.hold = 1;
  fake_unlock(&r->fake);
  for (size_t len = sizeof big; len != 0; len /= 2)
    while ((n = vppcom_session_write(h, big, len)) == (int)len)
      ;
  assert_int_equal(n, VPPCOM_EAGAIN);
  return h;
}

static uint32_t at_dgram_refused(struct rig *r, uint16_t port) {
  uint32_t h = dgram_to(r, port, "x"); /* nobody is there */
  wait_for(h, POLLERR);
  return h;
}

static uint32_t at_dgram_refused_told(struct rig *r, uint16_t port) {
  char b;
  uint32_t h = at_dgram_refused(r, port);
  assert_int_equal(vppcom_session_read(h, &b, 1), VPPCOM_ECONNREFUSED);
  r->server = at_dgram_bound(r, port); /* now there is somebody */
  return h;
}

static uint32_t at_dgram_shut_wr(struct rig *r, uint16_t port) {
  uint32_t h = at_dgram_connected(r, port);
  assert_int_equal(vppcom_session_shutdown(h, SHUT_WR), 0);
  return h;
}

static uint32_t at_dgram_shut_rd(struct rig *r, uint16_t port) {
  uint32_t h = at_dgram_connected(r, port);
  assert_int_equal(vppcom_session_shutdown(h, SHUT_RD), 0);
  return h;
}

static uint32_t at_dgram_detached(struct rig *r, uint16_t port) {
  uint32_t h = at_dgram_connected(r, port);
  fake_detach_all(&r->fake);
  for (int i = 0; i < 5000 && !vppcom_worker_is_detached(); i++)
    (void)poll(NULL, 0, 2);
  assert_true(vppcom_worker_is_detached());
  return h;
}

static uint32_t at_dgram_all_dead(struct rig *r, uint16_t port) {
  uint32_t h = at_dgram_connected(r, port);
  fake_all_dead(&r->fake);
  wait_for(h, POLLHUP);
  return h;
}

static const struct at table[] = {
    {"new", at_new, VPPCOM_ENOTCONN, VPPCOM_EPIPE},
    {"bound", at_bound, VPPCOM_ENOTCONN, VPPCOM_EPIPE},
    {"listening", at_listen, VPPCOM_ENOTCONN, VPPCOM_EPIPE},
    {"listening, one to accept", at_listen_offer, VPPCOM_ENOTCONN, VPPCOM_EPIPE},
    {"listening, shut", at_listen_shut, VPPCOM_ENOTCONN, VPPCOM_EPIPE},
    {"connecting", at_connecting, VPPCOM_EAGAIN, VPPCOM_EAGAIN},
    {"refused", at_refused, 0, VPPCOM_EPIPE},
    {"connected", at_open, VPPCOM_EAGAIN, 1},
    {"accepted", at_accepted, VPPCOM_EAGAIN, 1},
    {"with bytes to read", at_readable, 1, 1},
    {"full", at_full, VPPCOM_EAGAIN, VPPCOM_EAGAIN},
    {"ended by the peer", at_peer_ended, 0, 1},
    {"shut for writing", at_shut_wr, VPPCOM_EAGAIN, VPPCOM_EPIPE},
    {"shut for reading", at_shut_rd, 0, 1},
    {"ended by both", at_over, 0, VPPCOM_EPIPE},
    {"reset", at_reset, VPPCOM_ECONNRESET, VPPCOM_ECONNRESET},
    {"reset, and told", at_reset_told, 0, VPPCOM_EPIPE},
    {"detached by the engine", at_detached, -ENETDOWN, -ENETDOWN},
    {"after the end of all services", at_all_dead, VPPCOM_ECONNRESET, VPPCOM_ECONNRESET},
    {"datagrams, new", at_dgram, VPPCOM_EAGAIN, -EDESTADDRREQ},
    {"datagrams, bound", at_dgram_bound, VPPCOM_EAGAIN, -EDESTADDRREQ},
    {"datagrams, bound, one to read", at_dgram_readable, 1, -EDESTADDRREQ},
    {"datagrams, has sent before it was bound", at_dgram_unbound, VPPCOM_EAGAIN, -EDESTADDRREQ},
    {"datagrams, listening", at_dgram_listen, VPPCOM_EAGAIN, -EDESTADDRREQ},
    {"datagrams, listening, a peer waits", at_dgram_waiting, 1, -EDESTADDRREQ},
    {"datagrams, accepted", at_dgram_accepted, 1, 1},
    {"datagrams, connected", at_dgram_connected, VPPCOM_EAGAIN, 1},
    {"datagrams, full", at_dgram_full, VPPCOM_EAGAIN, VPPCOM_EAGAIN},
    {"datagrams, refused by ICMP", at_dgram_refused, VPPCOM_ECONNREFUSED, VPPCOM_ECONNREFUSED},
    {"datagrams, refused, and told", at_dgram_refused_told, VPPCOM_EAGAIN, 1},
    {"datagrams, shut for writing", at_dgram_shut_wr, VPPCOM_EAGAIN, VPPCOM_EPIPE},
    {"datagrams, shut for reading", at_dgram_shut_rd, 0, 1},
    {"datagrams, detached by the engine", at_dgram_detached, -ENETDOWN, -ENETDOWN},
    {"datagrams, after the end of all services", at_dgram_all_dead, VPPCOM_ECONNRESET, VPPCOM_ECONNRESET},
};

/** The calls of data, one at a time on a session of its own: 0 .. CALLS-1. */
enum { CALL_READ, CALL_RECVFROM, CALL_READ_SEGMENTS, CALL_WRITE, CALL_WRITE_MSG, CALL_SENDTO, CALL_SEGMENTS, CALLS };

static int call(uint32_t h, int which) {
  char b = 'x';
  vppcom_data_segment_t ds = {.data = (unsigned char *)&b, .len = 1};
  switch (which) {
  case CALL_READ:
    return vppcom_session_read(h, &b, 1);
  case CALL_RECVFROM:
    return vppcom_session_recvfrom(h, &b, 1, MSG_DONTWAIT, NULL);
  case CALL_READ_SEGMENTS:
    return vppcom_session_read_segments(h, &ds, 1, 1);
  case CALL_WRITE:
    return vppcom_session_write(h, &b, 1);
  case CALL_WRITE_MSG:
    return vppcom_session_write_msg(h, &b, 1);
  case CALL_SENDTO:
    return vppcom_session_sendto(h, &b, 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL);
  default:
    return vppcom_session_write_segments(h, &ds, 1);
  }
}

/** Whether an operation may refuse a session for the state that it is in: these are for before bind and connect. */
static int is_of_birth(uint32_t op) {
  return op == VPPCOM_ATTR_SET_LCL_ADDR || op == VPPCOM_ATTR_SET_V6ONLY || op == VPPCOM_ATTR_SET_VRF;
}

/** Each attribute with room for whatever it gives, and a 1 for whatever it takes. */
static void attr_walk(const char *name, uint32_t h) {
  for (uint32_t op = VPPCOM_ATTR_GET_NREAD; op <= VPPCOM_ATTR_SET_APP_PROTO_ERR_CODE; op++) {
    uint8_t ip[16] = {10, 0, 0, 2};
    union {
      vppcom_endpt_t ep;
      uint32_t v;
    } u;
    uint32_t len = sizeof u.ep;
    memset(&u, 0, sizeof u);
    if (op == VPPCOM_ATTR_GET_LCL_ADDR || op == VPPCOM_ATTR_GET_PEER_ADDR || op == VPPCOM_ATTR_SET_LCL_ADDR ||
        op == VPPCOM_ATTR_GET_ORIGINAL_DST || op == VPPCOM_ATTR_GET_EXT_ENDPT)
      u.ep = (vppcom_endpt_t){.is_ip4 = 1, .ip = ip};
    else
      u.v = op == VPPCOM_ATTR_SET_FLAGS ? O_NONBLOCK : op == VPPCOM_ATTR_SET_TCP_USER_MSS ? 1000 : 1;
    int rc = vppcom_session_attr(h, op, &u, &len);
    if (rc == VPPCOM_EINVAL && !is_of_birth(op))
      fail_msg("attribute %u of a session that is %s: -EINVAL", op, name);
    if (rc == VPPCOM_EBADFD)
      fail_msg("attribute %u of a session that is %s: -EBADFD", op, name);
  }
}

static int is_dgram(uint32_t h) {
  uint32_t proto = 99, len = sizeof proto;
  assert_int_equal(vppcom_session_attr(h, VPPCOM_ATTR_GET_PROTOCOL, &proto, &len), 0);
  return proto == VPPCOM_PROTO_UDP;
}

static void run(const struct at *t, int which) {
  struct rig *r = NULL;
  void *state = NULL;
  assert_int_equal(rig_setup(&state), 0);
  r = state;
  r->listener = r->client = r->server = INVALID_SESSION_ID;
  uint32_t h = t->make(r, 7900);
  if (which == CALLS) {
    attr_walk(t->name, h);
  } else {
    int rc = call(h, which), want = which < CALL_WRITE ? t->read : t->write;
    if (which == CALL_READ_SEGMENTS && is_dgram(h))
      want = -EOPNOTSUPP; /* headers lie between the datagrams */
    if (rc != want)
      fail_msg("call %d of a session that is %s: %d, not %d", which, t->name, rc, want);
    for (int again = 0; again < CALLS; again++) /* whatever order they come in */
      assert_int_not_equal(call(h, again), VPPCOM_EINVAL);
  }
  assert_int_equal(vppcom_session_close(h), 0);
  assert_int_equal(call(h, which % CALLS), VPPCOM_EBADFD);
  assert_int_equal(rig_teardown(&state), 0);
}

static void test_walk(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
    for (int which = 0; which <= CALLS; which++)
      run(&table[i], which);
}

/* A set is a handle, too, and no session of data. */
static void test_set(void **state) {
  int set = vppcom_epoll_create();
  uint32_t v = 0, len = sizeof v;
  (void)state;
  assert_true(set >= 0);
  for (int which = 0; which < CALLS; which++)
    assert_int_equal(call((uint32_t)set, which), VPPCOM_EBADFD);
  assert_int_equal(vppcom_session_attr((uint32_t)set, VPPCOM_ATTR_GET_FLAGS, &v, &len), VPPCOM_EBADFD);
  assert_int_equal(vppcom_session_close((uint32_t)set), 0);
}

struct other {
  pthread_barrier_t turn;
  uint32_t listener, dgram;
  int index;
};

static void *other_worker(void *p) {
  struct other *o = p;
  assert_int_equal(vppcom_worker_register(), 0);
  o->index = vppcom_worker_index();
  o->listener = rig_listen(7950, 1);
  int h = vppcom_session_create(VPPCOM_PROTO_UDP, 1);
  assert_true(h >= 0);
  o->dgram = (uint32_t)h;
  (void)pthread_barrier_wait(&o->turn); /* idle from here … */
  (void)pthread_barrier_wait(&o->turn); /* … to here */
  assert_int_equal(vppcom_session_close(o->listener), 0);
  assert_int_equal(vppcom_session_close(o->dgram), 0);
  vppcom_worker_unregister();
  return NULL;
}

/* While another worker is idle, its sessions can be asked. */
static void test_other_worker(void **state) {
  struct other o = {.index = -1};
  pthread_t t;
  uint8_t ip[16];
  vppcom_endpt_t ep = {.ip = ip};
  uint32_t proto = 99, len = sizeof proto, ep_len = sizeof ep;
  (void)state;
  pthread_barrier_init(&o.turn, NULL, 2);
  assert_int_equal(pthread_create(&t, NULL, other_worker, &o), 0);
  (void)pthread_barrier_wait(&o.turn);
  assert_int_equal(o.index, 1);
  assert_int_equal(vppcom_session_attr(o.listener, VPPCOM_ATTR_GET_PROTOCOL, &proto, &len), VPPCOM_EBADFD);
  vppcom_worker_index_set(o.index);
  assert_int_equal(vppcom_worker_index(), o.index);
  assert_int_equal(vppcom_session_attr(o.listener, VPPCOM_ATTR_GET_PROTOCOL, &proto, &len), 0);
  assert_int_equal(proto, VPPCOM_PROTO_TCP);
  assert_int_equal(vppcom_session_attr(o.dgram, VPPCOM_ATTR_GET_PROTOCOL, &proto, &len), 0);
  assert_int_equal(proto, VPPCOM_PROTO_UDP);
  assert_int_equal(vppcom_session_attr(o.listener, VPPCOM_ATTR_GET_LCL_ADDR, &ep, &ep_len), 0);
  assert_int_equal(ep.port, (uint16_t)(7950 << 8 | 7950 >> 8));
  vppcom_worker_index_set(120); /* there is none: nothing changes */
  assert_int_equal(vppcom_worker_index(), o.index);
  vppcom_worker_index_set(0);
  assert_int_equal(vppcom_worker_index(), 0);
  uint32_t mine = rig_session(1); /* its own again */
  assert_int_equal(vppcom_session_worker(mine), 0);
  assert_int_equal(vppcom_session_close(mine), 0);
  (void)pthread_barrier_wait(&o.turn);
  assert_int_equal(pthread_join(t, NULL), 0);
  pthread_barrier_destroy(&o.turn);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk), RIG(test_set), RIG(test_other_worker)};
  return cmocka_run_group_tests_name("vcl states", tests, NULL, NULL);
}
