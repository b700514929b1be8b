/*
 * DHCPv4 client (RFC 2131, 2132): address, net, router and MTU of a port, renewed while the stack lives. Called by
 * ip_input.c for datagrams to port 68, by arp.c when somebody claims the address being tried, and by the stack's clock;
 * worker thread. Never releases: a restarted engine wants its address, and its connections, back.
 *
 * Messages carry the broadcast flag while the port has no address, so that answers pass ip_input's destination check.
 *
 * deviates: the random wait before the first DISCOVER (RFC 2131 4.4.1) is left out; option 121 is not asked for.
 */
#include "ip/dhcp.h"
#include "base/hash.h"
#include "ip/ip_stack.h"
#include "ip/pkt_read.h"
#include "wire/dhcp.h"
#include "wire/udp.h"

#define DHCP_RETRY_US  4000000ull  /* RFC 2131 4.1: 4, 8, 16 … 64 s, give or take one */
#define DHCP_RENEW_US  60000000ull /* RFC 2131 4.4.5: half of what is left, at least this */
#define DHCP_PROBE_US  500000ull
#define DHCP_PAUSE_US  10000000ull /* RFC 2131 3.1.5: after a DECLINE */
#define DHCP_SOON_US   50000ull    /* no frame was free */
#define DHCP_NAKS_MAX  10u         /* a minute between two refusals at most */
#define DHCP_REQUESTS  4u
#define DHCP_REBOOTS   2u
#define DHCP_PROBES    2u
#define DHCP_MTU_MIN   576u
#define DHCP_BITS_NONE 0xffu

static const uint8_t dhcp_everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void dhcp_arm(struct ip_stack *s, uint32_t port, usec_t when, usec_t now) {
  stack_arm(s, &s->dhcp[port].timer, STACK_TIMER_DHCP, port, when, now);
}

static void dhcp_new_xid(struct ip_stack *s, uint32_t port, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  uint64_t in[3] = {now, port, s->dhcp_count++};
  d->xid = (uint32_t)hash_siphash24(s->neigh.key, in, sizeof in);
  d->tries = 0;
  d->began = now;
}

static usec_t dhcp_backoff(const struct dhcp_port *d) {
  usec_t base = DHCP_RETRY_US << HS_MIN(d->tries, 4u);
  return base - 1000000ull + (d->xid * 2654435761u + d->tries * 40503u) % 2000000u;
}

/* --- sending --- */

static void dhcp_fill(const struct ip_stack *s, uint32_t port, uint8_t type, struct dhcp_msg *m, usec_t now) {
  const struct dhcp_port *d = &s->dhcp[port];
  int keeps = d->state == DHCP_RENEWING || d->state == DHCP_REBINDING;
  *m = (struct dhcp_msg){.op = 1, .type = type, .xid = d->xid, .present = DHCP_HAS_CLIENT};
  m->secs = (uint16_t)HS_MIN((now - d->began) / 1000000u, 65535u);
  m->chaddr = mac_addr_load(s->port[port].mac);
  if (keeps) {
    m->ciaddr = d->addr;
    return;
  }
  m->flags = DHCP_FLAG_BCAST;
  if (d->addr != 0) { /* table 5: wanted in DISCOVER, required in REQUEST and DECLINE */
    m->requested = d->addr;
    m->present |= DHCP_HAS_REQUESTED;
  }
  if (d->server != 0 && (d->state == DHCP_REQUESTING || type == DHCP_DECLINE)) {
    m->server = d->server;
    m->present |= DHCP_HAS_SERVER;
  }
}

static int dhcp_send(struct ip_stack *s, uint32_t port, uint8_t type, usec_t now) {
  const struct dhcp_port *d = &s->dhcp[port];
  struct dhcp_msg m;
  struct txf t;
  int err = stack_frame(s, &t, port);
  if (err < 0)
    return err;
  dhcp_fill(s, port, type, &m, now);
  struct ip_addr src = ip_addr_from4(m.ciaddr), dst = ip_addr_from4(UINT32_MAX);
  if (d->state == DHCP_RENEWING)
    dst = ip_addr_from4(d->server);
  int n = dhcp_msg_build(t.data + UDP_HLEN, DHCP_LEN_BUILT, &m);
  struct udp_hdr u = {.sport = DHCP_PORT_CLIENT, .dport = DHCP_PORT_SERVER, .len = (uint16_t)(n + (int)UDP_HLEN)};
  if (n < 0 || udp_hdr_build(t.data, UDP_HLEN, &u) < 0) {
    s->ops.frame_drop(s->ctx, &t);
    return -EINVAL;
  }
  t.len = u.len;
  uint16_t sum = cksum_fold(cksum_add(cksum_pseudo(&src, &dst, IP_PROTO_UDP, t.len), t.data, t.len));
  cksum_store(t.data + UDP_OFF_CKSUM, sum != 0 ? sum : 0xffff);
  stack_count(s, IPC_DHCP_TX);
  if (d->state == DHCP_RENEWING)
    return ip_output(s, &t, &src, &dst, IP_PROTO_UDP, 0, 0, NULL, now);
  return output_direct(s, &t, &src, &dst, IP_PROTO_UDP, STACK_TTL, dhcp_everybody);
}

