/*
 * The rig behind the whole-engine simulations, see engine_rig.h.
 */
#include "engine_rig.h"

#include "sim_digest.h"

#include "rng_repeat.h"
#include "session/life.h"
#include "shm/bell.h"
#include "shm/fence.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static usec_t rig_clock = 1000000;
uint32_t rig_time_waits = 16;
uint32_t rig_connections;
uint32_t rig_syncookies = 1;

usec_t rig_now(void) {
  return rig_clock;
}

static int rig_dup(int fd) {
  int n = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  assert_true(n >= 0);
  return n;
}

static void rig_drained(void *control, struct app_worker *a) {
  struct rig_host *h = control;
  h->worker_was_drained = 1;
  app_free(a);
}

static void rig_lied(void *control, uint64_t worker_id, const char *why) {
  struct rig_host *h = control;
  if (!h->may_lie)
    fail_msg("worker %llu lied: %s", (unsigned long long)worker_id, why);
  h->lied = why;
}

static const struct worker_control rig_control = {.drained = rig_drained, .lied = rig_lied};
const struct worker_control *worker_control = &rig_control;

static void rig_config(struct rig_host *h) {
  config_defaults(&h->cfg);
  if (rig_connections)
    h->cfg.max_connections = rig_connections;
  struct config *c = &h->cfg;
  snprintf(c->port[0].name, sizeof c->port[0].name, "p0");
  c->n_ports = 1;
  c->n_addrs = 2;
  for (int i = 0; i < 2; i++) {
    snprintf(c->addr[i].port, sizeof c->addr[i].port, "p0");
    struct ip_addr a;
    char text[32];
    snprintf(text, sizeof text, i ? "fd00::%u" : "10.0.0.%u", h->number);
    assert_int_equal(ip_addr_parse(text, &a), 0);
    memcpy(c->addr[i].ip, a.b, 16);
    c->addr[i].prefix = i ? 64 : 24;
    c->addr[i].family = i ? 6 : 4;
  }
  c->rx_fifo_max = c->tx_fifo_max = 256 * 1024;
  c->tcp.time_wait = 2000;
  c->tcp.syncookies = rig_syncookies;
}

static void rig_segments(struct rig_host *h) {
  struct abi_packet_geom pg;
  uint64_t size = frame_geom_make(&pg, 1, RIG_RX_SLOTS, RIG_TX_SLOTS);
  assert_int_equal(seg_create(&h->packet, "rig", ABI_SEG_PACKET, 10u + h->number, size, (uint64_t *)&pg), 0);
  struct abi_tcb_geom tg = {.block_off = 256,
                            .table_off = 4096,
                            .n = 256,
                            .tw_off = 4096 + 256 * sizeof(struct abi_tcb),
                            .n_tw = rig_time_waits};
  assert_int_equal(seg_create(&h->tcb, "rig", ABI_SEG_TCB, 20u + h->number, tg.tw_off + tg.n_tw * sizeof(struct abi_tw),
                              (uint64_t *)&tg),
                   0);
  struct abi_policy_geom og = {.block_off = 256, .n_listen = 16, .listen_off = 4096};
  assert_int_equal(seg_create(&h->policy, "rig", ABI_SEG_POLICY, 30u + h->number, 8192, (uint64_t *)&og), 0);
  struct abi_worker_geom wg;
  size = worker_geom_make(&wg, ABI_SEG_ENGINE, h->number, 1, 64, 1, 64 << 20);
  assert_int_equal(seg_create(&h->e, "rig", ABI_SEG_ENGINE, 40u + h->number, size, (uint64_t *)&wg), 0);
  size = worker_geom_make(&wg, ABI_SEG_APP, h->number, 1, 64, 1, 64 << 20);
  assert_int_equal(seg_create(&h->a, "rig", ABI_SEG_APP, 50u + h->number, size, (uint64_t *)&wg), 0);
}

static void rig_port(struct rig_host *h) {
  struct abi_port *p = &h->fs.pkt->port[0];
  uint8_t mac[6] = {2, 0, 0, 0, 0, h->number};
  memcpy(p->mac, mac, 6);
  p->mtu = 1500;
  p->up = p->used = 1;
  p->kind = 2;
  __atomic_store_n(&p->gen, 2, __ATOMIC_RELEASE);
}

