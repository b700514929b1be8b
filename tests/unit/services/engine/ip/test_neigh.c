/*
 * Neighbours of both families: exchanges byte by byte, queue, silence, and the life of an entry (RFC 4861 7.3).
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"
#include "wire/arp.h"
#include "wire/eth.h"
#include "wire/nd.h"

#include <stdio.h>

#define S 1000000ull

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t nobody[6] = {0};
static const uint8_t moved[6] = {2, 0, 0, 0, 0, 9};

static struct neigh *entry(struct ip_rig *r, const char *text) {
  struct ip_addr a = rig_addr(text);
  return neigh_find(r->s, 0, &a);
}

static void answer(struct ip_rig *r, int four, const uint8_t mac[6]) {
  uint8_t f[256];
  rig_in(r, f,
         four
             ? rig_arp(f, rig_mac, ARP_REPLY, mac, "10.0.0.2", rig_mac, "10.0.0.1")
             : rig_nd(f, ICMP6_NA, ND_NA_SOLICITED | ND_NA_OVERRIDE, "2001:db8::2", "2001:db8::1", "2001:db8::2", mac));
}

static void arp_exchange(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[64];
  static const uint8_t request[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0,  1, 8, 6,
                                      0,    1,    8,    0,    6,    4,    0, 1, 2, 0, 0,  0, 0, 1,
                                      10,   0,    0,    1,    0,    0,    0, 0, 0, 0, 10, 0, 0, 2};
  static const uint8_t reply[42] = {2, 0, 0, 0, 0, 2, 2, 0,  0, 0, 0, 1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
                                    2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2};
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(r->sent[0].len, 42);
  assert_memory_equal(r->sent[0].b, request, 42);
  answer(r, 1, rig_peer);
  assert_int_equal(r->n_sent, 2);
  assert_memory_equal(r->sent[1].b, rig_peer, 6);
  assert_memory_equal(r->sent[1].b + 6, rig_mac, 6);
  assert_int_equal(r->sent[1].len, 54);
  assert_int_equal(entry(r, "10.0.0.2")->state, NEIGH_REACHABLE);
  rig_clear(r);
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.0.0.2", nobody, "10.0.0.1"));
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(r->sent[0].len, 42);
  assert_memory_equal(r->sent[0].b, reply, 42);
  /* a probe (sender 0.0.0.0) for our address is answered, a request for another's is not */
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "0.0.0.0", nobody, "10.0.0.1"));
  assert_int_equal(r->n_sent, 2);
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.0.0.2", nobody, "10.0.0.77"));
  assert_int_equal(r->n_sent, 2);
}

static void nd_exchange(void **state) {
  struct ip_rig *r = *state;
  uint8_t want[128], f[256];
  static const uint8_t group[6] = {0x33, 0x33, 0xff, 0, 0, 2};
  assert_int_equal(rig_out(r, "2001:db8::2", IP_PROTO_UDP, 20, 0, NULL), 0);
  uint32_t n = rig_nd(want, ICMP6_NS, 0, "2001:db8::1", "ff02::1:ff00:2", "2001:db8::2", rig_mac);
  memcpy(want, group, 6);
  memcpy(want + 6, rig_mac, 6);
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(r->sent[0].len, n);
  assert_memory_equal(r->sent[0].b, want, n);
  answer(r, 0, rig_peer);
  assert_int_equal(r->n_sent, 2);
  assert_memory_equal(r->sent[1].b, rig_peer, 6);
  assert_int_equal(entry(r, "2001:db8::2")->state, NEIGH_REACHABLE);
  rig_clear(r);
  rig_in(r, f, rig_nd(f, ICMP6_NS, 0, "2001:db8::2", "ff02::1:ff00:1", "2001:db8::1", rig_peer));
  n = rig_nd(want, ICMP6_NA, ND_NA_SOLICITED | ND_NA_OVERRIDE, "2001:db8::1", "2001:db8::2", "2001:db8::1", rig_mac);
  memcpy(want, rig_peer, 6);
  memcpy(want + 6, rig_mac, 6);
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(r->sent[0].len, n);
  assert_memory_equal(r->sent[0].b, want, n);
  /* from ::, another station's duplicate detection: to all nodes, not solicited */
  rig_in(r, f, rig_nd(f, ICMP6_NS, 0, "::", "ff02::1:ff00:1", "2001:db8::1", NULL));
  n = rig_nd(want, ICMP6_NA, ND_NA_OVERRIDE, "2001:db8::1", "ff02::1", "2001:db8::1", rig_mac);
  memcpy(want + 6, rig_mac, 6);
  assert_int_equal(r->n_sent, 2);
  assert_memory_equal(r->sent[1].b, want, n);
}

