/*
 * hs-nicio: moves frames between ports and the engine (README.md). main() is the control thread: configuration,
 * custody, opening of ports, control requests, link changes, capture files. The frames themselves are the lcore's.
 *
 * Start: the broker gives the packet segment, the bells, the A segments of workers and, after a crash, the descriptors
 * of kernel ports; when it says Ready, ports are opened (or resumed) and the lcore starts. Everything given later is
 * added while it runs. The broker may come and go; nothing here stops for that.
 */
#include "nicio.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"
#include "ethdev.h"
#include "netif.h"
#include "shm/bell.h"
#include "shm/stats.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAIN_TICK_US    100000u /* links of ethdevs, regions that wait for the lcore */
#define MAIN_WAIT_US    1000u   /* between looks at the engine's answer */
#define MAIN_LOST_TICKS 10u     /* device drop counters once per second */
#define MAIN_STATS_SVC  1u      /* nicio in abi_stats.service */

static int main_dup(int fd) {
  int d = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  return d < 0 ? err_last() : d;
}

/* --- ports --- */

struct main_vault {
  struct nicio *n;
  uint32_t index;
  const struct port_ops *ops;
  const struct config_port *cfg;
  int rc; /* 1 once a descriptor was taken */
};

/** A port descriptor of an earlier nicio, if it still fits. */
static void main_try_vault(void *ctx, const struct custody_item *it) {
  struct main_vault *v = ctx;

  if (it->kind != ABI_ITEM_PORT || it->owner != v->index || v->rc == 1)
    return;
  int fd = main_dup(it->fd);
  if (fd < 0)
    return;
  struct port *p = &v->n->port[v->index];
  v->rc = v->ops->open(p, v->cfg, fd);
  if (v->rc == 0) { /* it did not fit; a new one was made */
    v->rc = custody_deposit(v->n->custody, ABI_ITEM_PORT, v->index, p->fd);
    v->rc = v->rc < 0 ? v->rc : 1;
  } else if (v->rc == 1) {
    log_info("nicio.port", "%s: resumed, its queue kept its packets", p->name);
  }
}

static int main_open_kernel(struct nicio *n, uint32_t i, const struct config_port *cfg) {
  struct port *p = &n->port[i];
  struct main_vault v = {.n = n, .index = i, .cfg = cfg};

  v.ops = cfg->tap ? &port_tap_ops : &port_packet_ops;
  p->ops = v.ops;
  custody_each(n->custody, main_try_vault, &v);
  if (v.rc != 0)
    return v.rc < 0 ? v.rc : 0;
  int rc = v.ops->open(p, cfg, -1);
  return rc < 0 ? rc : custody_deposit(n->custody, ABI_ITEM_PORT, i, p->fd);
}

static int main_open_port(struct nicio *n, uint32_t i) {
  const struct config_port *cfg = &n->svc.cfg.port[i];
  struct port *p = &n->port[i];
  char mac[18];
  int rc;

  port_init(p, i, &n->svc.cfg, &n->fs, &n->lcore.slots);
  if (cfg->kind == PORT_KIND_KERNEL)
    rc = main_open_kernel(n, i, cfg);
  else
    rc = ethdev_open(p, cfg);
  if (rc < 0) {
    log_error("nicio.port", "%s (%s): %s", cfg->name, cfg->device, err_text(rc));
    return rc;
  }
  (void)port_refresh(p);
  port_publish(p);
  const uint8_t *m = p->mac;
  (void)snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
  log_info("nicio.port", "%s: %s on %s, mtu %u, mac %s, %s", p->name, p->ops->name, p->device, p->mtu, mac,
           p->up ? "up" : "down");
  return 0;
}

