/*
 * Port on a DPDK device: any vdev or PCI device (net_af_xdp0,iface=eth1; net_af_packet0,…; net_tap0,…; net_memif0,…;
 * net_pcap0,…; net_ring0; net_null0; 0000:03:00.0). Built into hs-nicio-ethdev.so with eal.c.
 *
 * RX: mbufs of the shared pool go to the engine as descriptors with the device's own data offset and stay out until
 * the done ring brings them home; segments of one flow in a burst are merged (gro.h). TX: cut and finished in software
 * (gso.h) into private mbufs, so a TX slot is free at once. Devices that can't wake us are looked at every 100 µs while
 * there was traffic lately, else every millisecond. Open and link: control thread; bursts: lcore, hot path.
 */
#include "eal.h"
#include "ethdev.h"
#include "gro.h"
#include "gso.h"
#include "hdrs.h"
#include "netif.h"
#include "port.h"

#include "base/bits.h"
#include "base/log.h"
#include "shm/fence.h"
#include "wire/cksum.h"
#include "wire/ip.h"
#include "wire/tcp.h"
#include "wire/udp.h"

#include <dirent.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_memory.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ETH_RING      2048u
#define ETH_BURST     64u
#define ETH_PEND      512u /* wire packets that wait for room in the device */
#define ETH_POLL_HOT  100u
#define ETH_POLL_US   1000u
#define ETH_HLEN_VLAN 18u
#define ETH_HOT       50u /* turns without work after which a device counts as quiet */
#define ETH_RECONNECT 3u  /* looks at a link that is down, 100 ms apart, before a new attempt */
#define ETH_PAGE      4096u
#define ETH_QUEUES    8u
#define ETH_FD_MAX    4096
#ifndef AF_XDP
#define AF_XDP 44
#endif

struct eth {
  uint16_t id;
  uint16_t queues;
  int kernel_peer; /* a device of the kernel lies below: unfinished checksums may arrive */
  int registered;  /* the lcore has told DPDK about itself */
  int started;     /* atomic: the device runs; a memif client waits for its server */
  int busy;        /* atomic: the lcore is inside a burst */
  int memif_client;
  uint32_t down; /* times in a row that the link was found down */
  uint32_t quiet;
  uint32_t pend_at, n_pend;
  struct rte_mbuf *pend[ETH_PEND];
  struct abi_frame_desc raw[PORT_RX_DESCS];
};

/* --- open --- */

/** Descriptors open now, as a bitmap. */
static void eth_fds(uint8_t map[ETH_FD_MAX]) {
  struct dirent *e;
  DIR *d = opendir("/proc/self/fd");

  memset(map, 0, ETH_FD_MAX);
  if (d == NULL)
    return;
  while ((e = readdir(d)) != NULL) {
    long fd = strtol(e->d_name, NULL, 10);
    if (e->d_name[0] != '.' && fd >= 0 && fd < ETH_FD_MAX && fd != dirfd(d))
      map[fd] = 1;
  }
  closedir(d);
}