static void nd_refusals(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256];
  uint32_t n = rig_nd(f, ICMP6_NS, 0, "2001:db8::2", "2001:db8::1", "2001:db8::1", rig_peer);
  f[21] = 254; /* not from this link */
  rig_in(r, f, n);
  assert_int_equal(r->c[IPC_ND_BAD], 1);
  n = rig_nd(f, ICMP6_NS, 0, "2001:db8::2", "2001:db8::1", "2001:db8::1", rig_peer);
  f[57] ^= 1; /* checksum */
  rig_in(r, f, n);
  assert_int_equal(r->c[IPC_ICMP_BAD], 1);
  rig_in(r, f, rig_nd(f, ICMP6_NS, 0, "::", "ff02::1:ff00:1", "2001:db8::1", rig_peer)); /* :: with a MAC */
  assert_int_equal(r->c[IPC_ND_BAD], 2);
  rig_in(r, f, rig_nd(f, ICMP6_NS, 0, "2001:db8::2", "2001:db8::1", "2001:db8::1", everybody));
  assert_int_equal(r->c[IPC_ND_BAD], 3);
  rig_in(r, f, rig_nd(f, ICMP6_NA, ND_NA_SOLICITED, "2001:db8::2", "ff02::1", "2001:db8::2", rig_peer));
  assert_int_equal(r->c[IPC_ND_BAD], 4);
  rig_in(r, f, rig_nd(f, ICMP6_NS, 0, "2001:db8::2", "ff02::1:ff00:1", "2001:db8::5", rig_peer)); /* not ours */
  assert_int_equal(r->n_sent, 0);
  assert_null(entry(r, "2001:db8::2"));
}

static void queue_is_bounded(void **state) {
  struct ip_rig *r = *state;
  for (unsigned i = 0; i < NEIGH_QUEUE + 2; i++)
    assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_UDP, 20 + i, 0, NULL), 0);
  assert_int_equal(r->c[IPC_NEIGH_Q_DROP], 2);
  assert_int_equal(r->n_dropped, 2);
  assert_int_equal(r->n_out, NEIGH_QUEUE);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 1000, NULL), -EAGAIN); /* fifo pieces are not kept */
  assert_int_equal(r->n_dropped, 3);
  answer(r, 1, rig_peer);
  assert_int_equal(r->n_sent, 1 + NEIGH_QUEUE);
  for (unsigned i = 0; i < NEIGH_QUEUE; i++)
    assert_int_equal(r->sent[1 + i].len, 34 + 22 + i); /* the oldest two gave way, order kept */
  assert_int_equal(r->n_out, 0);
}

static void whole_table_keeps_few_frames(void **state) {
  struct ip_rig *r = *state;
  char text[32];
  for (unsigned i = 0; i < NEIGH_QUEUED_MAX + 36; i++) {
    snprintf(text, sizeof text, "10.0.0.%u", 10 + i);
    assert_int_equal(rig_out(r, text, IP_PROTO_UDP, 20, 0, NULL), 0);
  }
  assert_int_equal(r->n_out, NEIGH_QUEUED_MAX);
  assert_int_equal(r->n_dropped, 36);
  ip_drop_queued(r->s);
  assert_int_equal(r->n_out, 0);
  assert_int_equal(r->s->neigh.n_queued, 0);
}

static void silence(void **state) {
  struct ip_rig *r = *state;
  for (unsigned v = 0; v < 2; v++) {
    const char *dst = v == 0 ? "10.0.0.2" : "2001:db8::2";
    rig_clear(r);
    assert_int_equal(rig_out(r, dst, IP_PROTO_TCP, 20, 0, NULL), 0);
    rig_advance(r, 3 * S - 1000);
    assert_int_equal(r->n_sent, 3); /* asked three times, a second apart */
    assert_int_equal(r->n_error, 0);
    rig_advance(r, 10000);
    assert_int_equal(r->n_sent, 3);
    assert_int_equal(r->n_error, 1); /* the owner of the frame is told, the frame is given back */
    assert_int_equal(r->n_out, 0);
    assert_int_equal(r->error[0].proto, IP_PROTO_TCP);
    assert_int_equal(r->error[0].kind, 0);
    assert_int_equal(r->error[0].err, EHOSTUNREACH);
    assert_int_equal(r->error[0].lport, 1000);
    assert_int_equal(r->error[0].rport, 2000);
    assert_int_equal(r->error[0].seq, 0xabcd1234);
    struct ip_addr a = rig_addr(dst);
    assert_true(ip_addr_eq(&r->error[0].remote, &a));
    assert_int_equal(rig_out(r, dst, IP_PROTO_TCP, 20, 0, NULL), -EHOSTUNREACH);
    rig_advance(r, 1100000); /* then it is asked again */
    assert_null(entry(r, dst));
    assert_int_equal(rig_out(r, dst, IP_PROTO_TCP, 20, 0, NULL), 0);
    assert_int_equal(r->n_sent, 4);
    rig_advance(r, 10 * S);
  }
  assert_int_equal(r->c[IPC_NEIGH_FAILED], 4);
}

