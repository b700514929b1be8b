/*
 * The engine worker's loop: frames in, hints in, output, timers, frames and bells out, sleep. One thread.
 */
#include "worker.h"

#include "base/bug.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "ip/ip_counters.h"
#include "routes.h"
#include "shm/bell.h"
#include "shm/fence.h"
#include "transport.h"
#include "wire/flow.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORKER_LATE_MS     50    /* grace for a bell under way when the sleep's ceiling finds work */
#define WORKER_RX_ROUNDS   4u    /* bursts per turn before output */
#define WORKER_LOOP_ROUNDS 8u    /* there and back between our own apps per turn */
#define WORKER_PORTS_US    1000u /* how often the ports' words are looked at */
#define WORKER_TIMERS      256u  /* timers fired per turn */
#define WORKER_BELLS_US    50u   /* how often a busy worker looks at the doorbells */
#define WORKER_EVENTS      64

struct app_worker *worker_app(struct worker *w, uint64_t id) {
  for (uint32_t i = 0; i < w->n_apps; i++)
    if (w->app[i]->id == id)
      return w->app[i];
  return NULL;
}

/* --- set-up --- */

uint32_t worker_port(const struct worker *w, const char *name) {
  const struct config *cfg = w->cfg;
  for (uint32_t p = 0; p < cfg->n_ports; p++)
    if (strcmp(cfg->port[p].name, name) == 0)
      return p;
  for (uint32_t v = 0; v < cfg->n_vlans; v++)
    if (strcmp(cfg->vlan[v].name, name) == 0)
      return w->vlan_port[v];
  return UINT32_MAX;
}

int worker_init(struct worker *w, const struct config *cfg, uint32_t index, uint64_t *counters, void *control,
                usec_t (*clock)(void)) {
  memset(w, 0, sizeof *w);
  w->index = index;
  w->clock = clock ? clock : clock_now_us;
  w->cfg = cfg;
  w->counters = counters;
  w->tcp.counters = counters + EC_N;
  w->control = control;
  w->group = &w->alone;
  w->alone = (struct worker_group){.n = 1, .w = {w}};
  w->link_bell = w->link_bell_mine = -1;
  w->packet_seg.fd = w->tcbs.seg.fd = w->listeners.seg.fd = w->rules.seg.fd = -1;
  w->now = w->clock();
  list_init(&w->dirty);
  list_init(&w->starved);
  list_init(&w->graveyard);
  list_init(&w->parked);
  list_init(&w->figures);
  timer_wheel_init(&w->wheel, w->now);
  idle_init(&w->idle, cfg->engine_idle);
  w->udp.counters = counters + EC_N + TCP_N_COUNTERS + IPC_N;
  (void)transport_add(w, &transport_tcp); /* the first ones: no number is taken */
  (void)transport_add(w, &transport_udp);
  w->epfd = epoll_create1(EPOLL_CLOEXEC);
  if (w->epfd < 0)
    return -errno;
  int rc = rng_secure(w->flow_key, sizeof w->flow_key);
  if (rc == 0)
    rc = mailbox_init(&w->mail);
  if (rc)
    return rc;
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
  if (epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->mail.bell, &ev))
    return -errno;
  rc = pool_init(&w->sessions, sizeof(struct session), 256, cfg->max_connections + 65536u);
  if (rc == 0)
    rc = pool_init(&w->outers, TRANSPORT_OUTER, 64, cfg->max_connections + 65536u);
  if (rc == 0)
    rc = hash_tab_init(&w->flows, 1024);
  if (rc == 0)
    rc = vrf_init(w, counters + EC_N + TCP_N_COUNTERS);
  return rc;
}

