/*
 * Control over NNG: ShowInterface, ShowStats, ShowVersion, Capture, SetImpairment, ResetRings. Protobuf stops here.
 * Control thread; what concerns the lcore goes to it as a command.
 */
#include "nicio.h"

#include "base/bits.h"
#include "base/log.h"
#include "control.pb-c.h"
#include "shm/stats.h"

#include <stdio.h>
#include <stdlib.h>

#define CTL_SNAPLEN 65599u

typedef Hoststack__Control__Reply ctl_reply;

/* In the order of enum abi_port_counter. */
static const struct {
  const char *name, *help;
  uint32_t severity;
} ctl_counter[ABI_PC_N] = {
    [ABI_PC_RX_FRAMES] = {"rx.frames", "frames received", 0},
    [ABI_PC_RX_BYTES] = {"rx.bytes", "bytes received", 0},
    [ABI_PC_TX_FRAMES] = {"tx.frames", "frames sent", 0},
    [ABI_PC_TX_BYTES] = {"tx.bytes", "bytes sent", 0},
    [ABI_PC_RX_DROP_NO_SLOT] = {"rx.drop.no_slot", "dropped: no free RX slot", 1},
    [ABI_PC_RX_DROP_RING] = {"rx.drop.ring", "dropped: frame ring full", 1},
    [ABI_PC_RX_ERROR] = {"rx.error", "receive errors, truncated or malformed frames", 2},
    [ABI_PC_TX_ERROR] = {"tx.error", "refused by the device", 2},
    [ABI_PC_TX_DROP_DOWN] = {"tx.drop.down", "dropped: link is down", 1},
    [ABI_PC_TX_BAD_DESC] = {"tx.bad_desc", "descriptors from the engine that made no sense", 2},
    [ABI_PC_TX_GSO_CUT] = {"tx.gso_cut", "frames cut in software", 0},
    [ABI_PC_TX_CSUM_SOFT] = {"tx.csum_soft", "checksums finished in software", 0},
    [ABI_PC_RX_GRO_MERGED] = {"rx.gro_merged", "segments merged into larger frames", 0},
    [ABI_PC_IMPAIR_DROP] = {"impair.drop", "dropped by the impairment stage", 0},
    [ABI_PC_RX_KERNEL_DROP] = {"rx.kernel_drop", "lost by the device or the kernel's queue", 1},
    [ABI_PC_TX_FULL] = {"tx.full", "times the device was full", 0},
};

/** Index of a port; else -ENOENT and why it was refused, in static memory: requests are handled one at a time. */
static int ctl_find(const struct nicio *n, const char *name, const char **why) {
  static char text[128];

  for (uint32_t i = 0; i < n->n_ports; i++)
    if (name != NULL && strcmp(n->port[i].name, name) == 0)
      return (int)i;
  (void)snprintf(text, sizeof text, "%.64s: no such interface", name != NULL ? name : "");
  *why = text;
  return -ENOENT;
}

/* --- show --- */

struct ctl_iface {
  Hoststack__Control__Interface pb;
  Hoststack__Control__Counter counter[ABI_PC_N], *counters[ABI_PC_N];
  char mac[18], caps[64];
};