/* REACHABLE → STALE → (use) DELAY → PROBE → REACHABLE, and → forgotten. */
static void life(void **state) {
  struct ip_rig *r = *state;
  for (unsigned v = 0; v < 2; v++) {
    int four = v == 0;
    const char *dst = four ? "10.0.0.2" : "2001:db8::2";
    rig_resolve(r, dst, rig_peer);
    struct neigh *e = entry(r, dst);
    assert_int_equal(e->state, NEIGH_REACHABLE);
    rig_advance(r, 14 * S);
    assert_int_equal(e->state, NEIGH_REACHABLE);
    rig_advance(r, 32 * S);
    assert_int_equal(e->state, NEIGH_STALE);
    rig_advance(r, 60 * S); /* nobody sends: nobody probes */
    assert_int_equal(r->n_sent, 0);
    assert_int_equal(rig_out(r, dst, IP_PROTO_UDP, 20, 0, NULL), 0);
    assert_int_equal(r->n_sent, 1); /* used at once */
    assert_int_equal(e->state, NEIGH_DELAY);
    rig_advance(r, 4900000);
    assert_int_equal(r->n_sent, 1);
    rig_advance(r, 200000);
    assert_int_equal(e->state, NEIGH_PROBE);
    assert_int_equal(r->n_sent, 2);
    assert_memory_equal(r->sent[1].b, rig_peer, 6); /* a unicast probe */
    answer(r, four, rig_peer);
    assert_int_equal(e->state, NEIGH_REACHABLE);
    rig_advance(r, 46 * S);
    assert_int_equal(rig_out(r, dst, IP_PROTO_UDP, 20, 0, NULL), 0);
    rig_clear(r);
    rig_advance(r, 5 * S + 2 * S + 900000);
    assert_int_equal(r->n_sent, 3);
    assert_int_equal(e->state, NEIGH_PROBE);
    assert_int_equal(rig_out(r, dst, IP_PROTO_UDP, 20, 0, NULL), 0); /* still used */
    assert_int_equal(r->n_sent, 4);
    rig_advance(r, 200000);
    assert_null(entry(r, dst));
    rig_clear(r);
  }
}

static void upper_layer_confirms(void **state) {
  struct ip_rig *r = *state;
  struct ip_path path = {0};
  rig_resolve(r, "10.0.0.2", rig_peer);
  struct neigh *e = entry(r, "10.0.0.2");
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 0, &path), 0);
  for (unsigned i = 0; i < 100; i++) {
    rig_advance(r, 5 * S);
    ip_confirm(r->s, &path, r->now);
    assert_int_equal(e->state, NEIGH_REACHABLE);
  }
  assert_int_equal(r->n_sent, 1); /* 500 s, not one probe */
  rig_advance(r, 50 * S);
  assert_int_equal(e->state, NEIGH_STALE);
  ip_confirm(r->s, &path, r->now); /* the path is void since then */
  assert_int_equal(e->state, NEIGH_STALE);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 0, &path), 0);
  assert_int_equal(e->state, NEIGH_DELAY);
  ip_confirm(r->s, &path, r->now);
  assert_int_equal(e->state, NEIGH_REACHABLE);
  rig_advance(r, 10 * S);
  assert_int_equal(r->n_sent, 2);
}