void worker_fini(struct worker *w) {
  for (uint32_t i = 0; i < w->n_apps; i++)
    app_free(w->app[i]);
  hash_tab_fini(&w->flows);
  pool_fini(&w->sessions);
  pool_fini(&w->outers);
  listen_close(&w->listeners);
  rules_close(&w->rules);
  timewait_close(&w->timewait);
  tcb_close(&w->tcbs);
  if (w->index == 0)
    seg_detach(&w->packet_seg);
  pass_fini(&w->pass);
  vrf_fini(w);
  mailbox_fini(&w->mail);
  free(w->tx_free);
  free(w->tx_home);
  free(w->udp.scratch);
  free(w->loop);
  if (w->tcp_logs)
    munmap(w->tcp_logs, WORKER_TCP_LOGS_SIZE);
  if (w->tcp_busy)
    munmap(w->tcp_busy, w->tcp_busy_size);
  if (w->link_bell >= 0)
    close(w->link_bell);
  if (w->link_bell_mine >= 0)
    close(w->link_bell_mine);
  if (w->epfd >= 0)
    close(w->epfd);
}

/* Our share of the TX slots, and our link. */
static int worker_open_link(struct worker *w, int bell_peer, int bell_mine) {
  w->link_bell = bell_peer;
  w->link_bell_mine = bell_mine;
  w->n_tx = (uint32_t)w->frames.geom.n_tx / w->group->n;
  w->tx_first = w->index * w->n_tx;
  w->tx_free = calloc(w->n_tx, sizeof *w->tx_free);
  w->tx_home = calloc(w->n_tx, 1);
  w->loop = calloc(WORKER_LOOP_MAX, sizeof *w->loop);
  if (!w->tx_free || !w->tx_home || !w->loop)
    return -ENOMEM;
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
  if (epoll_ctl(w->epfd, EPOLL_CTL_ADD, bell_mine, &ev))
    return -errno;
  int rc = frame_link_open(&w->link, &w->frames, w->index, FRAME_ENGINE);
  w->link_open = rc == 0;
  w->wake_peer = 1;
  return rc;
}

int worker_set_packet(struct worker *w, int fd, int bell_peer, int bell_mine) {
  const char *why = "";
  int rc = seg_attach(&w->packet_seg, fd, ABI_SEG_PACKET, SEG_RDWR, &why);
  if (rc == 0)
    rc = frame_seg_open(&w->frames, &w->packet_seg, &why);
  if (rc) {
    log_error("engine.packet", "packet segment refused: %s (%s)", why, strerror(-rc));
    return rc;
  }
  frame_boot(&w->frames, w->group->n);
  return worker_open_link(w, bell_peer, bell_mine);
}

/* Address space: pages that no connection needs are never touched. NULL: there is none. */
static void *worker_map(size_t size) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

static int worker_transports(struct worker *w) {
  int rc = 0;
  w->tcp_busy_size = (size_t)w->sessions.limit * TCP_BUSY_SIZE;
  w->tcp_logs = worker_map(WORKER_TCP_LOGS_SIZE);
  w->tcp_busy = worker_map(w->tcp_busy_size);
  if (!w->tcp_logs || !w->tcp_busy)
    return -ENOMEM;
  tcp_env_memory(&w->tcp, w->tcp_logs, WORKER_TCP_LOGS_SIZE);
  tcp_env_busy(&w->tcp, w->tcp_busy, w->sessions.limit);
  for (uint32_t i = 0; rc == 0 && i < TRANSPORTS_MAX; i++)
    if (w->transport[i] && w->transport[i]->init)
      rc = w->transport[i]->init(w);
  return rc;
}

int worker_set_tcbs(struct worker *w, int fd) {
  int rc = tcb_open(&w->tcbs, fd);
  if (rc == 0)
    rc = timewait_open(w);
  if (rc == 0)
    rc = worker_transports(w);
  if (rc == 0)
    routes_settle(w->tcbs.route, w->tcbs.geom.n_route);
  if (rc == 0)
    routes_start(w);
  return rc;
}