static int main_open_ports(struct nicio *n) {
  const struct config *cfg = &n->svc.cfg;
  int rc = 0;

  for (uint32_t i = 0; i < cfg->n_ports && rc >= 0; i++) {
    rc = main_open_port(n, i);
    if (rc >= 0)
      n->n_ports++;
  }
  for (uint32_t i = cfg->n_ports; i < ABI_PORTS_MAX; i++)
    n->fs.pkt->port[i].used = 0;
  return rc;
}

static int main_stages(struct nicio *n) {
  int rc = 0;

  for (uint32_t i = 0; i < n->n_ports && rc >= 0; i++) {
    const struct config_port *c = &n->svc.cfg.port[i];
    if (impair_wanted(&c->rx))
      rc = ctl_impair(n, i, 0, &c->rx);
    if (rc >= 0 && impair_wanted(&c->tx))
      rc = ctl_impair(n, i, 1, &c->tx);
    if (rc >= 0 && c->pcap[0] != '\0')
      rc = ctl_capture(n, i, c->pcap, 0, 0);
  }
  return rc;
}

/* --- what the broker gives --- */

static int main_map_packet(struct nicio *n) {
  const struct custody_item *it = custody_find(n->custody, ABI_ITEM_SEG, ABI_SEG_PACKET, 0);
  const char *why = "no packet segment";
  int rc = -ENOENT;

  if (it == NULL)
    goto out;
  if ((rc = main_dup(it->fd)) < 0)
    goto out;
  if ((rc = seg_attach(&n->packet, rc, ABI_SEG_PACKET, SEG_RDWR, &why)) < 0 ||
      (rc = frame_seg_open(&n->fs, &n->packet, &why)) < 0)
    goto out;
  (void)madvise(n->packet.base, n->packet.size, MADV_DONTDUMP);
  return 0;
out:
  log_error("nicio.segment", "%s: %s", why, err_text(rc));
  return rc;
}

static void main_map_stats(struct nicio *n) {
  static const struct abi_stat_desc desc[] = {
#define MAIN_STAT(id, text, what) {.name = text, .help = what},
      LCORE_STATS(MAIN_STAT)
#undef MAIN_STAT
  };
  const struct custody_item *it = custody_find(n->custody, ABI_ITEM_SEG, ABI_SEG_STATS, MAIN_STATS_SVC);
  const char *why = "";
  int fd = it != NULL ? main_dup(it->fd) : -ENOENT;

  if (fd < 0 || seg_attach(&n->stats, fd, ABI_SEG_STATS, SEG_RDWR, &why) < 0) {
    log_warn("nicio.stats", "no stats page: %s", why);
    return;
  }
  uint64_t *v = stats_open(&n->stats, MAIN_STATS_SVC, desc, LCORE_STAT_N);
  if (v == NULL)
    return;
  n->lcore.stat = v;
  n->page = seg_at(&n->stats, n->stats.geom[0], sizeof *n->page);
  if (n->page != NULL)
    n->page->epoch = n->lcore.links.link[0].fl.epoch;
}

static int main_bells(struct nicio *n) {
  const struct custody_item *in = custody_find(n->custody, ABI_ITEM_LINK_BELL, 0, 0);
  int rc = in == NULL ? -ENOENT : main_dup(in->fd);

  n->lcore.bell_in = rc;
  for (uint32_t i = 0; i < n->fs.geom.n_links && rc >= 0; i++) {
    const struct custody_item *out = custody_find(n->custody, ABI_ITEM_LINK_BELL, 0, 1 + i);
    rc = out == NULL ? -ENOENT : main_dup(out->fd);
    n->lcore.bell_out[i] = rc;
  }
  return rc < 0 ? rc : 0;
}

/** Open the ports and let the lcore run. */
static int main_run(struct nicio *n) {
  const struct config *cfg = &n->svc.cfg;
  int rc = main_open_ports(n);

  if (rc < 0)
    return rc;
  rc = lcore_start(&n->lcore, n->port, n->n_ports, cfg->nicio_idle, cfg->nicio_cpu);
  if (rc < 0)
    return rc;
  n->running = 1;
  rc = main_stages(n);
  if (rc >= 0)
    svc_ready(&n->svc);
  return rc;
}

