/*
 * Kernel port on an existing interface: AF_PACKET with PACKET_VNET_HDR, so that GSO frames and unfinished checksums
 * pass in both directions (packet(7); figures and traps in DATAPATH.md).
 *
 * RX: recvmmsg into RX slots (rxmsg.h). TX: sendmmsg, one system call per burst; payload is sent from where it lies.
 * The socket outlives us in the broker's custody, its queue keeps packets meanwhile. Open and link: control thread;
 * bursts: lcore, hot path but for the system calls that are its purpose.
 */
#include "netif.h"
#include "port.h"
#include "rxmsg.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PACKET_BATCH      32u
#define PACKET_RCVBUF     (64 * 1024 * 1024) /* what the kernel keeps while nicio is away */
#define PACKET_SNDBUF     (8 * 1024 * 1024)
#define PACKET_NOBUFS_MAX 20000u /* µs that one frame is offered again after ENOBUFS */
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

struct packet_tx {
  struct virtio_net_hdr vnet;
  struct iovec iov[PKT_IOV_MAX + 1];
};
struct packet {
  int fd;
  int ifindex;    /* bound to */
  uint32_t batch; /* messages armed: fewer when the segment has few slots */
  int qdisc;      /* packets pass the kernel's queueing: it has to cut them */
  usec_t nobufs_since;
  struct mmsghdr rx_msg[PACKET_BATCH], tx_msg[PACKET_BATCH];
  struct rxmsg rx[PACKET_BATCH];
  union {
    struct cmsghdr align;
    uint8_t b[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
  } aux[PACKET_BATCH]; /* the kernel takes VLAN tags out of frames and tells them here */
  struct packet_tx tx[PACKET_BATCH];
};

/** Whether a socket out of the vault is what open would make: AF_PACKET with vnet headers, bound to this interface. */
static int packet_fits(int fd, int ifindex) {
  struct sockaddr_ll a;
  socklen_t len = sizeof a;
  int vnet = 0;

  memset(&a, 0, sizeof a);
  if (getsockname(fd, (struct sockaddr *)&a, &len) < 0 || a.sll_family != AF_PACKET || a.sll_ifindex != ifindex)
    return 0;
  len = sizeof vnet;
  return getsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &vnet, &len) == 0 && vnet == 1;
}

static int packet_set(int fd, int level, int opt, int value, const char *what) {
  if (setsockopt(fd, level, opt, &value, sizeof value) == 0)
    return 0;
  int rc = err_last();
  log_error("nicio.packet", "%s: %s", what, err_text(rc));
  return rc;
}

static int packet_buffers(int fd) {
  int rcv = PACKET_RCVBUF, snd = PACKET_SNDBUF;

  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcv, sizeof rcv) < 0 &&
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcv, sizeof rcv) < 0)
    return err_last();
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &snd, sizeof snd) < 0 &&
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &snd, sizeof snd) < 0)
    return err_last();
  return 0;
}

/** A configured MAC that is not the interface's own: let frames to it in. */
static int packet_promisc(int fd, int ifindex) {
  struct packet_mreq mr = {.mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC};
  return setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, sizeof mr) < 0 ? err_last() : 0;
}

/** Bind, or bind anew. 0 or -errno. */
static int packet_bind(int fd, int ifindex) {
  struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = ifindex};
  return bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ? err_last() : 0;
}

