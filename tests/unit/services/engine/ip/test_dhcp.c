/*
 * The DHCP client against a server played by hand: every message it sends is read back, every state is met by answers,
 * refusals and silence.
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"
#include "wire/arp.h"
#include "wire/cksum.h"
#include "wire/dhcp.h"
#include "wire/udp.h"

#define S      1000000ull
#define SERVER 0xc0a80101u /* 192.168.1.1 */
#define LEASED 0xc0a80132u /* 192.168.1.50 */
#define ALL    (DHCP_HAS_SERVER | DHCP_HAS_LEASE | DHCP_HAS_MASK | DHCP_HAS_ROUTER)

static const uint8_t server_mac[6] = {2, 0, 0, 0, 0, 0x51};
static const uint8_t mac1[6] = {2, 0, 0, 0, 1, 1};
static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static int setup(void **state) { /* port 1 has no address of its own */
  struct ip_rig *r = rig_new();
  assert_int_equal(ip_dhcp4(r->s, 1, NULL), 0);
  assert_int_equal(ip_port_set(r->s, 1, mac1, 1500, 1), 0);
  *state = r;
  return 0;
}

struct sent {
  struct ip_hdr ip;
  struct dhcp_msg m;
  const uint8_t *eth;
};

/* The n-th DHCP message since rig_clear. 1 if there is one. */
static int sent_dhcp(struct ip_rig *r, uint32_t n, struct sent *x) {
  for (uint32_t i = 0; i < HS_MIN(r->n_sent, RIG_SENT); i++) {
    const struct rig_frame *f = &r->sent[i];
    struct udp_hdr u;
    if (load_be16(f->b + 12) != 0x0800 || f->b[23] != IP_PROTO_UDP || load_be16(f->b + 36) != 67)
      continue;
    if (n-- != 0)
      continue;
    x->eth = f->b;
    assert_int_equal(f->port, 1);
    assert_int_equal(ip_hdr_parse(f->b + 14, f->len - 14, &x->ip), 20);
    assert_int_equal(udp_hdr_parse(f->b + 34, f->len - 34, &u), 8);
    assert_int_equal(u.sport, 68);
    assert_int_equal(u.len, f->len - 34);
    cksum_t sum = cksum_pseudo(&x->ip.src, &x->ip.dst, IP_PROTO_UDP, u.len);
    assert_int_equal(cksum_fold(cksum_add(sum, f->b + 34, u.len)), 0);
    assert_true(dhcp_msg_parse(f->b + 42, u.len - 8u, &x->m) >= 300);
    assert_int_equal(x->m.op, 1);
    assert_memory_equal(x->m.chaddr.b, mac1, 6);
    return 1;
  }
  return 0;
}

static struct sent only_sent(struct ip_rig *r, uint8_t type) {
  struct sent x;
  memset(&x, 0, sizeof x);
  assert_true(sent_dhcp(r, 0, &x));
  assert_int_equal(x.m.type, type);
  rig_clear(r);
  return x;
}

static uint32_t frame_to(uint8_t *f, const struct dhcp_msg *m, uint32_t dst, const uint8_t mac[6]) {
  uint8_t l4[8 + DHCP_LEN_BUILT];
  int n = dhcp_msg_build(l4 + 8, DHCP_LEN_BUILT, m);
  assert_true(n > 0);
  struct udp_hdr u = {.sport = 67, .dport = 68, .len = (uint16_t)(n + 8)};
  struct ip_hdr h = {.version = 4, .ttl = 64, .proto = IP_PROTO_UDP};
  h.src = ip_addr_from4(SERVER);
  h.dst = ip_addr_from4(dst);
  assert_int_equal(udp_hdr_build(l4, 8, &u), 8);
  cksum_store(l4 + 6, cksum_fold(cksum_add(cksum_pseudo(&h.src, &h.dst, IP_PROTO_UDP, u.len), l4, u.len)));
  return rig_build_hdr(f, &h, mac, l4, u.len);
}

static void in_on_port1(struct ip_rig *r, const uint8_t *f, uint32_t n) {
  struct pkt p;
  memset(&p, 0, sizeof p);
  p.n_pieces = 1;
  p.piece[0] = (struct pkt_piece){f, n};
  p.len = n;
  p.port = 1;
  ip_input(r->s, &p, r->now);
}

/* The server says `type`, with the words of `like` for what is not common. */
static void say(struct ip_rig *r, uint8_t type, uint32_t xid, struct dhcp_msg like) {
  uint8_t f[1024];
  struct dhcp_msg m = like;
  m.op = 2;
  m.type = type;
  m.xid = xid;
  m.chaddr = mac_addr_load(mac1);
  in_on_port1(r, f, frame_to(f, &m, UINT32_MAX, everybody));
}