static void main_fail(struct nicio *n) {
  n->failed = 1;
  loop_stop(n->svc.loop);
}

/** An ethdev fills RX slots from the moment it is started, so it is opened only once every engine worker has confirmed
 * that it holds none of our predecessor's any more. Timer. */
static void main_on_wait(void *ctx) {
  struct nicio *n = ctx;

  (void)link_turn(&n->lcore.links);
  lcore_ring(&n->lcore, link_flush(&n->lcore.links));
  if (!link_rx_ready(&n->lcore.links))
    return;
  loop_del_timer(n->svc.loop, n->wait_timer);
  if (main_run(n) < 0)
    main_fail(n);
}

/** Everything is known: take the segment, and the ports at once or (ethdev) when the engine agrees. */
static int main_begin(struct nicio *n) {
  const struct config *cfg = &n->svc.cfg;
  uint32_t n_eth = 0;
  int rc;

  if ((rc = main_map_packet(n)) < 0)
    return rc;
  if ((rc = ethdev_slots(cfg, &n->fs, &n_eth)) < 0)
    return rc;
  if ((rc = lcore_init(&n->lcore, &n->fs, &n->regions, n_eth)) < 0)
    return rc;
  if ((rc = main_bells(n)) < 0) {
    log_error("nicio.bells", "the broker gave no link bells");
    return rc;
  }
  main_map_stats(n);
  if ((rc = ethdev_start(cfg, &n->fs, &n->lcore.slots)) < 0)
    return rc;
  if (n_eth == 0)
    return main_run(n);
  n->wait_timer = loop_add_timer(n->svc.loop, 0, MAIN_WAIT_US, main_on_wait, n);
  return n->wait_timer < 0 ? n->wait_timer : 0;
}

/** 0, -errno: it is not mapped, and must not be used. Before the start its app may be doing so: then the whole segment
 * goes, and frames that refer to it are dropped rather than sent with zeros in them. */
static int main_part(struct nicio *n, const struct custody_item *it) {
  int rc = region_part(&n->regions, it->owner, it->fd, it->place, it->size);

  if (rc == 0 || rc == -ENOENT) /* its segment follows, and takes all parts from the vault */
    return 0;
  log_error_rl("nicio.region", "part %llu: %s", (unsigned long long)it->id, err_text(rc));
  const struct custody_item *a = custody_find(n->custody, ABI_ITEM_SEG, ABI_SEG_APP, it->owner);
  if (!n->begun && a != NULL)
    (void)region_drop(&n->regions, a->id);
  return rc;
}

struct main_parts {
  struct nicio *n;
  uint64_t worker_id;
};

static void main_take_part(void *ctx, const struct custody_item *it) {
  const struct main_parts *of = ctx;

  if (it->kind == ABI_ITEM_SEG && it->seg_kind == ABI_SEG_PART && it->owner == of->worker_id)
    (void)main_part(of->n, it);
}

static int main_on_item(void *ctx, const struct custody_item *it) {
  struct nicio *n = ctx;

  if (it->kind == ABI_ITEM_SEG && it->seg_kind == ABI_SEG_PART)
    return main_part(n, it);
  if (it->kind == ABI_ITEM_SEG && it->seg_kind == ABI_SEG_APP) {
    struct main_parts of = {.n = n, .worker_id = it->owner};
    int rc = region_add(&n->regions, it->id, it->fd, it->place);
    if (rc < 0)
      log_error_rl("nicio.region", "segment %llu: %s", (unsigned long long)it->id, err_text(rc));
    else
      custody_each(n->custody, main_take_part, &of);
  }
  return 0;
}