/** Of the descriptors that the driver opened, those that become readable with a frame: packet and XDP sockets. */
static void eth_find_fds(struct port *p, const uint8_t *before) {
  static uint8_t now[ETH_FD_MAX];

  eth_fds(now);
  for (int fd = 0; fd < ETH_FD_MAX && p->n_fds < PORT_FDS_MAX; fd++) {
    int domain = 0;
    socklen_t len = sizeof domain;
    if (!now[fd] || before[fd] || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
      continue;
    if (domain == AF_PACKET || domain == AF_XDP)
      p->fds[p->n_fds++] = fd;
  }
  p->poll_us = p->n_fds > 0 ? 0 : ETH_POLL_US;
}

/** A packet that arrives on a queue without a socket goes to the kernel's stack and is lost to us: net_af_xdp gets all
 * queues of its interface unless the configuration says which. Returns how many it should have, 0 = as configured. */
static uint32_t eth_xdp_queues(const char *device, char *args, size_t room) {
  const char *iface = strstr(device, "iface=");
  char name[32];

  (void)snprintf(args, room, "%s", device);
  if (strncmp(device, "net_af_xdp", 10) != 0 || iface == NULL || strstr(device, "queue") != NULL)
    return 0;
  (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(iface + 6, ","), iface + 6);
  uint32_t n = HS_MIN(netif_rx_queues(name), ETH_QUEUES);
  (void)snprintf(args, room, "%s,queue_count=%u", device, n);
  return n;
}

static int eth_probe(const char *device, uint16_t *id) {
  char name[192];

  (void)snprintf(name, sizeof name, "%s", device);
  name[strcspn(name, ",")] = '\0';
  if (rte_eth_dev_get_port_by_name(name, id) == 0)
    return 0;
  int rc = rte_dev_probe(device);
  if (rc < 0)
    return rc;
  return rte_eth_dev_get_port_by_name(name, id) == 0 ? 0 : -ENODEV;
}

/** A real device reaches memory through the IOMMU: map the slots for it. vdevs need nothing of that. */
static int eth_dma_map(const struct rte_eth_dev_info *info) {
  static int registered;
  size_t len = (size_t)eal.n_eth * ABI_SLOT_SIZE;

  if (!registered && rte_extmem_register(eal.slots, len, NULL, 0, ETH_PAGE) < 0)
    return -rte_errno;
  registered = 1;
  return rte_dev_dma_map(info->device, eal.slots, (uint64_t)(uintptr_t)eal.slots, len) < 0 ? -rte_errno : 0;
}

static int eth_queues(struct eth *e, const struct rte_eth_dev_info *info) {
  uint16_t rxd = ETH_RING, txd = ETH_RING;
  struct rte_eth_conf conf;
  int rc;

  memset(&conf, 0, sizeof conf);
  if (e->queues > 1) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf =
        info->flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
  }
  if (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_CHECKSUM)
    conf.rxmode.offloads |= info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_CHECKSUM;
  if ((rc = rte_eth_dev_configure(e->id, e->queues, 1, &conf)) < 0 ||
      (rc = rte_eth_dev_adjust_nb_rx_tx_desc(e->id, &rxd, &txd)) < 0)
    return rc;
  uint32_t most = eal.n_eth / (2u * e->queues);
  while (rxd > most && rxd > 64) /* drivers want powers of two */
    rxd /= 2;
  for (uint16_t q = 0; q < e->queues; q++)
    if ((rc = rte_eth_rx_queue_setup(e->id, q, rxd, (unsigned)SOCKET_ID_ANY, NULL, eal.rx)) < 0)
      return rc;
  return rte_eth_tx_queue_setup(e->id, 0, txd, (unsigned)SOCKET_ID_ANY, NULL);
}

/** Devices without a MAC of their own that stays: ours comes from the port's name. */
static int eth_mac_is_lent(const char *driver) {
  static const char *const fleeting[] = {"net_memif", "net_tap", "net_null", "net_ring", "net_pcap"};

  for (size_t i = 0; i < ARRAY_LEN(fleeting); i++)
    if (strcmp(driver, fleeting[i]) == 0)
      return 1;
  return 0;
}

static int eth_set_mtu(struct eth *e, const struct port *p, uint32_t want) {
  uint16_t have = 0;
  int rc = rte_eth_dev_get_mtu(e->id, &have);

  if (want == 0 || (rc == 0 && have == want))
    return 0;
  rc = rte_eth_dev_set_mtu(e->id, (uint16_t)want);
  if (rc < 0)
    log_error("nicio.ethdev", "%s: mtu %u refused by the device (now %u): %s", p->name, want, have, err_text(rc));
  return rc;
}

/** Start the device. A memif client fails here while its server is away: eth_link tries again. */
static int eth_run(struct eth *e) {
  int rc = rte_eth_dev_start(e->id);

  if (rc < 0)
    return rc;
  (void)rte_eth_promiscuous_enable(e->id);
  __atomic_store_n(&e->started, 1, __ATOMIC_RELEASE);
  return 0;
}

/** Lcore: may the device be used now? Then eth_leave follows. Control: once `started` is 0 and `busy` was seen 0, the
 * lcore stays away. */
static int eth_enter(struct eth *e) {
  __atomic_store_n(&e->busy, 1, __ATOMIC_RELAXED);
  shm_fence();
  if (HS_LIKELY(__atomic_load_n(&e->started, __ATOMIC_ACQUIRE)))
    return 1;
  __atomic_store_n(&e->busy, 0, __ATOMIC_RELEASE);
  return 0;
}
static void eth_leave(struct eth *e) {
  __atomic_store_n(&e->busy, 0, __ATOMIC_RELEASE);
}

/** A memif client whose server went away does not connect again by itself: stop the device, start it anew. */
static void eth_reconnect(struct eth *e) {
  if (!e->memif_client || ++e->down % ETH_RECONNECT != 0)
    return;
  __atomic_store_n(&e->started, 0, __ATOMIC_RELEASE);
  shm_fence();
  while (__atomic_load_n(&e->busy, __ATOMIC_ACQUIRE))
    (void)sched_yield();
  (void)rte_eth_dev_stop(e->id);
  (void)eth_run(e);
}