static void rig_app_open(struct rig_host *h) {
  const char *why = "";
  assert_int_equal(worker_view_open(&h->view, rig_dup(h->a.fd), SEG_RDWR, rig_dup(h->e.fd), SEG_RDONLY, &why), 0);
  struct abi_lane_app *mine = &h->view.app->lane[0];
  const struct abi_lane_engine *peer = &h->view.engine->lane[0];
  uint32_t cap = (uint32_t)h->view.ga.ring_cap;
  hint_prod_init(&h->to_engine, &mine->to_engine, &peer->from_app, worker_view_ring_app(&h->view, 0), cap);
  hint_cons_init(&h->from_engine, &mine->from_engine, &peer->to_app, worker_view_ring_engine(&h->view, 0), cap);
  uint64_t meta = arena_meta_size(h->view.ga.arena_size);
  h->tx_arena =
      arena_init(malloc(meta), meta, (uint32_t)(h->view.ga.arena_off / ABI_CHUNK_UNIT), h->view.ga.arena_size);
  assert_non_null(h->tx_arena);
}

void rig_engine_start(struct rig_host *h) {
  struct app_worker *a = NULL;
  const char *why = "";
  assert_int_equal(worker_init(&h->w, &h->cfg, 0, h->counters, h, rig_now), 0);
  assert_int_equal(worker_set_tcbs(&h->w, rig_dup(h->tcb.fd)), 0);
  assert_int_equal(listen_open(&h->w.listeners, rig_dup(h->policy.fd)), 0);
  assert_int_equal(worker_set_packet(&h->w, rig_dup(h->packet.fd), rig_dup(h->link_bell[0]), rig_dup(h->link_bell[1])),
                   0);
  assert_int_equal(
      app_new(&a, h->number, rig_dup(h->e.fd), rig_dup(h->a.fd), rig_dup(h->bells[0]), rig_dup(h->doorbell), &why), 0);
  assert_int_equal(worker_add_app(&h->w, a), 0);
  (void)worker_adopt(&h->w);
  h->alive = 1;
}

void rig_engine_kill(struct rig_host *h) {
  worker_fini(&h->w); /* frees private memory only: every durable word stays as it is */
  h->alive = 0;
}

void rig_open(struct rig *r, uint64_t seed) {
  memset(r, 0, sizeof *r);
  rng_init(&r->rng, seed);
  rng_repeat(seed);
  for (int i = 0; i < 2; i++) {
    struct rig_host *h = &r->host[i];
    const char *why = "";
    h->number = (uint8_t)(i + 1);
    rig_config(h);
    rig_segments(h);
    assert_int_equal(bell_pair(h->bells), 0);
    h->doorbell = bell_doorbell();
    h->link_bell[0] = bell_doorbell();
    h->link_bell[1] = bell_doorbell();
    assert_int_equal(frame_seg_open(&h->fs, &h->packet, &why), 0);
    rig_port(h);
    assert_int_equal(frame_link_open(&h->nic, &h->fs, 0, FRAME_NICIO), 0);
    for (uint32_t s = 0; s < RIG_RX_SLOTS; s++)
      h->rx_free[h->n_rx_free++] = s;
    rig_app_open(h);
    rig_engine_start(h);
  }
}

static void rig_wire_free(struct rig_host *h) {
  while (h->wire_head != h->wire_tail)
    free(h->wire[h->wire_head++ % RIG_WIRE].bytes);
}

void rig_close(struct rig *r) {
  assert_int_equal(life_wrong, 0); /* no record ever changed as session/life.c does not know */
  for (int i = 0; i < 2; i++) {
    struct rig_host *h = &r->host[i];
    if (h->alive)
      rig_engine_kill(h);
    rig_wire_free(h);
    free(h->tx_arena);
    worker_view_close(&h->view);
    seg_detach(&h->packet);
    seg_detach(&h->tcb);
    seg_detach(&h->policy);
    seg_detach(&h->e);
    seg_detach(&h->a);
    close(h->bells[0]);
    close(h->bells[1]);
    close(h->doorbell);
    close(h->link_bell[0]);
    close(h->link_bell[1]);
  }
}