static void main_on_drop(void *ctx, const struct custody_item *it) {
  struct nicio *n = ctx;

  if (it->kind == ABI_ITEM_SEG && it->seg_kind == ABI_SEG_PART)
    (void)region_unpart(&n->regions, it->owner, it->place, it->size);
  if (it->kind == ABI_ITEM_SEG && it->seg_kind == ABI_SEG_APP)
    (void)region_drop(&n->regions, it->id);
}

static void main_on_ready(void *ctx, uint32_t broker_epoch) {
  struct nicio *n = ctx;

  log_debug("nicio.ready", "broker epoch %u", broker_epoch);
  if (n->begun)
    return;
  n->begun = 1;
  if (main_begin(n) < 0)
    main_fail(n);
}

static const struct custody_ops main_custody_ops = {.item = main_on_item, .drop = main_on_drop, .ready = main_on_ready};

/* --- timers and links --- */

static void main_on_tick(void *ctx) {
  static uint32_t ticks;
  struct nicio *n = ctx;

  (void)region_collect(&n->regions);
  if (!n->running)
    return;
  if (n->page != NULL)
    __atomic_store_n(&n->page->heartbeat, clock_now_us(), __ATOMIC_RELAXED);
  for (uint32_t i = 0; i < n->n_ports; i++)
    if (n->port[i].kind == PORT_KIND_ETHDEV)
      (void)port_refresh(&n->port[i]);
  if (++ticks % MAIN_LOST_TICKS != 0)
    return;
  for (uint32_t i = 0; i < n->n_ports; i++) {
    struct port *p = &n->port[i];
    if (p->ops->lost != NULL)
      port_count(p, ABI_PC_RX_KERNEL_DROP, p->ops->lost(p));
  }
}

static void main_on_netif(void *ctx, int fd, uint32_t events) {
  struct nicio *n = ctx;

  (void)events;
  netif_watch_drain(fd);
  for (uint32_t i = 0; i < n->n_ports; i++)
    (void)port_refresh(&n->port[i]);
}

static int main_watch(struct nicio *n) {
  n->netif_fd = netif_watch();
  if (n->netif_fd < 0)
    return n->netif_fd;
  int rc = loop_add_fd(n->svc.loop, n->netif_fd, EPOLLIN, main_on_netif, n);
  if (rc < 0)
    return rc;
  rc = loop_add_timer(n->svc.loop, MAIN_TICK_US, MAIN_TICK_US, main_on_tick, n);
  return rc < 0 ? rc : 0;
}

static void main_close(struct nicio *n) {
  lcore_stop(&n->lcore);
  for (uint32_t i = 0; i < n->n_ports; i++) {
    if (n->capture[i] != NULL)
      (void)pcapng_close(n->capture[i]);
    n->port[i].ops->close(&n->port[i]);
  }
  ethdev_stop();
  lcore_fini(&n->lcore);
  custody_free(n->custody);
  region_fini(&n->regions);
  seg_detach(&n->stats);
  seg_detach(&n->packet);
  if (n->netif_fd >= 0)
    close(n->netif_fd);
}

int main(int argc, char **argv) {
  static struct nicio n;
  char path[160];

  n.netif_fd = -1;
  n.packet.fd = n.stats.fd = -1;
  int rc = svc_start(&n.svc, "nicio", argc, argv, ctl_handle, &n);
  if (rc != 0)
    return rc < 0 ? 1 : 0;
  rc = region_init(&n.regions);
  if (rc == 0)
    rc = main_watch(&n);
  if (rc == 0)
    rc = custody_new(&n.custody, n.svc.loop, svc_path(&n.svc, CUSTODY_SOCKET, path, sizeof path), CUSTODY_NICIO,
                     &main_custody_ops, &n);
  if (rc == 0)
    rc = loop_run(n.svc.loop);
  else
    log_error("nicio.start", "%s", err_text(rc));
  main_close(&n);
  svc_stop(&n.svc);
  return rc < 0 || n.failed ? 1 : 0;
}