int worker_join(struct worker *w, struct worker_group *g, uint32_t index, int bell_peer, int bell_mine) {
  const struct worker *first = g->w[0];
  BUG_ON(w->index != index);
  w->group = g;
  w->frames = first->frames;
  w->packet_seg = first->packet_seg;
  tcb_borrow(&w->tcbs, &first->tcbs);
  int rc = timewait_borrow(w, &first->timewait);
  if (rc == 0)
    rc = worker_transports(w);
  if (rc == 0)
    rc = listen_borrow(&w->listeners, &first->listeners);
  rules_borrow(&w->rules, &first->rules);
  routes_start(w);
  return rc ? rc : worker_open_link(w, bell_peer, bell_mine);
}

int worker_add_app(struct worker *w, struct app_worker *a) {
  if (w->n_apps == WORKER_APPS_MAX)
    return -ENOSPC;
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = a};
  if (epoll_ctl(w->epfd, EPOLL_CTL_ADD, a->doorbell, &ev))
    return -errno;
  w->app[w->n_apps++] = a;
  return 0;
}

/* A connection taken over names the address that the last engine had by DHCP: it is asked for again, without the detour
 * by DISCOVER. With several such ports the server refuses what is not of its net, and the port begins anew. */
static void worker_hint_dhcp(struct worker *w) {
  struct ip_addr had;
  uint32_t found = 0, vrf = 0;
  for (uint32_t k = 0; k < w->group->n && !found; k++) {
    const struct worker *o = w->group->w[k];
    for (uint32_t i = pool_next(&o->sessions, 0); i != POOL_NONE && !found; i = pool_next(&o->sessions, i + 1)) {
      const struct session *s = pool_ref(&o->sessions, i);
      had = s->local;
      found = ip_addr_is4(&had) && !ip_addr_is_any(&had) && !ip_is_local(worker_ip(w, s->vrf), &had);
      vrf = s->vrf;
    }
  }
  for (uint32_t i = 0; found && i < w->cfg->n_addrs; i++)
    if (w->cfg->addr[i].how == CONFIG_ADDR_DHCP && config_interface_vrf(w->cfg, w->cfg->addr[i].port) == vrf)
      (void)ip_dhcp4(worker_ip(w, vrf), worker_port(w, w->cfg->addr[i].port), &had);
}

int worker_adopt(struct worker *w) {
  struct worker_group *g = w->group;
  __atomic_store_n(&w->tcbs.block->epoch, w->tcbs.block->epoch + 1, __ATOMIC_RELEASE);
  for (uint32_t k = 0; k < g->n; k++) {
    g->w[k]->now = w->clock();
    (void)listen_refresh(g->w[k]);
  }
  (void)timewait_adopt(w);
  int n = 0;
  for (uint32_t i = 0; i < TRANSPORTS_MAX; i++)
    if (w->transport[i] && w->transport[i]->adopt)
      n += w->transport[i]->adopt(w, w->now);
  tcb_recount(&w->tcbs);
  for (uint32_t i = 0; i < w->n_apps; i++) {
    adopt_records(w, w->app[i]);
    app_recount(w->app[i]);
    app_again(w, w->app[i]);
  }
  for (uint32_t k = 0; k < g->n; k++) {
    struct worker *o = g->w[k];
    for (uint32_t i = 0; k != 0 && i < o->n_apps; i++)
      app_rescan_due(o, o->app[i]);
    offer_adopted(o);
    session_bury(o);
    o->offers_due = 1; /* whoever was armed all the time does not arm again */
    o->adopted = 1;
  }
  worker_hint_dhcp(w);
  return n;
}

void worker_path_back(struct worker *w) {
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (!s->dead && s->ops && s->ops->path_back)
      s->ops->path_back(w, s);
  }
}

static void mail_reset_rings(struct worker *w, void *arg) {
  (void)arg;
  frame_link_reset(&w->link);
  w->wake_peer = 1;
  for (uint32_t i = 0; i < w->n_apps; i++)
    app_rescan_due(w, w->app[i]);
}

void worker_reset_rings(struct worker *w) {
  for (uint32_t i = 0; i < w->n_apps; i++)
    app_again(w, w->app[i]); /* the epoch, then everybody's rescan */
  mail_reset_rings(w, NULL);
  for (uint32_t k = 0; k < w->group->n; k++)
    if (k != w->index)
      (void)mailbox_post(&w->group->w[k]->mail, mail_reset_rings, NULL);
}