/* --- nicio --- */

static void rig_lend(struct rig_host *h, const struct abi_frame_desc *d) {
  h->lent[h->n_lent] = d->slot;
  h->lent_desc[h->n_lent++] = *d;
}

static void rig_unlend(struct rig_host *h, uint32_t slot) {
  for (uint32_t i = 0; i < h->n_lent; i++) {
    if (h->lent[i] != slot)
      continue;
    memmove(&h->lent[i], &h->lent[i + 1], (h->n_lent - i - 1) * sizeof h->lent[0]);
    memmove(&h->lent_desc[i], &h->lent_desc[i + 1], (h->n_lent - i - 1) * sizeof h->lent_desc[0]);
    h->n_lent--;
    h->rx_free[h->n_rx_free++] = slot;
    return;
  }
  fail_msg("slot %u came home twice", slot);
}

/* A frame from the wire becomes a chain of slots. 0 when slots are short. */
static int rig_deliver(struct rig_host *h, const struct rig_frame *f) {
  uint32_t room = ABI_SLOT_SIZE - 64, n = (f->len + room - 1) / room, at = 0;
  struct abi_frame_desc d[PKT_PIECES_MAX];
  if (n > h->n_rx_free || frame_room(&h->nic) < n || n > PKT_PIECES_MAX)
    return 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t slot = h->rx_free[--h->n_rx_free];
    uint32_t len = f->len - at < room ? f->len - at : room;
    memcpy(h->packet.base + frame_rx_off(&h->fs, slot) + 64, f->bytes + at, len);
    d[i] = (struct abi_frame_desc){.off = frame_rx_off(&h->fs, slot) + 64, .slot = slot, .len = len};
    d[i].flags = (uint16_t)((i == 0 ? f->flags : 0) | (i + 1 < n ? ABI_FR_CHAIN : 0));
    d[i].gso_size = i == 0 ? f->gso_size : 0;
    at += len;
    rig_lend(h, &d[i]);
  }
  frame_push(&h->nic, d, n);
  return 1;
}

static void rig_rx(struct rig_host *h) {
  uint32_t slots[64];
  int n;
  while ((n = frame_done_take(&h->nic, slots, 64)) > 0)
    for (int i = 0; i < n; i++)
      rig_unlend(h, slots[i]);
  assert_true(n >= 0);
  while (h->nic.up && h->wire_head != h->wire_tail) {
    struct rig_frame *f = &h->wire[h->wire_head % RIG_WIRE];
    if (f->due > rig_clock || !rig_deliver(h, f))
      break;
    free(f->bytes);
    h->wire_head++;
  }
}

static void rig_copy_piece(const struct rig_host *h, const struct abi_frame_desc *d, uint8_t *to) {
  const struct seg *s = d->region == ABI_REGION_PACKET ? &h->packet : &h->a;
  assert_true(d->region == ABI_REGION_PACKET || d->region == (uint32_t)h->a.id);
  const uint8_t *p = seg_at(s, d->off, d->len);
  assert_non_null(p);
  memcpy(to, p, d->len);
}

static void rig_tx(struct rig *r, struct rig_host *h, struct rig_host *peer) {
  struct abi_frame_desc d[64];
  int n;
  while ((n = frame_take(&h->nic, d, 64)) > 0) {
    for (int i = 0; i < n;) {
      int first = i;
      uint8_t *bytes = malloc(70000);
      uint32_t len = 0;
      for (;; i++) {
        rig_copy_piece(h, &d[i], bytes + len);
        len += d[i].len;
        if (!(d[i].flags & ABI_FR_NO_SLOT))
          frame_done_push(&h->nic, d[i].slot);
        if (!(d[i].flags & ABI_FR_CHAIN))
          break;
      }
      i++;
      sim_digest(rig_clock, bytes, len);
      int lost = peer->wire_tail - peer->wire_head == RIG_WIRE || (r->loss > 0 && rng_unit(&r->rng) < r->loss);
      if (lost) {
        free(bytes);
        continue;
      }
      peer->wire[peer->wire_tail++ % RIG_WIRE] = (struct rig_frame){.bytes = bytes,
                                                                    .len = len,
                                                                    .flags = d[first].flags & (uint16_t)~ABI_FR_CHAIN,
                                                                    .gso_size = d[first].gso_size,
                                                                    .due = rig_clock + 200};
    }
  }
  assert_true(n >= 0);
}