static struct dhcp_msg grant(uint32_t lease_s) {
  return (struct dhcp_msg){
      .present = ALL, .yiaddr = LEASED, .server = SERVER, .mask = 0xffffff00u, .router = SERVER, .lease_s = lease_s};
}

static int has_address(struct ip_rig *r) {
  struct ip_addr a = ip_addr_from4(LEASED);
  return ip_is_local(r->s, &a);
}

static const struct route *default_route(struct ip_rig *r) {
  struct ip_addr far = rig_addr("9.9.9.9");
  return route_lookup(&r->s->routes, &far);
}

/* The whole exchange; returns the moment of the request. */
static usec_t bind_lease(struct ip_rig *r, struct dhcp_msg g) {
  rig_advance(r, 1000);
  struct sent x = only_sent(r, DHCP_DISCOVER);
  say(r, DHCP_OFFER, x.m.xid, g);
  usec_t began = r->now;
  x = only_sent(r, DHCP_REQUEST);
  say(r, DHCP_ACK, x.m.xid, g);
  rig_advance(r, 1100000);
  assert_true(has_address(r));
  rig_clear(r);
  return began;
}

static void four_messages(void **state) {
  struct ip_rig *r = *state;
  rig_advance(r, 1000);
  struct sent x = only_sent(r, DHCP_DISCOVER);
  struct ip_addr any = rig_addr("0.0.0.0"), all = rig_addr("255.255.255.255");
  assert_memory_equal(x.eth, everybody, 6);
  assert_memory_equal(x.eth + 6, mac1, 6);
  assert_true(ip_addr_eq(&x.ip.src, &any));
  assert_true(ip_addr_eq(&x.ip.dst, &all));
  assert_int_equal(x.m.flags, DHCP_FLAG_BCAST);
  assert_int_equal(x.m.present, 0); /* neither address nor server yet */
  uint32_t xid = x.m.xid;
  say(r, DHCP_OFFER, xid + 1, grant(3600)); /* somebody else's */
  say(r, DHCP_ACK, xid, grant(3600));       /* too early */
  assert_int_equal(r->n_sent, 0);
  say(r, DHCP_OFFER, xid, grant(3600));
  x = only_sent(r, DHCP_REQUEST);
  assert_int_equal(x.m.xid, xid);
  assert_int_equal(x.m.present, DHCP_HAS_REQUESTED | DHCP_HAS_SERVER);
  assert_int_equal(x.m.requested, LEASED);
  assert_int_equal(x.m.server, SERVER);
  assert_int_equal(x.m.ciaddr, 0);
  struct dhcp_msg other = grant(3600);
  other.server = SERVER + 1;
  say(r, DHCP_ACK, xid, other); /* about an offer that we did not take */
  assert_int_equal(r->n_sent, 0);
  struct dhcp_msg g = grant(3600);
  g.present |= DHCP_HAS_MTU;
  g.mtu = 1400;
  say(r, DHCP_ACK, xid, g);
  assert_false(has_address(r)); /* first it is asked for: sender 0.0.0.0 (RFC 5227 2.1.1) */
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(load_be32(r->sent[0].b + 28), 0);
  assert_int_equal(load_be32(r->sent[0].b + 38), LEASED);
  rig_advance(r, 1100000);
  assert_true(has_address(r));
  assert_int_equal(r->c[IPC_DHCP_BOUND], 1);
  const struct route *d = default_route(r);
  assert_non_null(d);
  assert_int_equal(ip_addr_get4(&d->via), SERVER);
  assert_int_equal(d->port, 1);
  struct ip_addr on_link = rig_addr("192.168.1.77"), src;
  assert_int_equal(ip_mtu(r->s, &on_link), 1400);
  assert_int_equal(ip_source(r->s, &on_link, &src), 0);
  assert_int_equal(ip_addr_get4(&src), LEASED);
}

static void asks_until_answered(void **state) {
  struct ip_rig *r = *state;
  struct sent x;
  uint32_t n = 0;
  rig_advance(r, 70 * S); /* at 0, 4, 12, 28, 60 s, give or take one each */
  while (sent_dhcp(r, n, &x))
    n++;
  assert_int_equal(n, 5);
  assert_true(x.m.secs >= 50); /* as long as we ask */
  rig_clear(r);
  say(r, DHCP_OFFER, x.m.xid, grant(3600));
  rig_advance(r, 70 * S); /* the server is gone: four requests, then from the beginning */
  for (n = 0; n < 4; n++) {
    assert_true(sent_dhcp(r, n, &x));
    assert_int_equal(x.m.type, DHCP_REQUEST);
  }
  assert_true(sent_dhcp(r, 4, &x));
  assert_int_equal(x.m.type, DHCP_DISCOVER);
  assert_int_equal(x.m.present, DHCP_HAS_REQUESTED);
}