static void peer_moves(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256];
  struct ip_path p4 = {0}, p6 = {0};
  rig_resolve(r, "10.0.0.2", rig_peer);
  rig_resolve(r, "2001:db8::2", rig_peer);
  rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 0, &p4);
  rig_out(r, "2001:db8::2", IP_PROTO_TCP, 20, 0, &p6);
  rig_clear(r);
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, moved, "10.0.0.2", nobody, "10.0.0.2")); /* gratuitous */
  rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 0, &p4);
  assert_memory_equal(r->sent[0].b, moved, 6);
  assert_int_equal(entry(r, "10.0.0.2")->state, NEIGH_DELAY);
  rig_in(r, f, rig_nd(f, ICMP6_NA, ND_NA_OVERRIDE, "2001:db8::2", "ff02::1", "2001:db8::2", moved));
  rig_out(r, "2001:db8::2", IP_PROTO_TCP, 20, 0, &p6);
  assert_memory_equal(r->sent[1].b, moved, 6);
  assert_int_equal(r->c[IPC_NEIGH_MOVED], 2);
  /* without override it is doubted, not believed (RFC 4861 7.2.5) */
  rig_in(r, f,
         rig_nd(f, ICMP6_NA, ND_NA_SOLICITED | ND_NA_OVERRIDE, "2001:db8::2", "2001:db8::1", "2001:db8::2", moved));
  assert_int_equal(entry(r, "2001:db8::2")->state, NEIGH_REACHABLE);
  rig_in(r, f, rig_nd(f, ICMP6_NA, ND_NA_SOLICITED, "2001:db8::2", "2001:db8::1", "2001:db8::2", rig_peer));
  assert_int_equal(entry(r, "2001:db8::2")->state, NEIGH_STALE);
  rig_out(r, "2001:db8::2", IP_PROTO_TCP, 20, 0, &p6);
  assert_memory_equal(r->sent[2].b, moved, 6);
}

static void talkers_get_no_entry(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256];
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.0.0.2", nobody, "10.0.0.1"));
  rig_in(r, f, rig_arp(f, rig_mac, ARP_REPLY, rig_peer, "10.0.0.2", rig_mac, "10.0.0.1"));
  rig_in(r, f, rig_nd(f, ICMP6_NS, 0, "2001:db8::2", "2001:db8::1", "2001:db8::1", rig_peer));
  assert_int_equal(r->s->neigh.n_used, 0);
  /* who is being asked for may answer by asking: used, and probed */
  rig_out(r, "10.0.0.2", IP_PROTO_UDP, 20, 0, NULL);
  rig_clear(r);
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.0.0.2", nobody, "10.0.0.1"));
  assert_int_equal(r->n_sent, 2); /* the reply and the frame that waited */
  assert_int_equal(entry(r, "10.0.0.2")->state, NEIGH_DELAY);
}

static void full_table_gives_way(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr net = rig_addr("10.9.0.1");
  uint8_t f[64];
  char text[32];
  struct ip_path path = {0};
  assert_int_equal(ip_addr_add(r->s, 0, &net, 16), 0);
  rig_resolve(r, "10.0.0.2", rig_peer);
  rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 0, &path);
  for (unsigned i = 0; i < 3000; i++) { /* a scan */
    snprintf(text, sizeof text, "10.9.%u.%u", 1 + i / 250, 1 + i % 250);
    assert_int_equal(rig_out(r, text, IP_PROTO_TCP, 20, 1, NULL), -EAGAIN);
  }
  assert_int_equal(r->s->neigh.n_fresh, NEIGH_NEW_MAX);
  assert_non_null(entry(r, "10.0.0.2"));
  assert_int_equal(path.gen, r->s->gen); /* and nobody's path was voided by it */
  for (unsigned i = 0; i < 5000; i++) {
    snprintf(text, sizeof text, "10.9.%u.%u", 100 + i / 250, 1 + i % 250);
    assert_int_equal(rig_out(r, text, IP_PROTO_TCP, 20, 1, NULL), -EAGAIN);
    rig_in(r, f, rig_arp(f, rig_mac, ARP_REPLY, rig_peer, text, rig_mac, "10.9.0.1"));
    assert_non_null(entry(r, text));
  }
  assert_int_equal(r->s->neigh.n_used, NEIGH_MAX);
  assert_int_equal(r->s->neigh.n_fresh, 0);
  assert_null(entry(r, "10.0.0.2")); /* the one not used for longest */
}

static void no_frames_now(void **state) {
  struct ip_rig *r = *state;
  r->slots = 1;
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_UDP, 20, 0, NULL), 0); /* took the only slot */
  assert_int_equal(r->c[IPC_TX_NO_FRAME], 1);
  r->slots = RIG_SLOTS;
  rig_advance(r, 1100000);
  assert_int_equal(r->n_sent, 1);
  answer(r, 1, rig_peer);
  assert_int_equal(r->n_sent, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(arp_exchange),
      RIG_TEST(nd_exchange),
      RIG_TEST(nd_refusals),
      RIG_TEST(queue_is_bounded),
      RIG_TEST(whole_table_keeps_few_frames),
      RIG_TEST(silence),
      RIG_TEST(life),
      RIG_TEST(upper_layer_confirms),
      RIG_TEST(peer_moves),
      RIG_TEST(talkers_get_no_entry),
      RIG_TEST(full_table_gives_way),
      RIG_TEST(no_frames_now),
  };
  return cmocka_run_group_tests_name("neigh", tests, NULL, NULL);
}
