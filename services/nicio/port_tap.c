/*
 * Kernel port on a tap that nicio makes: IFF_VNET_HDR and TUNSETOFFLOAD, so that the kernel hands over and takes GSO
 * frames with unfinished checksums (Linux tuntap.rst). One read or write per frame.
 *
 * The tap lives as long as its descriptor, and that is kept by the broker over our death. Its own MAC belongs to the
 * kernel's end of the wire; ours is the configured one or follows from the port's name. Open and link: control thread;
 * bursts: lcore.
 */
#include "netif.h"
#include "port.h"
#include "rxmsg.h"

#include "base/bits.h"
#include "base/log.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct tap {
  int fd;
  struct rxmsg rx;
};

static int tap_ioctl(int fd, unsigned long what, void *arg, const char *name) {
  if (ioctl(fd, what, arg) == 0)
    return 0;
  int rc = err_last();
  log_error("nicio.tap", "%s: %s", name, err_text(rc));
  return rc;
}

/** Whether a descriptor out of the vault is this tap. */
static int tap_fits(int fd, const char *device) {
  struct ifreq ifr;

  memset(&ifr, 0, sizeof ifr);
  return ioctl(fd, TUNGETIFF, &ifr) == 0 && strncmp(ifr.ifr_name, device, IFNAMSIZ) == 0 &&
         (ifr.ifr_flags & IFF_VNET_HDR);
}

static int tap_make(const char *device) {
  int hdr = sizeof(struct virtio_net_hdr);
  unsigned long offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  struct ifreq ifr;
  int rc, fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

  if (fd < 0) {
    rc = err_last();
    log_error("nicio.tap", "/dev/net/tun: %s", err_text(rc));
    return rc;
  }
  memset(&ifr, 0, sizeof ifr);
  (void)snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%.*s", IFNAMSIZ - 1, device);
  ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if ((rc = tap_ioctl(fd, TUNSETIFF, &ifr, "TUNSETIFF")) < 0 ||
      (rc = tap_ioctl(fd, TUNSETVNETHDRSZ, &hdr, "TUNSETVNETHDRSZ")) < 0)
    goto out;
  if (ioctl(fd, TUNSETOFFLOAD, offload) < 0) {
    rc = err_last();
    log_error("nicio.tap", "TUNSETOFFLOAD: %s", err_text(rc));
    goto out;
  }
  return fd;
out:
  close(fd);
  return rc;
}

static int tap_open(struct port *p, const struct config_port *cfg, int vault_fd) {
  int rc, fd = -1, taken = 0;

  if (strlen(p->device) >= IFNAMSIZ) {
    rc = -ENAMETOOLONG;
    goto out;
  }
  if (vault_fd >= 0 && tap_fits(vault_fd, p->device)) {
    fd = vault_fd;
    vault_fd = -1;
    taken = 1;
  } else if ((fd = tap_make(p->device)) < 0) {
    rc = fd;
    goto out;
  }
  if ((cfg->mtu != 0 && (rc = netif_set_mtu(p->device, cfg->mtu)) < 0) || (rc = netif_set_up(p->device)) < 0)
    goto out_fd;
  struct tap *k = calloc(1, sizeof *k);
  if (k == NULL) {
    rc = -ENOMEM;
    goto out_fd;
  }
  k->fd = fd;
  rxmsg_init(&k->rx);
  if (!p->mac_set)
    memcpy(p->mac, p->mac_derived, 6);
  p->mac_set = 1;
  port_kernel_set(p, k, fd);
  return taken;
out_fd:
  close(fd);
out:
  if (vault_fd >= 0)
    close(vault_fd);
  return rc;
}

static void tap_close(struct port *p) {
  struct tap *k = p->priv;

  if (k == NULL)
    return;
  rxmsg_fini(p, &k->rx);
  port_kernel_unset(p);
}

static int tap_link(struct port *p, struct port_link *out) {
  struct netif nif;
  int rc = port_kernel_link(p, &nif, out);

  if (rc == 0)
    memcpy(out->mac, p->mac, 6); /* the tap's own is the kernel's end */
  return rc;
}

static uint32_t tap_rx_burst(struct port *p, struct abi_frame_desc *d, uint32_t max) {
  struct tap *k = p->priv;
  uint32_t n = 0;

  p->rx_empty = 0;
  for (uint32_t i = 0; i < PORT_RX_FRAMES && max - n >= RXMSG_SLOTS; i++) {
    if (!rxmsg_arm(p, &k->rx)) {
      p->rx_empty = p->rx_starved = 1; /* it stays in the tap's queue */
      break;
    }
    ssize_t got = readv(k->fd, k->rx.iov, RXMSG_SLOTS + 1);
    if (got < 0) {
      p->rx_empty = 1;
      if (errno != EAGAIN && errno != EINTR)
        port_count(p, ABI_PC_RX_ERROR, 1);
      break;
    }
    n += rxmsg_deliver(p, &k->rx, (uint32_t)got, d + n);
  }
  return n;
}

static uint32_t tap_tx_burst(struct port *p, const struct pkt *pk, uint32_t n) {
  struct tap *k = p->priv;
  struct virtio_net_hdr vnet;
  struct iovec iov[PKT_IOV_MAX + 1];

  p->tx_full = p->tx_no_wake = 0;
  iov[0] = (struct iovec){.iov_base = &vnet, .iov_len = sizeof vnet};
  for (uint32_t i = 0; i < n; i++) {
    vnet_out(&vnet, &pk[i]);
    memcpy(&iov[1], pk[i].iov, pk[i].n * sizeof iov[0]);
    ssize_t sent = writev(k->fd, iov, pk[i].n + 1);
    if (sent >= 0) {
      port_count(p, ABI_PC_TX_FRAMES, 1);
      port_count(p, ABI_PC_TX_BYTES, pk[i].len);
      continue;
    }
    if (errno == EAGAIN || errno == EINTR) {
      p->tx_full = 1;
      port_count(p, ABI_PC_TX_FULL, 1);
      return i;
    }
    port_count(p, errno == EIO || errno == ENETDOWN ? ABI_PC_TX_DROP_DOWN : ABI_PC_TX_ERROR, 1);
  }
  return n;
}

const struct port_ops port_tap_ops = {
    .name = "tap",
    .open = tap_open,
    .close = tap_close,
    .link = tap_link,
    .rx_burst = tap_rx_burst,
    .tx_burst = tap_tx_burst,
};