static void renews(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[1024];
  usec_t began = bind_lease(r, grant(3600));
  assert_int_equal(r->s->dhcp[1].t1, began + 1800 * S);
  assert_int_equal(r->s->dhcp[1].t2, began + 3150 * S);
  struct sent x;
  rig_advance(r, began + 1799 * S - r->now);
  assert_false(sent_dhcp(r, 0, &x));
  rig_advance(r, 2 * S); /* T1: its server, who must be found first */
  in_on_port1(r, f, rig_arp(f, mac1, ARP_REPLY, server_mac, "192.168.1.1", mac1, "192.168.1.50"));
  assert_true(sent_dhcp(r, 0, &x));
  assert_memory_equal(x.eth, server_mac, 6);
  assert_int_equal(ip_addr_get4(&x.ip.src), LEASED);
  assert_int_equal(ip_addr_get4(&x.ip.dst), SERVER);
  assert_int_equal(x.m.ciaddr, LEASED);
  assert_int_equal(x.m.present, 0);
  assert_int_equal(x.m.flags, 0);
  struct dhcp_msg m = grant(7200);
  m.op = 2;
  m.type = DHCP_ACK;
  m.xid = x.m.xid;
  m.chaddr = mac_addr_load(mac1);
  in_on_port1(r, f, frame_to(f, &m, LEASED, mac1));
  assert_int_equal(r->s->dhcp[1].state, DHCP_BOUND);
  assert_in_range(r->s->dhcp[1].expiry, r->now + 7190 * S, r->now + 7200 * S);
  assert_int_equal(r->c[IPC_DHCP_BOUND], 2);
  assert_true(has_address(r));
}

/* Nobody answers: half of the rest, half of the rest …, then everybody is asked, then the address goes. */
static void rebinds_and_expires(void **state) {
  struct ip_rig *r = *state;
  struct sent x;
  usec_t began = bind_lease(r, grant(1000));
  uint64_t before = r->c[IPC_DHCP_TX];
  rig_advance(r, began + 874 * S - r->now);
  assert_int_equal(r->c[IPC_DHCP_TX] - before, 4); /* at 500, 687, 781, 841 s */
  rig_clear(r);
  rig_advance(r, 2 * S);
  assert_true(sent_dhcp(r, 0, &x)); /* T2 */
  assert_memory_equal(x.eth, everybody, 6);
  assert_int_equal(ip_addr_get4(&x.ip.src), LEASED);
  assert_int_equal(x.m.ciaddr, LEASED);
  rig_advance(r, began + 999 * S - r->now);
  assert_true(has_address(r));
  rig_clear(r);
  rig_advance(r, 2 * S);
  assert_false(has_address(r));
  assert_null(default_route(r));
  assert_int_equal(r->c[IPC_DHCP_EXPIRED], 1);
  (void)only_sent(r, DHCP_DISCOVER);
}

static void another_server_rebinds(void **state) {
  struct ip_rig *r = *state;
  usec_t began = bind_lease(r, grant(1000));
  struct dhcp_msg g = grant(1000);
  rig_advance(r, began + 876 * S - r->now);
  assert_int_equal(r->s->dhcp[1].state, DHCP_REBINDING);
  g.server = SERVER + 7;
  say(r, DHCP_ACK, r->s->dhcp[1].xid, g);
  assert_int_equal(r->s->dhcp[1].state, DHCP_BOUND);
  assert_int_equal(r->s->dhcp[1].server, SERVER + 7);
  assert_true(has_address(r));
}

static void refusals(void **state) {
  struct ip_rig *r = *state;
  rig_advance(r, 1000);
  struct sent x = only_sent(r, DHCP_DISCOVER);
  say(r, DHCP_OFFER, x.m.xid, grant(1000));
  x = only_sent(r, DHCP_REQUEST);
  struct dhcp_msg no = {.present = DHCP_HAS_SERVER, .server = SERVER};
  say(r, DHCP_NAK, x.m.xid, no);
  rig_advance(r, 100000);
  x = only_sent(r, DHCP_DISCOVER); /* from the beginning, without the refused address */
  assert_int_equal(x.m.present, 0);
  assert_int_equal(r->c[IPC_DHCP_NAK], 1);
  say(r, DHCP_OFFER, x.m.xid, grant(1000));
  x = only_sent(r, DHCP_REQUEST);
  assert_int_equal(x.m.requested, LEASED);
}