static int packet_socket(const struct port *p, const struct netif *nif) {
  int rc, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

  if (fd < 0)
    return err_last();
  if ((rc = packet_set(fd, SOL_PACKET, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR")) < 0 ||
      (rc = packet_set(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING")) < 0 ||
      (rc = packet_set(fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS")) < 0 ||
      (rc = packet_set(fd, SOL_PACKET, PACKET_AUXDATA, 1, "PACKET_AUXDATA")) < 0 || (rc = packet_buffers(fd)) < 0)
    goto out;
  if (p->mac_set && memcmp(p->mac, nif->mac, 6) != 0 && (rc = packet_promisc(fd, nif->index)) < 0)
    goto out;
  if ((rc = packet_bind(fd, nif->index)) < 0)
    goto out;
  return fd;
out:
  close(fd);
  return rc;
}

static void packet_prepare(struct packet *k) {
  for (uint32_t i = 0; i < PACKET_BATCH; i++) {
    rxmsg_init(&k->rx[i]);
    k->rx_msg[i].msg_hdr.msg_iov = k->rx[i].iov;
    k->rx_msg[i].msg_hdr.msg_iovlen = RXMSG_SLOTS + 1;
    k->rx_msg[i].msg_hdr.msg_control = k->aux[i].b;
    k->tx[i].iov[0] = (struct iovec){.iov_base = &k->tx[i].vnet, .iov_len = sizeof k->tx[i].vnet};
    k->tx_msg[i].msg_hdr.msg_iov = k->tx[i].iov;
  }
}

static int packet_open(struct port *p, const struct config_port *cfg, int vault_fd) {
  struct netif nif;
  int rc, taken = 0, fd = -1;

  if ((rc = netif_get(p->device, &nif)) < 0)
    goto out;
  if ((rc = netif_set_up(p->device)) < 0)
    goto out;
  if (cfg->mtu != 0 && cfg->mtu != nif.mtu && (rc = netif_set_mtu(p->device, cfg->mtu)) < 0)
    goto out;
  if (vault_fd >= 0 && packet_fits(vault_fd, nif.index)) {
    fd = vault_fd;
    vault_fd = -1;
    taken = 1;
  } else if ((fd = packet_socket(p, &nif)) < 0) {
    rc = fd;
    goto out;
  }
  struct packet *k = calloc(1, sizeof *k);
  if (k == NULL) {
    rc = -ENOMEM;
    goto out_fd;
  }
  k->fd = fd;
  k->ifindex = nif.index;
  k->qdisc = -1; /* a socket out of the vault may be set either way */
  k->batch = HS_CLAMP(p->slots->n_free / (4 * RXMSG_SLOTS), 1u, PACKET_BATCH);
  packet_prepare(k);
  port_kernel_set(p, k, fd);
  return taken;
out_fd:
  close(fd);
out:
  if (vault_fd >= 0)
    close(vault_fd);
  return rc;
}

static void packet_close(struct port *p) {
  struct packet *k = p->priv;

  if (k == NULL)
    return;
  for (uint32_t i = 0; i < PACKET_BATCH; i++)
    rxmsg_fini(p, &k->rx[i]);
  port_kernel_unset(p);
}

/** PACKET_QDISC_BYPASS hands packets to the driver as they are, and the kernel drops there what the device can't cut.
 * So it is for devices with TSO; for others the packets take the usual way, on which the kernel cuts them. */
static void packet_way_out(struct packet *k, const char *device) {
  struct ethtool_value tso = {.cmd = ETHTOOL_GTSO};
  struct ifreq ifr;

  memset(&ifr, 0, sizeof ifr);
  (void)snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%.*s", IFNAMSIZ - 1, device);
  ifr.ifr_data = (void *)&tso;
  int qdisc = ioctl(k->fd, SIOCETHTOOL, &ifr) == 0 && tso.data == 0;
  if (qdisc == k->qdisc || packet_set(k->fd, SOL_PACKET, PACKET_QDISC_BYPASS, !qdisc, "PACKET_QDISC_BYPASS") < 0)
    return;
  if (qdisc || k->qdisc == 1)
    log_info("nicio.packet", "%s: %s", device, qdisc ? "has no TSO, the kernel cuts" : "has TSO");
  k->qdisc = qdisc;
}

/** An interface that was made anew under the same name: bind to that one. */
static void packet_follow(struct packet *k, const char *device, int ifindex) {
  if (ifindex == k->ifindex)
    return;
  int rc = packet_bind(k->fd, ifindex);
  log_info("nicio.packet", "%s: interface has number %d now: %s", device, ifindex, rc < 0 ? err_text(rc) : "bound");
  if (rc < 0)
    return;
  k->ifindex = ifindex;
  k->qdisc = -1;
}

static int packet_link(struct port *p, struct port_link *out) {
  struct packet *k = p->priv;
  struct netif nif;
  int rc = port_kernel_link(p, &nif, out);

  if (rc == 0 && k != NULL) {
    packet_follow(k, p->device, nif.index);
    packet_way_out(k, p->device);
  }
  return rc;
}

/** The tag that the kernel took out of a frame, if any, goes to m. */
static void packet_rx_tag(struct msghdr *h, struct rxmsg *m) {
  struct tpacket_auxdata a;
  struct cmsghdr *c = CMSG_FIRSTHDR(h);

  m->vlan_tpid = m->vlan_tci = 0;
  if (c == NULL || c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA || c->cmsg_len < CMSG_LEN(sizeof a))
    return;
  memcpy(&a, CMSG_DATA(c), sizeof a);
  if (!(a.tp_status & TP_STATUS_VLAN_VALID))
    return;
  m->vlan_tci = a.tp_vlan_tci;
  m->vlan_tpid = a.tp_status & TP_STATUS_VLAN_TPID_VALID ? a.tp_vlan_tpid : ETH_P_8021Q;
}

static uint32_t packet_rx_burst(struct port *p, struct abi_frame_desc *d, uint32_t max) {
  struct packet *k = p->priv;
  uint32_t want = HS_MIN(k->batch, max / RXMSG_SLOTS), ready = 0, n = 0;

  while (ready < want && rxmsg_arm(p, &k->rx[ready])) {
    k->rx_msg[ready].msg_hdr.msg_controllen = sizeof k->aux[ready].b;
    ready++;
  }
  if (ready == 0) {
    p->rx_empty = p->rx_starved = 1; /* it stays in the kernel's queue */
    return 0;
  }
  int got = recvmmsg(k->fd, k->rx_msg, ready, MSG_DONTWAIT, NULL);
  p->rx_empty = got < (int)ready;
  if (got < 0) {
    if (errno != EAGAIN && errno != EINTR && errno != ENETDOWN)
      port_count(p, ABI_PC_RX_ERROR, 1);
    return 0;
  }
  for (uint32_t i = 0; i < (uint32_t)got; i++) {
    if (k->rx_msg[i].msg_hdr.msg_flags & MSG_TRUNC) {
      port_count(p, ABI_PC_RX_ERROR, 1);
    } else {
      packet_rx_tag(&k->rx_msg[i].msg_hdr, &k->rx[i]);
      n += rxmsg_deliver(p, &k->rx[i], k->rx_msg[i].msg_len, d + n);
    }
  }
  return n;
}

/** What to do about the frame at the front after errno `err`. Returns 1 when it is done with (dropped), 0 = later. */
static int packet_tx_failed(struct port *p, struct packet *k, int err) {
  if (err == EAGAIN || err == EINTR) {
    p->tx_full = 1;
    port_count(p, ABI_PC_TX_FULL, 1);
    return 0;
  }
  if (err == ENOBUFS) {
    usec_t now = clock_now_us();
    if (k->nobufs_since == 0)
      k->nobufs_since = now;
    if (now - k->nobufs_since < PACKET_NOBUFS_MAX) {
      p->tx_full = p->tx_no_wake = 1;
      port_count(p, ABI_PC_TX_FULL, 1);
      return 0;
    }
  }
  k->nobufs_since = 0;
  port_count(p, err == ENETDOWN || err == ENXIO || err == ENODEV ? ABI_PC_TX_DROP_DOWN : ABI_PC_TX_ERROR, 1);
  return 1;
}

static uint32_t packet_tx_burst(struct port *p, const struct pkt *pk, uint32_t n) {
  struct packet *k = p->priv;
  uint32_t want = HS_MIN(n, PACKET_BATCH), done = 0;

  for (uint32_t i = 0; i < want; i++) {
    vnet_out(&k->tx[i].vnet, &pk[i]);
    memcpy(&k->tx[i].iov[1], pk[i].iov, pk[i].n * sizeof pk[i].iov[0]);
    k->tx_msg[i].msg_hdr.msg_iovlen = pk[i].n + 1u;
  }
  p->tx_full = p->tx_no_wake = 0;
  while (done < want) {
    int sent = sendmmsg(k->fd, &k->tx_msg[done], want - done, MSG_DONTWAIT);
    if (sent < 0) {
      if (!packet_tx_failed(p, k, errno))
        break;
      done++;
      continue;
    }
    for (uint32_t i = done; i < done + (uint32_t)sent; i++)
      port_count(p, ABI_PC_TX_BYTES, pk[i].len);
    port_count(p, ABI_PC_TX_FRAMES, (uint64_t)sent);
    k->nobufs_since = 0;
    done += (uint32_t)sent;
  }
  return done;
}

static uint64_t packet_lost(struct port *p) {
  struct packet *k = p->priv;
  struct tpacket_stats st;
  socklen_t len = sizeof st;

  memset(&st, 0, sizeof st);
  if (getsockopt(k->fd, SOL_PACKET, PACKET_STATISTICS, &st, &len) < 0)
    return 0;
  return st.tp_drops;
}

const struct port_ops port_packet_ops = {
    .name = "packet",
    .open = packet_open,
    .close = packet_close,
    .link = packet_link,
    .rx_burst = packet_rx_burst,
    .tx_burst = packet_tx_burst,
    .lost = packet_lost,
};