/* Sends the state's message and arms for the next one at `next`, or soon if no frame was free. */
static void dhcp_say(struct ip_stack *s, uint32_t port, uint8_t type, usec_t next, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  if (dhcp_send(s, port, type, now) == -ENOBUFS) {
    dhcp_arm(s, port, now + DHCP_SOON_US, now);
    return;
  }
  if (d->tries < 255)
    d->tries++;
  dhcp_arm(s, port, next, now);
}

/* --- what was granted --- */

/* The address, its route and the MTU go. */
static void dhcp_let_go(struct ip_stack *s, uint32_t port) {
  struct dhcp_port *d = &s->dhcp[port];
  struct ip_addr a = ip_addr_from4(d->addr), any = ip_addr_from4(0), via = ip_addr_from4(d->router);
  struct ip_local *l = addr_on_port(s, port, &a);
  struct route *r = route_find(&s->routes, &any, 96);
  if (d->held && r != NULL && r->learned && r->port == port && ip_addr_eq(&r->via, &via))
    (void)route_del(&s->routes, &any, 96);
  if (d->held && l != NULL && l->automatic == LOCAL_BY_DHCP)
    addr_remove(s, l);
  d->held = 0;
  d->addr = d->server = d->router = 0;
  s->port[port].mtu4 = 0;
  stack_changed(s);
}

static void dhcp_route(struct ip_stack *s, uint32_t port) {
  struct dhcp_port *d = &s->dhcp[port];
  struct ip_addr any = ip_addr_from4(0), via = ip_addr_from4(d->router);
  const struct route *hop = route_lookup(&s->routes, &via);
  struct route *r = route_find(&s->routes, &any, 96);
  int err;
  if (d->router == 0 || hop == NULL || hop->has_via || hop->port != port || addr_find(s, &via) != NULL)
    return; /* no router that could be a neighbour */
  if (r != NULL && (!r->learned || r->port != port))
    return; /* the user's, or another port's */
  if (r == NULL)
    r = route_add(&s->routes, &any, 96, &err);
  if (r == NULL)
    return;
  r->via = via;
  r->has_via = 1;
  r->port = (uint8_t)port;
  r->learned = 1;
  stack_changed(s);
}

/* The lease is ours: address, route, MTU. */
static void dhcp_use(struct ip_stack *s, uint32_t port, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  struct ip_addr a = ip_addr_from4(d->addr);
  struct ip_local *l = addr_on_port(s, port, &a);
  if (l == NULL)
    l = addr_make(s, port, &a, d->prefix, LOCAL_BY_DHCP);
  if (l == NULL) { /* the table of addresses is full */
    stack_count(s, IPC_DHCP_BAD);
    d->state = DHCP_INIT;
    dhcp_arm(s, port, now + DHCP_PAUSE_US, now);
    return;
  }
  d->held = l->automatic == LOCAL_BY_DHCP;
  dhcp_route(s, port);
  if (s->port[port].mtu4 != d->mtu) {
    s->port[port].mtu4 = d->mtu;
    stack_changed(s);
  }
  stack_count(s, IPC_DHCP_BOUND);
  d->state = DHCP_BOUND;
  d->tries = d->naks = 0;
  if (d->t1 == TIMER_NEVER)
    timer_cancel(&s->wheel, &d->timer);
  else
    dhcp_arm(s, port, d->t1, now);
}

/* Prefix length of a mask, DHCP_BITS_NONE if it has holes; without a mask that of the old class (RFC 791 3.2). */
static unsigned dhcp_prefix(const struct dhcp_msg *m) {
  if (!(m->present & DHCP_HAS_MASK))
    return m->yiaddr >> 31 == 0 ? 8 : m->yiaddr >> 30 == 2 ? 16 : 24;
  unsigned bits = 0;
  while (bits < 32 && m->mask & 0x80000000u >> bits)
    bits++;
  return bits == 32 || (m->mask << bits) == 0 ? bits : DHCP_BITS_NONE;
}

static int dhcp_addr_bad(uint32_t a) {
  return a == 0 || a >> 24 == 0 || a >> 24 == 127 || a >> 28 >= 14; /* RFC 1122 3.2.1.3 */
}