/* Who is refused again and again asks less and less often, until a lease comes. */
static void refused_again_and_again(void **state) {
  struct ip_rig *r = *state;
  struct dhcp_msg no = {.present = DHCP_HAS_SERVER, .server = SERVER};
  struct sent x;
  usec_t wait = 50000;
  rig_advance(r, 1000);
  for (uint32_t n = 0; n < 13; n++) {
    x = only_sent(r, DHCP_DISCOVER);
    say(r, DHCP_OFFER, x.m.xid, grant(1000));
    x = only_sent(r, DHCP_REQUEST);
    say(r, DHCP_NAK, x.m.xid, no);
    rig_advance(r, wait - 20000);
    assert_false(sent_dhcp(r, 0, &x));
    rig_clear(r);
    rig_advance(r, 30000);
    wait = HS_MIN(2 * wait, 51200000u);
  }
  x = only_sent(r, DHCP_DISCOVER);
  say(r, DHCP_OFFER, x.m.xid, grant(1000));
  x = only_sent(r, DHCP_REQUEST);
  say(r, DHCP_ACK, x.m.xid, grant(1000));
  rig_advance(r, 1100000);
  assert_true(has_address(r));
  assert_int_equal(r->s->dhcp[1].naks, 0);
}

/* A refusal while renewing ends the address at once (RFC 2131 4.4.5). */
static void refused_renewal(void **state) {
  struct ip_rig *r = *state;
  usec_t began = bind_lease(r, grant(1000));
  struct dhcp_msg no = {.present = DHCP_HAS_SERVER, .server = SERVER};
  say(r, DHCP_NAK, r->s->dhcp[1].xid, no);
  assert_true(has_address(r)); /* nobody asked */
  rig_advance(r, began + 501 * S - r->now);
  say(r, DHCP_NAK, r->s->dhcp[1].xid, no);
  assert_false(has_address(r));
  assert_null(default_route(r));
}

static void somebody_has_it(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256];
  rig_advance(r, 1000);
  struct sent x = only_sent(r, DHCP_DISCOVER);
  say(r, DHCP_OFFER, x.m.xid, grant(1000));
  x = only_sent(r, DHCP_REQUEST);
  say(r, DHCP_ACK, x.m.xid, grant(1000));
  rig_clear(r);
  in_on_port1(r, f, rig_arp(f, mac1, ARP_REPLY, server_mac, "192.168.1.50", mac1, "0.0.0.0"));
  x = only_sent(r, DHCP_DECLINE);
  assert_int_equal(x.m.requested, LEASED);
  assert_int_equal(x.m.server, SERVER);
  assert_int_equal(r->c[IPC_DHCP_DECLINED], 1);
  rig_advance(r, 9 * S); /* RFC 2131 3.1.5: ten seconds */
  assert_false(has_address(r));
  assert_false(sent_dhcp(r, 0, &x));
  rig_clear(r);
  rig_advance(r, 2 * S);
  (void)only_sent(r, DHCP_DISCOVER);
}

/* The link comes back, or a new engine knows what the last one had: the same address is asked for (RFC 2131 3.2). */
static void reboots(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr last = ip_addr_from4(LEASED);
  (void)bind_lease(r, grant(1000));
  assert_int_equal(ip_port_set(r->s, 1, mac1, 1500, 0), 0);
  assert_int_equal(ip_port_set(r->s, 1, mac1, 1500, 1), 0);
  rig_advance(r, 1000);
  struct sent x;
  assert_true(sent_dhcp(r, 0, &x));
  assert_int_equal(x.m.type, DHCP_REQUEST);
  assert_int_equal(x.m.present, DHCP_HAS_REQUESTED);
  assert_int_equal(x.m.ciaddr, 0);
  assert_true(has_address(r));
  rig_advance(r, 20 * S); /* nobody there: the lease still counts */
  assert_int_equal(r->s->dhcp[1].state, DHCP_BOUND);
  assert_true(has_address(r));
  struct ip_rig *n = rig_new();
  assert_int_equal(ip_dhcp4(n->s, 1, NULL), 0);
  assert_int_equal(ip_dhcp4(n->s, 1, &last), 0);
  assert_int_equal(ip_port_set(n->s, 1, mac1, 1500, 1), 0);
  rig_advance(n, 1000);
  x = only_sent(n, DHCP_REQUEST);
  assert_int_equal(x.m.requested, LEASED);
  say(n, DHCP_ACK, x.m.xid, grant(1000));
  assert_true(has_address(n)); /* at once: connections wait */
  rig_free(n);
}