static void rig_nicio_turn(struct rig *r, int i) {
  struct rig_host *h = &r->host[i];
  if (frame_link_poll(&h->nic) == FRAME_PEER_NEW) {
    frame_link_ack(&h->nic); /* and lend again, in order, what had not come home */
    if (h->n_lent)
      frame_push(&h->nic, h->lent_desc, h->n_lent);
  }
  rig_rx(h);
  rig_tx(r, h, &r->host[1 - i]);
  (void)frame_flush(&h->nic);
}

void rig_nicio_restart(struct rig_host *h) {
  h->n_lent = h->n_rx_free = 0;
  for (uint32_t s = 0; s < RIG_RX_SLOTS; s++)
    h->rx_free[h->n_rx_free++] = s;
  assert_int_equal(frame_link_open(&h->nic, &h->fs, 0, FRAME_NICIO), 0);
}

static void rig_app_turn(struct rig_host *h) {
  uint32_t slots[64];
  while (hint_take(&h->from_engine, slots, 64) > 0)
    ; /* the tests look at facts */
  char sink[64];
  while (read(h->bells[1], sink, sizeof sink) > 0)
    ;
}

void rig_step(struct rig *r, usec_t us) {
  rig_clock += us;
  for (int i = 0; i < 2; i++) {
    rig_nicio_turn(r, i);
    if (r->host[i].alive)
      (void)worker_turn(&r->host[i].w);
    rig_app_turn(&r->host[i]);
  }
}

/* --- the app --- */

void rig_hint(struct rig_host *h, uint32_t slot) {
  int ring = 0;
  (void)hint_push(&h->to_engine, slot, &worker_view_app(&h->view, slot)->hint_pos, &ring);
  if (ring)
    assert_int_equal(bell_ring_service(h->doorbell), 0);
}

static void rig_high(struct rig_host *h, uint32_t slot) {
  if (h->view.app->slots_high <= slot)
    __atomic_store_n(&h->view.app->slots_high, slot + 1, __ATOMIC_RELEASE);
}

void rig_sess_open(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint32_t gen) {
  memset(s, 0, sizeof *s);
  s->h = h;
  s->slot = slot;
  s->gen = gen;
  s->a = worker_view_app(&h->view, slot);
  s->e = worker_view_engine(&h->view, slot);
  memset(s->a, 0, sizeof *s->a);
  assert_int_equal(
      fifo_prod_init(&s->tx, &s->a->tx, s->a->tx_chunk, &s->e->tx_head, h->view.seg_a.base, h->tx_arena, 256 * 1024),
      0);
  fifo_cons_init(&s->rx, &s->e->rx, s->e->rx_chunk, &s->a->rx_head, h->view.seg_e.base, h->view.ge.arena_off,
                 h->view.ge.arena_size, 1 << 20);
}

struct abi_endpoint rig_endpoint(uint8_t number, uint16_t port, int family) {
  struct abi_endpoint ep = {.port = be16_from(port), .family = (uint8_t)family};
  struct ip_addr a;
  char text[32];
  snprintf(text, sizeof text, family == 6 ? "fd00::%u" : "10.0.0.%u", number);
  assert_int_equal(ip_addr_parse(text, &a), 0);
  memcpy(ep.ip, a.b, 16);
  return ep;
}

static void rig_refresh(struct worker *w, void *arg) {
  (void)arg;
  (void)listen_refresh(w);
}

void rig_open_dgram(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint32_t gen, uint8_t proto, int family) {
  rig_high(h, slot);
  rig_sess_open(h, s, slot, gen);
  s->a->req = (struct abi_request){.id = 1, .proto = proto, .local.family = (uint8_t)family};
  s->a->req_seq = 1;
  __atomic_store_n(&s->a->gen, gen, __ATOMIC_RELEASE);
  __atomic_store_n(&s->a->op, ABI_OP_OPEN, __ATOMIC_RELEASE);
  rig_hint(h, slot);
}