/* RFC 2131 4.4.5: T1 is half and T2 seven eighths of the lease unless the server says else. */
static void dhcp_times(struct dhcp_port *d, const struct dhcp_msg *m) {
  uint64_t lease = m->lease_s;
  uint64_t t2 = m->present & DHCP_HAS_T2 && m->t2_s < lease ? m->t2_s : lease * 7 / 8;
  uint64_t t1 = m->present & DHCP_HAS_T1 && m->t1_s < t2 ? m->t1_s : HS_MIN(lease / 2, t2);
  int ever = m->lease_s == UINT32_MAX;
  d->expiry = ever ? TIMER_NEVER : d->began + lease * 1000000u; /* 4.4.1: counts from the request */
  d->t2 = ever ? TIMER_NEVER : d->began + t2 * 1000000u;
  d->t1 = ever ? TIMER_NEVER : d->began + t1 * 1000000u;
}

static void dhcp_ack(struct ip_stack *s, uint32_t port, const struct dhcp_msg *m, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  struct ip_addr a = ip_addr_from4(m->yiaddr);
  unsigned bits = dhcp_prefix(m);
  if (!(m->present & DHCP_HAS_LEASE) || m->lease_s == 0 || bits == DHCP_BITS_NONE || dhcp_addr_bad(m->yiaddr) ||
      (!d->held && addr_find(s, &a) != NULL)) {
    stack_count(s, IPC_DHCP_BAD);
    return;
  }
  if (d->held && d->addr != m->yiaddr)
    dhcp_let_go(s, port);
  d->addr = m->yiaddr;
  d->prefix = (uint8_t)bits;
  if (m->present & DHCP_HAS_SERVER)
    d->server = m->server;
  if (!d->held || m->present & DHCP_HAS_ROUTER)
    d->router = m->present & DHCP_HAS_ROUTER ? m->router : 0;
  d->mtu = m->present & DHCP_HAS_MTU && m->mtu >= DHCP_MTU_MIN ? m->mtu : 0;
  dhcp_times(d, m);
  if (d->held || d->state == DHCP_REBOOTING) { /* it was ours a moment ago */
    dhcp_use(s, port, now);
    return;
  }
  d->state = DHCP_CHECKING;
  d->tries = 0;
  dhcp_timer(s, port, now);
}

void dhcp_claimed(struct ip_stack *s, uint32_t port, const struct ip_addr *a, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  if (d->state != DHCP_CHECKING || ip_addr_get4(a) != d->addr)
    return;
  stack_count(s, IPC_DHCP_DECLINED);
  (void)dhcp_send(s, port, DHCP_DECLINE, now);
  dhcp_let_go(s, port);
  d->state = DHCP_INIT;
  dhcp_arm(s, port, now + DHCP_PAUSE_US, now);
}

/* --- input --- */

static void dhcp_answer(struct ip_stack *s, uint32_t port, const struct dhcp_msg *m, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  if (d->state == DHCP_SELECTING && m->type == DHCP_OFFER) { /* the first one is taken */
    if (!(m->present & DHCP_HAS_SERVER) || dhcp_addr_bad(m->yiaddr)) {
      stack_count(s, IPC_DHCP_BAD);
      return;
    }
    d->addr = m->yiaddr;
    d->server = m->server;
    d->state = DHCP_REQUESTING;
    d->tries = 0;
    d->began = now;
    dhcp_timer(s, port, now);
    return;
  }
  if (d->state != DHCP_REQUESTING && d->state != DHCP_REBOOTING && d->state != DHCP_RENEWING &&
      d->state != DHCP_REBINDING)
    return;
  if (d->state == DHCP_REQUESTING && m->present & DHCP_HAS_SERVER && m->server != d->server)
    return; /* another server's word about another offer */
  if (m->type == DHCP_ACK) {
    dhcp_ack(s, port, m, now);
  } else if (m->type == DHCP_NAK) {
    stack_count(s, IPC_DHCP_NAK);
    dhcp_let_go(s, port);
    d->state = DHCP_INIT;
    dhcp_arm(s, port, now + (DHCP_SOON_US << d->naks), now);
    d->naks = (uint8_t)HS_MIN(d->naks + 1u, DHCP_NAKS_MAX);
  }
}

int dhcp_input(struct ip_stack *s, const struct pkt *p, usec_t now) {
  struct udp_hdr u;
  struct dhcp_msg m;
  const struct dhcp_port *d = &s->dhcp[p->port];
  uint32_t len = HS_MIN(p->l4_len, STACK_MSG_MAX);
  const uint8_t *b = pkt_read_at(p, p->l4_off, len, s->msg);
  if (!d->on || p->ip.version != 4 || b == NULL || udp_hdr_parse(b, len, &u) < 0 || u.dport != DHCP_PORT_CLIENT)
    return 0;
  stack_count(s, IPC_DHCP_RX);
  int sum_ok = u.cksum == 0 || p->flags & (ABI_FR_CSUM_OK | ABI_FR_CSUM_PART) || pkt_read_l4_ok(p);
  if (u.sport != DHCP_PORT_SERVER || !sum_ok || dhcp_msg_parse(b + UDP_HLEN, u.len - UDP_HLEN, &m) < 0) {
    stack_count(s, IPC_DHCP_BAD);
    return 1;
  }
  if (m.op == 2 && m.xid == d->xid && memcmp(m.chaddr.b, s->port[p->port].mac, 6) == 0)
    dhcp_answer(s, p->port, &m, now);
  return 1;
}