/* --- one turn --- */

/* nicio says what a port is: MAC, MTU, up or down. */
static void worker_look_ports(struct worker *w) {
  if (w->now - w->ports_seen_at < WORKER_PORTS_US)
    return;
  w->ports_seen_at = w->now;
  for (uint32_t p = 0; p < w->cfg->n_ports && p < ABI_PORTS_MAX; p++) {
    const struct abi_port *shared = &w->frames.pkt->port[p];
    uint32_t gen = __atomic_load_n(&shared->gen, __ATOMIC_ACQUIRE);
    if (gen == w->port_gen[p] || (gen & 1u))
      continue;
    uint8_t mac[6];
    memcpy(mac, shared->mac, 6);
    uint32_t mtu = shared->mtu, up = shared->up && shared->used;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&shared->gen, __ATOMIC_RELAXED) != gen)
      continue;
    w->port_gen[p] = gen;
    vrf_port_set(w, p, mac, mtu, (int)up);
    if (up)
      worker_path_back(w);
  }
}

static void worker_fire(struct timer_ent *ent, void *ctx) {
  struct worker *w = ctx;
  struct session *s = container_of(ent, struct session, timer);
  if (s->ops && s->ops->timer)
    s->ops->timer(w, s, w->now);
}

static uint32_t worker_timers(struct worker *w) {
  uint32_t n = timer_advance(&w->wheel, w->now, worker_fire, w, WORKER_TIMERS);
  n += timewait_expire(w);
  if (w->now >= w->ip_next)
    w->ip_next = vrf_timer(w);
  return n;
}

/* Apps that are dead or lied and whose last session is gone leave the table. */
static void worker_drain_apps(struct worker *w) {
  for (uint32_t i = 0; i < w->n_apps;) {
    struct app_worker *a = w->app[i];
    app_flush(w, a);
    if (a->life == APP_LIVE || a->n_sessions || a->drained || w->loop_head != w->loop_tail) { /* may name its bytes */
      i++;
      continue;
    }
    a->drained = 1;
    (void)epoll_ctl(w->epfd, EPOLL_CTL_DEL, a->doorbell, NULL);
    w->app[i] = w->app[--w->n_apps];
    worker_control->drained(w->control, a);
  }
}

/* Events of epfd: the doorbell of an app carries the app, the others only had to wake us. */
static void worker_rung(struct worker *w, const struct epoll_event *ev, int n) {
  for (int i = 0; i < n; i++)
    if (ev[i].data.ptr)
      app_wake(w, ev[i].data.ptr);
}

/* A worker that never sleeps still hears the doorbells of rings that it does not poll. */
static void worker_look_bells(struct worker *w) {
  struct epoll_event ev[WORKER_EVENTS];
  if (w->now - w->bells_at < WORKER_BELLS_US || w->n_apps == 0)
    return;
  w->bells_at = w->now;
  worker_rung(w, ev, epoll_wait(w->epfd, ev, WORKER_EVENTS, 0));
}

uint32_t worker_turn(struct worker *w) {
  uint32_t work = mailbox_run(&w->mail, w);
  w->now = w->clock();
  if (!w->adopted)
    return work;
  frame_io_poll(w);
  worker_look_ports(w);
  work += frame_io_done(w);
  for (uint32_t round = 0; round < WORKER_RX_ROUNDS; round++) {
    uint32_t n = frame_io_rx(w);
    work += n;
    if (n < WORKER_RX_BURST / 2)
      break;
  }
  worker_look_bells(w);
  for (uint32_t i = 0; i < w->n_apps; i++)
    work += app_poll(w, w->app[i]);
  work += worker_timers(w);
  pass_learned(w);
  if (w->routes_waiting)
    routes_again(w);
  fast_expire(w);
  work += offer_due(w);
  work += session_output_due(w);
  for (uint32_t round = 0; round < WORKER_LOOP_ROUNDS && w->loop_head != w->loop_tail; round++) {
    work += frame_io_loop(w);
    work += session_output_due(w);
  }
  if (frame_flush(&w->link) || w->wake_peer) {
    w->wake_peer = 0;
    (void)bell_ring_service(w->link_bell);
  }
  worker_drain_apps(w);
  session_bury(w);
  figures_write(w, 0);
  if (work)
    worker_count(w, EC_TURNS, 1);
  return work;
}

