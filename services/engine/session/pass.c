/*
 * Passing packets and what was learned between the workers of an engine (pass.h). Worker thread; the rare way.
 */
#include "pass.h"

#include "base/bits.h"
#include "ip/pkt_read.h"
#include "wire/eth.h"
#include "wire/icmp.h"
#include "worker.h"

#include <stdlib.h>

#define PASS_BYTES    65600u /* longest frame */
#define PASS_EVERY_US 10000u /* between two looks at what was learned */

struct pass_packet {
  uint32_t len;
  uint16_t flags, gso_size;
  uint8_t port, vrf;
  uint8_t frame; /* from the Ethernet header on; else from the IP header on */
  uint8_t bytes[PASS_BYTES];
};

void pass_fini(struct pass *p) {
  free(p->room);
  for (uint32_t v = 0; v < ABI_VRFS; v++) {
    free(p->vrf[v].told);
    free(p->vrf[v].learned);
  }
}

/* --- packets --- */

static void mail_packet(struct worker *w, void *arg) {
  const struct pass_packet *in = arg;
  struct pkt p = {.piece = {{.p = in->bytes, .len = in->len}},
                  .n_pieces = 1,
                  .len = in->len,
                  .flags = in->flags,
                  .gso_size = in->gso_size,
                  .port = in->port,
                  .vrf = in->vrf};
  if (!w->adopted)
    return;
  if (in->frame)
    ip_input(worker_ip(w, p.vrf), &p, w->now);
  else
    ip_loop_input(worker_ip(w, p.vrf), &p, w->now);
}

/* Copies [off, off + len) of p. NULL without memory, or if it is too long. */
static struct pass_packet *pass_copy(struct worker *w, const struct pkt *p, uint32_t off, uint32_t len) {
  struct pass_packet *out = w->pass.room;
  if (len > PASS_BYTES)
    return NULL;
  if (!out)
    out = w->pass.room = malloc(sizeof *out);
  if (!out)
    return NULL;
  out->len = pkt_read_copy(p, off, len, out->bytes);
  out->flags = p->flags;
  out->gso_size = p->gso_size;
  out->port = p->port;
  out->vrf = p->vrf;
  return out;
}

/* 0, or -ENOBUFS: the other has too much to do. */
static int pass_mail(struct worker *w, uint32_t to, mail_fn fn, const void *note, size_t size) {
  struct mailbox *m = &w->group->w[to]->mail;
  if (__atomic_load_n(&m->n, __ATOMIC_RELAXED) < PASS_MAX && mailbox_post_copy(m, fn, note, size) == 0)
    return 0;
  worker_count(w, EC_HANDED_DROP, 1);
  return -ENOBUFS;
}

static void pass_on(struct worker *w, const struct pkt *p, uint32_t to, uint16_t flags) {
  struct pass_packet *out = pass_copy(w, p, p->l3_off, p->ip.total_len);
  if (!out)
    return;
  out->frame = 0;
  out->flags |= flags;
  worker_count(w, EC_HANDED_OVER, 1);
  (void)pass_mail(w, to, mail_packet, out, offsetof(struct pass_packet, bytes) + out->len);
}

void pass_packet(struct worker *w, const struct pkt *p, uint32_t to) {
  pass_on(w, p, to, 0);
}

void pass_stray(struct worker *w, const struct pkt *p, uint32_t to) {
  pass_on(w, p, to, PKT_STRAY);
}

static void mail_error(struct worker *w, void *arg) {
  if (w->adopted)
    worker_icmp(w, arg);
}

void pass_error(struct worker *w, uint32_t to, const struct pass_error *e) {
  (void)pass_mail(w, to, mail_error, e, sizeof *e);
}

/* Whether a frame is ARP, or a neighbour solicitation or advertisement; len bytes at h. */
static int pass_is_neighbour(const uint8_t *h, uint32_t len) {
  uint32_t at = ETH_HLEN;
  if (len < ETH_HLEN + ETH_VLAN_LEN)
    return 0;
  uint16_t type = load_be16(h + 12);
  if (type == ETH_TYPE_VLAN) {
    type = load_be16(h + 16);
    at += ETH_VLAN_LEN;
  }
  if (type == ETH_TYPE_ARP)
    return 1;
  if (type != ETH_TYPE_IP6 || len < at + IP6_HLEN + 1 || h[at + 6] != IP_PROTO_ICMP6)
    return 0;
  return h[at + IP6_HLEN] == ICMP6_NS || h[at + IP6_HLEN] == ICMP6_NA;
}