/** A socket file that a killed server of a memif left behind would keep the next one from listening. */
static void eth_unlink_stale(const char *device) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  const char *path = strstr(device, "socket=");

  if (strncmp(device, "net_memif", 9) != 0 || strstr(device, "role=server") == NULL || path == NULL)
    return;
  (void)snprintf(a.sun_path, sizeof a.sun_path, "%.*s", (int)strcspn(path + 7, ","), path + 7);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return;
  if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0 && errno == ECONNREFUSED)
    (void)unlink(a.sun_path);
  close(fd);
}

static int eth_open(struct port *p, const struct config_port *cfg, int vault_fd) {
  static uint8_t before[ETH_FD_MAX];
  struct rte_eth_dev_info info;
  char args[192];
  int rc;

  (void)vault_fd; /* nothing of an ethdev is kept over a restart */
  struct eth *e = calloc(1, sizeof *e);
  if (e == NULL)
    return -ENOMEM;
  eth_fds(before);
  eth_unlink_stale(p->device);
  uint32_t all = eth_xdp_queues(p->device, args, sizeof args);
  if ((rc = eth_probe(args, &e->id)) < 0 || (rc = rte_eth_dev_info_get(e->id, &info)) < 0)
    goto out;
  e->queues = (uint16_t)HS_CLAMP(all > 0 ? all : cfg->queues, 1u, HS_MIN((uint32_t)info.max_rx_queues, ETH_QUEUES));
  e->memif_client = strcmp(info.driver_name, "net_memif") == 0 && strstr(p->device, "role=server") == NULL;
  e->kernel_peer = strcmp(info.driver_name, "net_af_packet") == 0 || strcmp(info.driver_name, "net_af_xdp") == 0 ||
                   strcmp(info.driver_name, "net_tap") == 0;
  if (ethdev_is_pci(p->device) && (rc = eth_dma_map(&info)) < 0) {
    log_error("nicio.ethdev", "%s: DMA mapping of the RX slots: %s", p->name, err_text(rc));
    goto out;
  }
  if ((rc = eth_queues(e, &info)) < 0 || (rc = eth_set_mtu(e, p, cfg->mtu)) < 0)
    goto out;
  rc = eth_run(e);
  if (rc < 0 && !e->memif_client)
    goto out;
  eth_find_fds(p, before);
  if (!p->mac_set && eth_mac_is_lent(info.driver_name)) {
    memcpy(p->mac, p->mac_derived, 6);
    p->mac_set = 1;
  }
  p->priv = e;
  p->caps = ABI_PORT_CSUM_TX | ABI_PORT_TSO | ABI_PORT_FIFO_TX | ABI_PORT_RX_MERGED; /* nicio does it for the device */
  log_info("nicio.ethdev", "%s: driver %s, %u queues, %s", p->name, info.driver_name, e->queues,
           p->n_fds > 0 ? "wakes by its socket" : "polled");
  return 0;
out:
  free(e);
  return rc;
}

static void eth_close(struct port *p) {
  struct eth *e = p->priv;

  if (e == NULL)
    return;
  while (e->n_pend > 0)
    rte_pktmbuf_free(e->pend[e->pend_at + --e->n_pend]);
  (void)rte_eth_dev_stop(e->id);
  (void)rte_eth_dev_close(e->id);
  free(e);
  p->priv = NULL;
}

static int eth_link(struct port *p, struct port_link *out) {
  struct eth *e = p->priv;
  struct rte_eth_link l;
  struct rte_ether_addr mac;
  uint16_t mtu = 0;

  memset(&l, 0, sizeof l);
  if (!e->started)
    (void)eth_run(e);
  int rc = rte_eth_link_get_nowait(e->id, &l);
  if (rc < 0 || (rc = rte_eth_dev_get_mtu(e->id, &mtu)) < 0 || (rc = rte_eth_macaddr_get(e->id, &mac)) < 0)
    return rc;
  out->up = e->started && l.link_status == RTE_ETH_LINK_UP;
  out->mtu = mtu;
  out->speed_mbps = l.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : l.link_speed;
  memcpy(out->mac, mac.addr_bytes, 6);
  if (out->up)
    e->down = 0;
  else if (e->started)
    eth_reconnect(e);
  return 0;
}

/* --- RX --- */

/** A sender on this machine leaves the checksum to a device that never comes: the field holds the sum of the
 * pseudo-header alone. Nothing lay in between that could have changed the bytes. */