static void useless_grants(void **state) {
  struct ip_rig *r = *state;
  rig_advance(r, 1000);
  struct sent x = only_sent(r, DHCP_DISCOVER);
  struct dhcp_msg g = grant(1000);
  g.yiaddr = 0xe0000001u;
  say(r, DHCP_OFFER, x.m.xid, g);
  g = grant(1000);
  g.present &= ~(uint32_t)DHCP_HAS_SERVER;
  say(r, DHCP_OFFER, x.m.xid, g);
  assert_int_equal(r->c[IPC_DHCP_BAD], 2);
  say(r, DHCP_OFFER, x.m.xid, grant(1000));
  g = grant(0);
  say(r, DHCP_ACK, x.m.xid, g);
  g = grant(1000);
  g.mask = 0xff00ff00u;
  say(r, DHCP_ACK, x.m.xid, g);
  g = grant(1000);
  g.yiaddr = 0x0a000001u; /* ours on port 0 */
  say(r, DHCP_ACK, x.m.xid, g);
  assert_int_equal(r->c[IPC_DHCP_BAD], 5);
  g = grant(UINT32_MAX);
  g.router = 0x08080808u; /* no neighbour: no route */
  g.present &= ~(uint32_t)DHCP_HAS_MASK;
  say(r, DHCP_ACK, x.m.xid, g);
  rig_advance(r, 20000 * S);
  assert_true(has_address(r)); /* for ever */
  assert_null(default_route(r));
  struct ip_addr a = ip_addr_from4(LEASED);
  assert_int_equal(addr_find(r->s, &a)->prefix, 24); /* class C */
  uint8_t f[256], l4[32] = {0};                      /* what is not for the client goes up */
  store_be16(l4 + 2, 69);
  store_be16(l4 + 4, 32);
  struct ip_hdr h = {.version = 4, .ttl = 64, .proto = IP_PROTO_UDP, .src = rig_addr("192.168.1.7"), .dst = a};
  in_on_port1(r, f, rig_build_hdr(f, &h, mac1, l4, sizeof l4));
  assert_int_equal(r->n_up, 1);
  assert_int_equal(ip_dhcp4(r->s, ABI_PORTS_MAX, NULL), -EINVAL);
}

static void waits_for_frames(void **state) {
  struct ip_rig *r = *state;
  r->slots = 0;
  rig_advance(r, 3 * S);
  r->slots = RIG_SLOTS;
  rig_clear(r);
  rig_advance(r, 100000);
  (void)only_sent(r, DHCP_DISCOVER);
}

/* The user's route stays; options in the file and sname fields are read. */
static void user_route_and_overload(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr any = rig_addr("0.0.0.0"), gw = rig_addr("10.0.0.254");
  assert_int_equal(ip_route_add(r->s, &any, 0, &gw, 0), 0);
  (void)bind_lease(r, grant(1000));
  assert_true(ip_addr_eq(&default_route(r)->via, &gw));
  uint8_t b[300] = {2, 1, 6};
  struct dhcp_msg m;
  store_be32(b + 236, 0x63825363);
  memcpy(b + 240, "\x34\x01\x03\xff", 4);                              /* both fields */
  memcpy(b + 108, "\x35\x01\x05\x00\x33\x04\x00\x00\x00\x09\xff", 11); /* file */
  memcpy(b + 44, "\x36\x04\xc0\xa8\x01\x01\x1a\x02\x05\x00\xff", 11);  /* sname */
  assert_int_equal(dhcp_msg_parse(b, sizeof b, &m), 300);
  assert_int_equal(m.type, DHCP_ACK);
  assert_int_equal(m.lease_s, 9);
  assert_int_equal(m.server, SERVER);
  assert_int_equal(m.mtu, 1280);
  assert_int_equal(dhcp_msg_parse(b, 240, &m), WIRE_SHORT);
  b[240] = 1; /* an option beyond the end */
  b[241] = 60;
  assert_int_equal(dhcp_msg_parse(b, sizeof b, &m), WIRE_LENGTH);
  b[236] = 0;
  assert_int_equal(dhcp_msg_parse(b, sizeof b, &m), WIRE_VERSION);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(four_messages, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(asks_until_answered, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(renews, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(rebinds_and_expires, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(another_server_rebinds, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(refusals, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(refused_renewal, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(refused_again_and_again, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(somebody_has_it, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(reboots, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(useless_grants, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(waits_for_frames, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(user_route_and_overload, setup, rig_teardown),
  };
  return cmocka_run_group_tests_name("ip_dhcp", tests, NULL, NULL);
}