void rig_policy(struct rig_host *h, uint32_t slot, uint32_t gen, uint8_t proto, uint16_t port, int family) {
  struct abi_policy *p = seg_at(&h->policy, 256, sizeof *p);
  struct abi_listen_entry *le = seg_at(&h->policy, 4096, sizeof *le * 16);
  uint32_t i = p->listen_high;
  le[i] = (struct abi_listen_entry){.gen = 2,
                                    .live = 1,
                                    .worker_id = h->number,
                                    .slot = slot,
                                    .slot_gen = gen,
                                    .listener_id = i + 1,
                                    .backlog = 8,
                                    .proto = proto,
                                    .addr = {.family = (uint8_t)family, .port = be16_from(port)}};
  __atomic_store_n(&p->listen_high, i + 1, __ATOMIC_RELEASE);
  __atomic_store_n(&p->policy_gen, p->policy_gen + 1, __ATOMIC_RELEASE);
  if (h->alive)
    assert_true(mailbox_post(&h->w.mail, rig_refresh, NULL) >= 0);
}

void rig_policy_gone(struct rig_host *h, uint16_t port) {
  struct abi_policy *p = seg_at(&h->policy, 256, sizeof *p);
  struct abi_listen_entry *le = seg_at(&h->policy, 4096, sizeof *le * 16);
  for (uint32_t i = 0; i < p->listen_high; i++) {
    if (be16_get(le[i].addr.port) != port)
      continue;
    le[i].live = 0;
    __atomic_store_n(&le[i].gen, le[i].gen + 2, __ATOMIC_RELEASE);
  }
  __atomic_store_n(&p->policy_gen, p->policy_gen + 1, __ATOMIC_RELEASE);
  if (h->alive)
    assert_true(mailbox_post(&h->w.mail, rig_refresh, NULL) >= 0);
}

void rig_connect(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint32_t gen, uint16_t port, int family) {
  rig_connect_to(h, s, slot, gen, (uint8_t)(3 - h->number), port, family);
}

void rig_connect_ask(struct rig_host *h, struct rig_sess *s, struct abi_endpoint remote, uint8_t kind) {
  rig_high(h, s->slot);
  s->a->req = (struct abi_request){.id = 1, .kind = kind, .remote = remote};
  __atomic_store_n(&s->a->gen, s->gen, __ATOMIC_RELEASE);
  __atomic_store_n(&s->a->op, ABI_OP_CONNECT, __ATOMIC_RELEASE);
  rig_hint(h, s->slot);
}

void rig_connect_to(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint32_t gen, uint8_t number, uint16_t port,
                    int family) {
  rig_sess_open(h, s, slot, gen);
  rig_connect_ask(h, s, rig_endpoint(number, port, family), 0);
}

void rig_connect_fast(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint16_t port, const void *data,
                      uint32_t len) {
  rig_connect_with(h, s, slot, port, data, len, ABI_OPT_FASTOPEN);
}

void rig_connect_with(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint16_t port, const void *data,
                      uint32_t len, uint32_t flags) {
  rig_high(h, slot);
  rig_sess_open(h, s, slot, 1);
  s->a->opt.flags = flags;
  s->a->opt_gen = 2;
  assert_int_equal(fifo_prod_write(&s->tx, data, len), len);
  rig_connect_ask(h, s, rig_endpoint((uint8_t)(3 - h->number), port, 4), 0);
}

void rig_arm(struct rig_host *h, uint32_t slot) {
  __atomic_store_n(&worker_view_app(&h->view, slot)->listen_armed, 1, __ATOMIC_RELEASE);
  rig_hint(h, slot);
}