static int eth_is_partial(const uint8_t *f, const struct hdrs *h, struct abi_frame_desc *d) {
  uint32_t off = h->proto == IP_PROTO_TCP ? TCP_OFF_CKSUM : UDP_OFF_CKSUM;
  const uint8_t *ip = f + h->l3;
  uint32_t l4_len = h->l3 + h->ip_len - h->l4;
  cksum_t sum;

  if (h->version == 4) {
    sum = cksum_pseudo4(load_be32(ip + 12), load_be32(ip + 16), h->proto, l4_len);
  } else {
    struct ip_addr src = ip_addr_load6(ip + 8), dst = ip_addr_load6(ip + 24);
    sum = cksum_pseudo6(&src, &dst, h->proto, l4_len);
  }
  if (cksum_load(f + h->l4 + off) != cksum_reduce(sum))
    return 0;
  d->flags |= ABI_FR_CSUM_PART | ABI_FR_CSUM_OK;
  d->csum_start = h->l4;
  d->csum_off = (uint8_t)off;
  return 1;
}

/** What the frame's first piece tells. 0, or -1 when the device cut the frame off (GSO frames from a kernel peer). */
static int eth_classify(const struct eth *e, const struct rte_mbuf *m, const uint8_t *f, struct abi_frame_desc *d) {
  struct hdrs h;

  if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD)
    d->flags |= ABI_FR_CSUM_OK;
  if (hdrs_parse(f, d->len, &h) < 0)
    return 0;
  if (h.l3 + h.ip_len > m->pkt_len)
    return -1;
  if (e->kernel_peer && !h.frag && h.payload != 0 && !(d->flags & ABI_FR_CSUM_OK))
    (void)eth_is_partial(f, &h, d);
  return 0;
}

/** One received mbuf chain → descriptors. Returns how many, 0 = dropped. */
static uint32_t eth_deliver(struct port *p, struct eth *e, struct rte_mbuf *m, struct abi_frame_desc *d,
                            uint32_t room) {
  uint32_t n = 0, len = m->pkt_len;

  if (m->nb_segs > room || len < PKT_LEN_MIN || len > PKT_LEN_MAX)
    goto bad;
  for (struct rte_mbuf *s = m; s != NULL; s = s->next, n++) {
    uint32_t slot = eal_slot(s);
    if (slot == UINT32_MAX || s->data_len == 0)
      goto bad;
    d[n] = (struct abi_frame_desc){.slot = slot, .len = s->data_len, .port = p->index};
    d[n].off = (uint64_t)(rte_pktmbuf_mtod(s, uint8_t *) - p->fs->seg->base);
    d[n].flags = s->next != NULL ? ABI_FR_CHAIN : 0;
  }
  if (eth_classify(e, m, rte_pktmbuf_mtod(m, const uint8_t *), d) < 0)
    goto bad;
  port_count(p, ABI_PC_RX_FRAMES, 1);
  port_count(p, ABI_PC_RX_BYTES, len);
  return n;
bad:
  port_count(p, ABI_PC_RX_ERROR, 1);
  rte_pktmbuf_free(m);
  return 0;
}

static uint32_t eth_rx_burst(struct port *p, struct abi_frame_desc *d, uint32_t max) {
  struct eth *e = p->priv;
  struct rte_mbuf *m[ETH_BURST];
  uint32_t n = 0, merged = 0;

  if (HS_UNLIKELY(!e->registered)) {
    e->registered = 1;
    (void)rte_thread_register(); /* gives this thread a cache in the pools */
  }
  p->rx_empty = 1;
  if (!eth_enter(e))
    return 0;
  for (uint16_t q = 0; q < e->queues; q++) {
    uint32_t room = (HS_MIN(max, PORT_RX_DESCS) - n) / 4; /* chains of jumbo frames */
    uint16_t got = rte_eth_rx_burst(e->id, q, m, (uint16_t)HS_MIN(room, ETH_BURST));
    if (got == ETH_BURST)
      p->rx_empty = 0;
    for (uint16_t i = 0; i < got; i++)
      n += eth_deliver(p, e, m[i], e->raw + n, PORT_RX_DESCS - n);
  }
  eth_leave(e);
  e->quiet = n > 0 ? 0 : e->quiet + 1;
  if (p->n_fds == 0)
    p->poll_us = e->quiet < ETH_HOT ? ETH_POLL_HOT : ETH_POLL_US;
  n = gro_merge(p->fs->seg->base, e->raw, n, d, &merged);
  if (merged > 0)
    port_count(p, ABI_PC_RX_GRO_MERGED, merged);
  return n;
}