static void ctl_iface_fill(struct ctl_iface *f, const struct nicio *n, uint32_t i) {
  const struct port *p = &n->port[i];
  const uint8_t *m = p->mac;

  hoststack__control__interface__init(&f->pb);
  (void)snprintf(f->mac, sizeof f->mac, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
  (void)snprintf(f->caps, sizeof f->caps, "%s%s%s%s", p->caps & ABI_PORT_CSUM_TX ? "csum " : "",
                 p->caps & ABI_PORT_TSO ? "tso " : "", p->caps & ABI_PORT_FIFO_TX ? "fifo-tx " : "",
                 p->caps & ABI_PORT_RX_MERGED ? "rx-merged" : "");
  f->pb.name = (char *)(uintptr_t)p->name;
  f->pb.kind = (char *)(uintptr_t)(p->kind == PORT_KIND_KERNEL ? "kernel" : "ethdev");
  f->pb.device = (char *)(uintptr_t)p->device;
  f->pb.mac = f->mac;
  f->pb.mtu = p->mtu;
  f->pb.up = p->up;
  f->pb.speed_mbps = p->speed_mbps;
  f->pb.queues = 1;
  f->pb.caps = f->caps;
  for (uint32_t c = 0; c < ABI_PC_N; c++) {
    hoststack__control__counter__init(&f->counter[c]);
    f->counter[c].name = (char *)(uintptr_t)ctl_counter[c].name;
    f->counter[c].help = (char *)(uintptr_t)ctl_counter[c].help;
    f->counter[c].severity = ctl_counter[c].severity;
    f->counter[c].value = __atomic_load_n(&p->count[c], __ATOMIC_RELAXED);
    f->counters[c] = &f->counter[c];
  }
  f->pb.n_counter = ABI_PC_N;
  f->pb.counter = f->counters;
}

static int ctl_show_interface(struct nicio *n, uint8_t **reply, size_t *reply_len) {
  ctl_reply r = HOSTSTACK__CONTROL__REPLY__INIT;
  Hoststack__Control__Interfaces list = HOSTSTACK__CONTROL__INTERFACES__INIT;
  Hoststack__Control__Interface *ptr[ABI_PORTS_MAX];
  struct ctl_iface *f = calloc(ABI_PORTS_MAX, sizeof *f);

  if (f == NULL)
    return -ENOMEM;
  for (uint32_t i = 0; i < n->n_ports; i++) {
    ctl_iface_fill(&f[i], n, i);
    ptr[i] = &f[i].pb;
  }
  list.n_interface = n->n_ports;
  list.interface = ptr;
  r.body_case = HOSTSTACK__CONTROL__REPLY__BODY_INTERFACES;
  r.interfaces = &list;
  int rc = svc_pack_reply(&r, reply, reply_len);
  free(f);
  return rc;
}

static int ctl_show_stats(struct nicio *n, uint8_t **reply, size_t *reply_len) {
  static const char *const name[] = {
#define CTL_STAT(id, text, help) text,
      LCORE_STATS(CTL_STAT)
#undef CTL_STAT
  };
  ctl_reply r = HOSTSTACK__CONTROL__REPLY__INIT;
  Hoststack__Control__Stats list = HOSTSTACK__CONTROL__STATS__INIT;
  Hoststack__Control__Counter c[LCORE_STAT_N], *ptr[LCORE_STAT_N];

  for (uint32_t i = 0; i < LCORE_STAT_N; i++) {
    hoststack__control__counter__init(&c[i]);
    c[i].name = (char *)(uintptr_t)name[i];
    c[i].value = n->lcore.stat != NULL ? __atomic_load_n(&n->lcore.stat[i], __ATOMIC_RELAXED) : 0;
    ptr[i] = &c[i];
  }
  list.n_counter = LCORE_STAT_N;
  list.counter = ptr;
  r.body_case = HOSTSTACK__CONTROL__REPLY__BODY_STATS;
  r.stats = &list;
  return svc_pack_reply(&r, reply, reply_len);
}

/* --- capture --- */

/** Loop timer: write out what the captures collected; ends itself with the last one. */
static void ctl_capture_poll(void *ctx) {
  struct nicio *n = ctx;
  int live = 0;

  for (uint32_t i = 0; i < n->n_ports; i++) {
    if (n->capture[i] == NULL)
      continue;
    int rc = pcapng_drain(n->capture[i]);
    if (rc < 0)
      log_error("nicio.capture", "%s: %s", n->port[i].name, err_text(rc));
    if (n->capture[i]->full)
      (void)ctl_capture(n, i, NULL, 0, 0);
    live |= n->capture[i] != NULL;
  }
  if (!live) {
    loop_del_timer(n->svc.loop, n->capture_timer);
    n->capture_timer = 0;
  }
}

int ctl_capture(struct nicio *n, uint32_t port, const char *path, uint32_t snaplen, uint64_t max_bytes) {
  struct lcore_cmd cmd = {.kind = LCORE_CAPTURE, .port = port};
  int rc = 0;

  if (n->capture[port] != NULL) { /* the lcore lets go of the ring first */
    rc = lcore_command(&n->lcore, &cmd);
    if (rc < 0)
      return rc;
    uint64_t lost = capture_lost(n->capture[port]->ring);
    uint64_t packets = pcapng_close(n->capture[port]);
    n->capture[port] = NULL;
    log_info("nicio.capture", "%s: stopped, %llu packets, %llu missed", n->port[port].name, (unsigned long long)packets,
             (unsigned long long)lost);
  }
  if (path == NULL)
    return 0;
  cmd.snaplen = snaplen == 0 ? CTL_SNAPLEN : HS_MIN(snaplen, CTL_SNAPLEN);
  struct pcapng *c = pcapng_open(path, n->port[port].name, cmd.snaplen, max_bytes, &rc);
  if (c == NULL)
    return rc;
  cmd.capture = c->ring;
  rc = lcore_command(&n->lcore, &cmd);
  if (rc < 0)
    return rc; /* c stays: the lcore may still take it up */
  n->capture[port] = c;
  if (n->capture_timer <= 0)
    n->capture_timer = loop_add_timer(n->svc.loop, CTL_CAPTURE_US, CTL_CAPTURE_US, ctl_capture_poll, n);
  log_info("nicio.capture", "%s: into %s", n->port[port].name, path);
  return 0;
}

/* --- impairment --- */

int ctl_impair(struct nicio *n, uint32_t port, int dir, const struct config_impair *c) {
  struct lcore_cmd cmd = {.kind = dir ? LCORE_IMPAIR_TX : LCORE_IMPAIR_RX, .port = port};

  if (impair_wanted(c) && (cmd.impair = impair_new(c)) == NULL)
    return -ENOMEM;
  struct impair *old = dir ? n->lcore.impair_tx[port] : n->lcore.impair_rx[port];
  int rc = lcore_command(&n->lcore, &cmd);
  if (rc < 0)
    return rc; /* not freed: the lcore may still take it up */
  impair_free(old);
  n->impair[port][dir] = *c;
  return 0;
}

static int ctl_percent_ok(double v) {
  return v >= 0 && v <= 100;
}

static int ctl_set_impairment(struct nicio *n, const Hoststack__Control__SetImpairment *q, const char **why) {
  struct config_impair c = {.loss_percent = q->loss_percent,
                            .reorder_percent = q->reorder_percent,
                            .duplicate_percent = q->duplicate_percent,
                            .corrupt_percent = q->corrupt_percent,
                            .delay_us = q->delay_us,
                            .jitter_us = q->jitter_us,
                            .rate_bps = q->rate_bps,
                            .queue_bytes = q->queue_bytes,
                            .seed = q->seed};
  int port = ctl_find(n, q->interface, why), rc = 0;
  int rx = strcmp(q->direction, "rx") == 0, tx = strcmp(q->direction, "tx") == 0;

  if (port < 0)
    return port;
  if (!rx && !tx && strcmp(q->direction, "both") != 0) {
    *why = "direction: rx, tx or both";
    return -EINVAL;
  }
  if (!ctl_percent_ok(c.loss_percent) || !ctl_percent_ok(c.reorder_percent) || !ctl_percent_ok(c.duplicate_percent) ||
      !ctl_percent_ok(c.corrupt_percent) || c.delay_us > 60000000u || c.jitter_us > 60000000u) {
    *why = "percentages 0 to 100, delay and jitter at most 60 s";
    return -EINVAL;
  }
  if (!tx)
    rc = ctl_impair(n, (uint32_t)port, 0, &c);
  if (rc == 0 && !rx)
    rc = ctl_impair(n, (uint32_t)port, 1, &c);
  return rc;
}

static int ctl_set_capture(struct nicio *n, const Hoststack__Control__Capture *q, const char **why) {
  int port = ctl_find(n, q->interface, why);

  if (port < 0)
    return port;
  if (!q->stop && q->path[0] != '/') {
    *why = "path must be absolute";
    return -EINVAL;
  }
  return ctl_capture(n, (uint32_t)port, q->stop ? NULL : q->path, q->snaplen, q->max_bytes);
}

/* --- dispatch --- */

int ctl_handle(void *ctx, const uint8_t *req, size_t len, uint8_t **reply, size_t *reply_len) {
  struct nicio *n = ctx;
  struct lcore_cmd reset = {.kind = LCORE_RESET_RINGS};
  const char *why = NULL;
  int rc;
  Hoststack__Control__Request *q = hoststack__control__request__unpack(NULL, len, req);

  if (q == NULL)
    return svc_error_reply(EBADMSG, "unreadable request", reply, reply_len);
  if (!n->running && q->body_case != HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_VERSION) {
    rc = svc_error_reply(EAGAIN, "nicio is starting: its ports are not open yet", reply, reply_len);
    goto out;
  }
  switch (q->body_case) {
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_INTERFACE:
    rc = ctl_show_interface(n, reply, reply_len);
    goto out;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_STATS:
    rc = ctl_show_stats(n, reply, reply_len);
    goto out;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_VERSION:
    rc = svc_version_reply(&n->svc, n->running ? n->lcore.links.link[0].fl.epoch : 0, reply, reply_len);
    goto out;
  case HOSTSTACK__CONTROL__REQUEST__BODY_RESET_RINGS:
    rc = lcore_command(&n->lcore, &reset);
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SET_IMPAIRMENT:
    rc = ctl_set_impairment(n, q->set_impairment, &why);
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_CAPTURE:
    rc = ctl_set_capture(n, q->capture, &why);
    break;
  default:
    rc = -EOPNOTSUPP;
    why = "nicio does not answer this";
    break;
  }
  rc = svc_error_reply(rc, rc == 0 ? "" : why, reply, reply_len);
out:
  hoststack__control__request__free_unpacked(q, NULL);
  return rc;
}