/* --- sleep --- */

/* Ask everybody to ring. 1 = nothing came meanwhile. Apps stay armed until their doorbell rings. */
static int worker_arm(struct worker *w) {
  int quiet = 1;
  if (w->link_open)
    quiet = list_empty(&w->starved) ? frame_arm(&w->link) : frame_arm_slots(&w->link);
  for (uint32_t i = 0; i < w->n_apps; i++)
    if (w->app[i]->life == APP_LIVE && !w->app[i]->armed)
      quiet &= app_arm(w->app[i]);
  shm_fence();
  return quiet && !__atomic_load_n(&w->mail.pending, __ATOMIC_ACQUIRE);
}

static int worker_is_late(const struct worker *w) {
  if (w->link_open && frame_pending(&w->link))
    return 1;
  for (uint32_t i = 0; i < w->n_apps; i++)
    if (w->app[i]->life == APP_LIVE && hint_pending(&w->app[i]->from_app))
      return 1;
  return 0;
}

/* Nobody rang for the whole ceiling: what lies there now was a lost wake-up, unless it came in this very moment, or
 * from a producer that was interrupted between its store and its bell: that one is given a while to ring yet. */
static void worker_look_late(struct worker *w) {
  struct epoll_event ev[WORKER_EVENTS];
  if (!worker_is_late(w))
    return;
  int n = epoll_wait(w->epfd, ev, WORKER_EVENTS, WORKER_LATE_MS);
  w->now = w->clock();
  worker_rung(w, ev, n);
  if (n != 0)
    return;
  if (w->link_open && frame_pending(&w->link))
    worker_count(w, EC_LATE_WAKEUP, 1);
  for (uint32_t i = 0; i < w->n_apps; i++) {
    if (w->app[i]->life != APP_LIVE || !hint_pending(&w->app[i]->from_app))
      continue;
    worker_count(w, EC_LATE_WAKEUP, 1);
    app_wake(w, w->app[i]);
  }
}

static int worker_sleep_ms(struct worker *w) {
  usec_t next = timer_next(&w->wheel);
  if (w->adopted && w->ip_next < next)
    next = w->ip_next;
  usec_t now = w->clock();
  if (next <= now)
    return 0;
  usec_t ms = (next - now + 999) / 1000;
  return ms < IDLE_CEILING_MS ? (int)ms : IDLE_CEILING_MS;
}

static void worker_sleep(struct worker *w) {
  struct epoll_event ev[WORKER_EVENTS];
  figures_write(w, 1);
  int ms = worker_sleep_ms(w);
  if (ms > 0 && worker_arm(w)) {
    worker_count(w, EC_SLEEPS, 1);
    int n = epoll_wait(w->epfd, ev, WORKER_EVENTS, ms);
    w->now = w->clock();
    worker_rung(w, ev, n);
    if (n == 0 && ms == IDLE_CEILING_MS && w->adopted)
      worker_look_late(w);
  }
  if (w->link_open)
    frame_disarm(&w->link);
}

void worker_run(struct worker *w) {
  while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
    uint32_t work = worker_turn(w);
    switch (idle_next(&w->idle, work, w->now)) {
    case IDLE_WORK:
      break;
    case IDLE_PAUSE:
      idle_pause();
      break;
    case IDLE_YIELD:
      (void)idle_yield(&w->idle, w->now);
      break;
    case IDLE_SLEEP:
      worker_sleep(w);
      break;
    }
  }
}
