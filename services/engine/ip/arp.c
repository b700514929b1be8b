/*
 * ARP (RFC 826): answers who asks for us, asks for neighbours, announces our addresses and defends them (RFC 5227).
 * Called by ip_input.c, neigh.c and addr.c; worker thread.
 *
 * What an ARP packet says of its sender is put in the terms of RFC 4861 7.2.5, so that one table serves both families:
 * a reply to us is solicited and overrides; a gratuitous packet overrides; a request overrides too, since RFC 826
 * merges. Nobody gets an entry by talking: only who has one, because we send to him, is updated.
 */
#include "wire/arp.h"
#include "ip/ip_stack.h"
#include "ip/pkt_read.h"

#define ARP_DEFEND_US 10000000ull /* RFC 5227 1.1: DEFEND_INTERVAL */

static const uint8_t arp_everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static int arp_send(struct ip_stack *s, uint32_t port, const struct arp_pkt *a, const uint8_t mac[6]) {
  struct txf t;
  int err = stack_frame(s, &t, port);
  if (err < 0)
    return err;
  t.len = ARP_LEN;
  err = arp_pkt_build(t.data, ARP_LEN, a);
  if (err < 0) {
    s->ops.frame_drop(s->ctx, &t);
    return -EINVAL;
  }
  eth_output(s, &t, mac, ETH_TYPE_ARP);
  return 0;
}

int arp_ask(struct ip_stack *s, uint32_t port, const struct ip_addr *dst, const uint8_t *mac) {
  const struct ip_local *l = addr_pick(s, port, dst, NULL);
  if (l == NULL)
    return -EADDRNOTAVAIL;
  struct arp_pkt a = {.op = ARP_REQUEST, .sha = mac_addr_load(s->port[port].mac), .spa = l->addr, .tpa = *dst};
  int err = arp_send(s, port, &a, mac != NULL ? mac : arp_everybody); /* RFC 1122 2.3.2.1: unicast poll */
  if (err == 0)
    stack_count(s, IPC_ARP_REQUESTS);
  return err;
}

int arp_probe(struct ip_stack *s, uint32_t port, const struct ip_addr *a) {
  struct arp_pkt p = {.op = ARP_REQUEST, .sha = mac_addr_load(s->port[port].mac), .spa = ip_addr_from4(0), .tpa = *a};
  return arp_send(s, port, &p, arp_everybody);
}

int arp_announce(struct ip_stack *s, const struct ip_local *l) {
  struct arp_pkt a = {
      .op = ARP_REQUEST, .sha = mac_addr_load(s->port[l->port].mac), .spa = l->addr, .tpa = l->addr}; /* RFC 5227 2.3 */
  int err = arp_send(s, l->port, &a, arp_everybody);
  if (err == 0)
    stack_count(s, IPC_ADDR_ANNOUNCED);
  return err;
}

/* Another station says that our address is its own: tell everybody once per interval (RFC 5227 2.4 b). */
static void arp_defend(struct ip_stack *s, struct ip_local *l, usec_t now) {
  if (s->quiet)
    return;
  addr_conflict(s, l, now);
  if (l->defended != 0 && now - l->defended < ARP_DEFEND_US)
    return;
  if (arp_announce(s, l) == 0)
    l->defended = now;
}

static void arp_reply(struct ip_stack *s, uint32_t port, const struct arp_pkt *in) {
  struct arp_pkt a = {
      .op = ARP_REPLY, .sha = mac_addr_load(s->port[port].mac), .spa = in->tpa, .tha = in->sha, .tpa = in->spa};
  if (arp_send(s, port, &a, in->sha.b) == 0)
    stack_count(s, IPC_ARP_REPLIES);
}

static void arp_learn(struct ip_stack *s, uint32_t port, const struct arp_pkt *a, int to_us, usec_t now) {
  struct neigh *e = neigh_find(s, port, &a->spa);
  if (e == NULL)
    return; /* deviates: RFC 826 would add the asker; we ask him when we have something to send */
  unsigned what = NEIGH_SAID_OVERRIDE;
  if (a->op == ARP_REPLY && to_us)
    what |= NEIGH_SAID_SOLICITED;
  neigh_heard(s, e, a->sha.b, what, now);
}

void arp_input(struct ip_stack *s, const struct pkt *p, const struct ip_view *v, usec_t now) {
  struct arp_pkt a;
  uint32_t port = p->port;
  stack_count(s, IPC_ARP_RX);
  if (arp_pkt_parse(v->h + v->eth.hdr_len, v->avail - v->eth.hdr_len, &a) < 0 ||
      memcmp(a.sha.b, s->port[port].mac, 6) == 0 || ip_addr_is_multicast(&a.spa) || ip_addr_is_broadcast(&a.spa) ||
      ip_addr_is_loopback(&a.spa)) {
    stack_count(s, IPC_ARP_BAD);
    return;
  }
  dhcp_claimed(s, port, ip_addr_is_any(&a.spa) ? &a.tpa : &a.spa,
               now); /* in use, or wanted by another (RFC 5227 2.1.1) */
  struct ip_local *mine = addr_on_port(s, port, &a.spa);
  if (mine != NULL) {
    arp_defend(s, mine, now);
    return;
  }
  int to_us = addr_on_port(s, port, &a.tpa) != NULL;
  if (a.op == ARP_REQUEST && to_us && !s->quiet)
    arp_reply(s, port, &a);
  if (!ip_addr_is_any(&a.spa)) /* else a probe (RFC 5227 2.1.1), which says nothing of its sender */
    arp_learn(s, port, &a, to_us && !mac_addr_is_multicast(&v->eth.dst), now);
}