/* --- TX --- */

/** Hand waiting packets to the device. 1 when none waits any more. */
static int eth_flush(struct port *p, struct eth *e) {
  while (e->n_pend > 0) {
    uint16_t n = (uint16_t)HS_MIN(e->n_pend, ETH_BURST);
    uint64_t bytes = 0;
    uint32_t len[ETH_BURST];
    for (uint16_t i = 0; i < n; i++)
      len[i] = e->pend[e->pend_at + i]->pkt_len;
    uint16_t sent = rte_eth_tx_burst(e->id, 0, &e->pend[e->pend_at], n);
    for (uint16_t i = 0; i < sent; i++)
      bytes += len[i];
    port_count(p, ABI_PC_TX_FRAMES, sent);
    port_count(p, ABI_PC_TX_BYTES, bytes);
    e->pend_at += sent;
    e->n_pend -= sent;
    if (sent < n)
      return 0;
  }
  e->pend_at = 0;
  return 1;
}

/** Cut one frame into wire packets behind those that wait. 0, or -1 for a frame that can't be sent; -ENOBUFS when
 * memory or room is short (nothing was queued). */
static int eth_cut(struct port *p, struct eth *e, const struct pkt *pk) {
  uint32_t first = e->n_pend;
  struct gso g;
  int len;

  if (gso_init(&g, pk) < 0 || gso_longest(&g) > p->mtu + ETH_HLEN_VLAN || gso_longest(&g) > EAL_TX_ROOM)
    return -1;
  uint32_t need = g.hdr_len == 0 ? 1 : (uint32_t)bits_div_up(g.payload, pk->gso_size) + 1;
  if (e->pend_at + e->n_pend + need > ETH_PEND || rte_mempool_avail_count(eal.tx) < need)
    return need > ETH_PEND / 2 ? -1 : -ENOBUFS;
  do {
    struct rte_mbuf *m = rte_pktmbuf_alloc(eal.tx);
    if (m == NULL)
      break;
    len = gso_next(&g, rte_pktmbuf_mtod(m, uint8_t *), rte_pktmbuf_tailroom(m));
    if (len <= 0) {
      rte_pktmbuf_free(m);
      break;
    }
    m->data_len = (uint16_t)len;
    m->pkt_len = (uint32_t)len;
    e->pend[e->pend_at + e->n_pend++] = m;
  } while (g.hdr_len != 0);
  if (pk->flags & PKT_GSO_ANY)
    port_count(p, ABI_PC_TX_GSO_CUT, 1);
  if (pk->flags & ABI_FR_CSUM_PART)
    port_count(p, ABI_PC_TX_CSUM_SOFT, e->n_pend - first);
  return e->n_pend > first ? 0 : -1;
}

static uint32_t eth_tx_burst(struct port *p, const struct pkt *pk, uint32_t n) {
  struct eth *e = p->priv;
  uint32_t done = 0;

  p->tx_full = p->tx_no_wake = 0;
  if (!eth_enter(e))
    return 0;
  while (eth_flush(p, e) && done < n) {
    while (done < n) {
      int rc = eth_cut(p, e, &pk[done]);
      if (rc == -ENOBUFS)
        break;
      if (rc < 0)
        port_count(p, ABI_PC_TX_ERROR, 1);
      done++;
      if (e->n_pend >= ETH_BURST)
        break;
    }
    if (e->n_pend == 0)
      break;
  }
  eth_leave(e);
  if (e->n_pend > 0 || done < n) {
    p->tx_full = p->tx_no_wake = 1;
    port_count(p, ABI_PC_TX_FULL, 1);
  }
  return done;
}

static uint64_t eth_lost(struct port *p) {
  struct eth *e = p->priv;
  struct rte_eth_stats st;

  if (rte_eth_stats_get(e->id, &st) < 0)
    return 0;
  (void)rte_eth_stats_reset(e->id);
  return st.imissed + st.rx_nombuf;
}

static const struct port_ops eth_ops = {
    .name = "ethdev",
    .open = eth_open,
    .close = eth_close,
    .link = eth_link,
    .rx_burst = eth_rx_burst,
    .tx_burst = eth_tx_burst,
    .lost = eth_lost,
};

__attribute__((visibility("default"))) extern const struct ethdev_module ethdev_module;
const struct ethdev_module ethdev_module = {
    .abi = ETHDEV_ABI, .start = eal_start, .stop = eal_stop, .home = eal_home, .ops = &eth_ops};