void rig_listen(struct rig_host *h, uint32_t slot, uint16_t port, int family, int armed) {
  struct abi_policy *p = seg_at(&h->policy, 256, sizeof *p);
  struct abi_listen_entry *le = seg_at(&h->policy, 4096, sizeof *le * 16);
  struct abi_sess_app *a = worker_view_app(&h->view, slot);
  rig_high(h, slot);
  memset(a, 0, sizeof *a);
  a->gen = 1;
  a->listen_armed = (uint32_t)armed;
  __atomic_store_n(&a->op, ABI_OP_LISTEN, __ATOMIC_RELEASE);
  uint32_t i = p->listen_high;
  le[i] = (struct abi_listen_entry){.gen = 2,
                                    .live = 1,
                                    .worker_id = h->number,
                                    .slot = slot,
                                    .slot_gen = 1,
                                    .listener_id = i + 1,
                                    .backlog = 8,
                                    .addr = {.family = (uint8_t)family, .port = be16_from(port)}};
  if (family == 4)
    le[i].addr.ip[10] = le[i].addr.ip[11] = 0xff;
  __atomic_store_n(&p->listen_high, i + 1, __ATOMIC_RELEASE);
  __atomic_store_n(&p->policy_gen, p->policy_gen + 1, __ATOMIC_RELEASE);
  if (h->alive)
    assert_true(mailbox_post(&h->w.mail, rig_refresh, NULL) >= 0);
}

int rig_accept(struct rig_host *h, uint32_t listener, struct rig_sess *s) {
  for (uint32_t slot = (uint32_t)h->view.ga.n_slots_app; slot < h->view.ga.n_slots; slot++) {
    const struct abi_sess_engine *e = worker_view_engine(&h->view, slot);
    const struct abi_sess_app *a = worker_view_app(&h->view, slot);
    if (__atomic_load_n(&e->state, __ATOMIC_ACQUIRE) != ABI_SESS_OFFERED || e->listener != listener ||
        a->accepted == e->gen)
      continue;
    rig_sess_open(h, s, slot, e->gen);
    __atomic_store_n(&s->a->gen, e->gen, __ATOMIC_RELEASE);
    __atomic_store_n(&s->a->accepted, e->gen, __ATOMIC_RELEASE);
    rig_hint(h, slot);
    return 1;
  }
  return 0;
}

uint32_t rig_write(struct rig_sess *s, const void *p, uint32_t len) {
  int64_t n = fifo_prod_write(&s->tx, p, len);
  assert_true(n >= 0);
  if (n)
    rig_hint(s->h, s->slot);
  return (uint32_t)n;
}

void rig_urgent(struct rig_sess *s) {
  __atomic_store_n(&s->a->tx_urg, s->tx.tail + 1, __ATOMIC_RELAXED);
  (void)__atomic_or_fetch(&s->a->want, ABI_WANT_URGENT, __ATOMIC_RELEASE);
}

uint32_t rig_read(struct rig_sess *s, void *p, uint32_t len) {
  int64_t n = fifo_cons_read(&s->rx, p, len);
  assert_true(n >= 0);
  if (n)
    rig_hint(s->h, s->slot);
  return (uint32_t)n;
}

void rig_want(struct rig_sess *s, uint32_t bits) {
  __atomic_store_n(&s->a->want, s->a->want | bits, __ATOMIC_RELEASE);
  rig_hint(s->h, s->slot);
}

uint32_t rig_state(const struct rig_sess *s) {
  return s->e->gen == s->gen ? __atomic_load_n(&s->e->state, __ATOMIC_ACQUIRE) : (uint32_t)ABI_SESS_FREE;
}

int rig_eof(const struct rig_sess *s) {
  return (__atomic_load_n(&s->e->flags, __ATOMIC_ACQUIRE) & ABI_SE_PEER_FIN) && s->rx.head == s->e->fin_pos;
}

void rig_turns(struct rig *r, int turns) {
  for (int i = 0; i < turns; i++)
    rig_step(r, 100);
}

void rig_until(struct rig *r, struct rig_sess *s, uint32_t state) {
  for (int i = 0; i < 60000 && rig_state(s) != state; i++)
    rig_step(r, 100);
  assert_int_equal(rig_state(s), state);
}

void rig_accept_at(struct rig *r, uint32_t listener, struct rig_sess *s) {
  for (int i = 0; i < 60000; i++) {
    if (rig_accept(&r->host[1], listener, s))
      return;
    rig_step(r, 100);
  }
  fail_msg("nothing was offered to listener %u", listener);
}

void rig_meet(struct rig *r, uint64_t seed, struct rig_sess *client) {
  rig_open(r, seed);
  rig_listen(&r->host[1], 0, 80, 4, 1);
  rig_turns(r, 2);
  rig_connect(&r->host[0], client, 0, 1, 80, 4);
  rig_until(r, client, ABI_SESS_READY);
}