void pass_neighbour(struct worker *w, const struct pkt *p) {
  if (HS_LIKELY(!pass_is_neighbour(p->piece[0].p, p->piece[0].len)))
    return;
  struct pass_packet *out = pass_copy(w, p, 0, p->len);
  if (!out)
    return;
  out->frame = 1;
  for (uint32_t k = 1; k < w->group->n; k++)
    (void)pass_mail(w, k, mail_packet, out, offsetof(struct pass_packet, bytes) + out->len);
}

/* --- what was learned --- */

struct pass_mtu {
  struct ip_addr dst;
  uint32_t vrf;
  uint32_t mtu;
  usec_t until;
};

static void mail_path_mtu(struct worker *w, void *arg) {
  const struct pass_mtu *m = arg;
  (void)ip_path_mtu_told(worker_ip(w, m->vrf), &m->dst, m->mtu, m->until, w->now);
}

void pass_path_mtu(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint32_t mtu, usec_t until) {
  const struct pass_mtu m = {.dst = *dst, .vrf = vrf, .mtu = mtu, .until = until};
  for (uint32_t k = 0; k < w->group->n; k++)
    if (k != w->index)
      (void)pass_mail(w, k, mail_path_mtu, &m, sizeof m);
}

struct pass_group {
  struct ip_addr group;
  uint32_t vrf, port;
  int join;
};

static void mail_group(struct worker *w, void *arg) {
  const struct pass_group *m = arg;
  ip_group_told(worker_ip(w, m->vrf), &m->group, m->port, m->join);
}

void pass_group(struct worker *w, uint32_t vrf, const struct ip_addr *group, uint32_t port, int join) {
  const struct pass_group m = {.group = *group, .vrf = vrf, .port = port, .join = join};
  for (uint32_t k = 0; k < w->group->n; k++)
    if (k != w->index)
      (void)mailbox_post_copy(&w->group->w[k]->mail, mail_group, &m, sizeof m);
}

struct pass_learned {
  uint32_t vrf, pad;
  struct ip_learned all;
};

static void mail_learned(struct worker *w, void *arg) {
  const struct pass_learned *m = arg;
  ip_learn(worker_ip(w, m->vrf), &m->all, w->now);
}

/* One VRF's stack. */
static void pass_learned_vrf(struct worker *w, uint32_t v) {
  struct ip_stack *ip = worker_ip(w, v);
  struct pass *p = &w->pass;
  if (HS_LIKELY(ip == NULL || ip_gen(ip) == p->vrf[v].gen || w->now - p->vrf[v].at < PASS_EVERY_US))
    return;
  if (!p->vrf[v].told)
    p->vrf[v].told = calloc(1, sizeof *p->vrf[v].told);
  if (!p->vrf[v].learned)
    p->vrf[v].learned = calloc(1, sizeof *p->vrf[v].learned);
  struct pass_learned *told = p->vrf[v].told, *learned = p->vrf[v].learned;
  if (!told || !learned)
    return; /* again in the next turn */
  p->vrf[v].at = w->now;
  p->vrf[v].gen = ip_gen(ip);
  ip_learned(ip, &learned->all);
  if (memcmp(&learned->all, &told->all, sizeof told->all) == 0)
    return;
  learned->vrf = v;
  p->vrf[v].told = learned;
  p->vrf[v].learned = told;
  for (uint32_t k = 1; k < w->group->n; k++)
    if (mailbox_post_copy(&w->group->w[k]->mail, mail_learned, learned, sizeof *learned))
      p->vrf[v].gen--; /* no memory: told again */
}

void pass_learned(struct worker *w) {
  if (HS_LIKELY(w->group->n == 1 || w->index != 0))
    return;
  for (uint32_t v = 0; v < w->n_vrfs; v++)
    pass_learned_vrf(w, v);
}