/* --- time --- */

static usec_t dhcp_half(usec_t now, usec_t end) {
  return HS_MIN(now + HS_MAX((end - now) / 2, DHCP_RENEW_US), end);
}

/* A lease runs: renew, rebind, lose. */
static void dhcp_timer_lease(struct ip_stack *s, uint32_t port, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  if (now >= d->expiry) {
    stack_count(s, IPC_DHCP_EXPIRED);
    dhcp_let_go(s, port);
    d->state = DHCP_INIT;
    dhcp_timer(s, port, now);
    return;
  }
  if (!s->port[port].up) {
    dhcp_arm(s, port, d->expiry, now);
    return;
  }
  if (d->state != DHCP_REBINDING && now >= d->t2) {
    d->state = DHCP_REBINDING;
    dhcp_new_xid(s, port, now);
  } else if (d->state == DHCP_BOUND && now >= d->t1) {
    d->state = DHCP_RENEWING;
    dhcp_new_xid(s, port, now);
  } else if (d->state == DHCP_BOUND) {
    dhcp_arm(s, port, d->t1, now);
    return;
  }
  d->began = now;
  dhcp_say(s, port, DHCP_REQUEST, dhcp_half(now, d->state == DHCP_RENEWING ? d->t2 : d->expiry), now);
}

static void dhcp_timer_ask(struct ip_stack *s, uint32_t port, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  unsigned most = d->state == DHCP_REQUESTING ? DHCP_REQUESTS : DHCP_REBOOTS;
  if (d->state != DHCP_SELECTING && d->tries >= most && d->held) { /* nobody there: what is granted is granted */
    d->state = DHCP_BOUND;
    dhcp_timer_lease(s, port, now);
    return;
  }
  if (d->state == DHCP_INIT || (d->state != DHCP_SELECTING && d->tries >= most)) {
    d->state = DHCP_SELECTING;
    dhcp_new_xid(s, port, now);
  }
  dhcp_say(s, port, d->state == DHCP_SELECTING ? DHCP_DISCOVER : DHCP_REQUEST, now + dhcp_backoff(d), now);
}

void dhcp_timer(struct ip_stack *s, uint32_t port, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  switch ((enum dhcp_state)d->state) {
  case DHCP_INIT:
  case DHCP_SELECTING:
  case DHCP_REQUESTING:
  case DHCP_REBOOTING:
    if (s->port[port].up)
      dhcp_timer_ask(s, port, now);
    return;
  case DHCP_CHECKING: {
    struct ip_addr a = ip_addr_from4(d->addr);
    if (d->tries >= DHCP_PROBES) {
      dhcp_use(s, port, now);
      return;
    }
    d->tries = (uint8_t)(d->tries + (arp_probe(s, port, &a) == 0));
    dhcp_arm(s, port, now + DHCP_PROBE_US, now);
    return;
  }
  case DHCP_BOUND:
  case DHCP_RENEWING:
  case DHCP_REBINDING:
    dhcp_timer_lease(s, port, now);
    return;
  }
}

void dhcp_start(struct ip_stack *s, uint32_t port, usec_t now) {
  struct dhcp_port *d = &s->dhcp[port];
  struct ip_addr a = ip_addr_from4(d->addr);
  d->due = 0;
  if (!d->on || !s->port[port].up)
    return;
  if (d->held && addr_on_port(s, port, &a) == NULL) /* went with the port's MAC */
    d->held = 0;
  d->state = d->addr != 0 ? DHCP_REBOOTING : DHCP_INIT; /* RFC 2131 3.2, 4.4.2: perhaps another link */
  dhcp_new_xid(s, port, now);
  dhcp_timer(s, port, now);
}

int ip_dhcp4(struct ip_stack *s, uint32_t port, const struct ip_addr *last) {
  if (!port_is(s, port) || (last != NULL && !ip_addr_is4(last)))
    return -EINVAL;
  struct dhcp_port *d = &s->dhcp[port];
  if (last != NULL && !d->held)
    d->addr = ip_addr_get4(last);
  d->on = d->due = 1;
  s->announce_due = 1;
  s->next_due = 0;
  return 0;
}
