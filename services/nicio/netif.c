/*
 * Interfaces of the kernel (netif.h). Control thread.
 */
#include "netif.h"

#include "base/hash.h"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int netif_ioctl(const char *name, unsigned long what, struct ifreq *ifr) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return err_last();
  (void)snprintf(ifr->ifr_name, sizeof ifr->ifr_name, "%s", name);
  int rc = ioctl(fd, what, ifr) < 0 ? err_last() : 0;
  close(fd);
  return rc;
}

/** Mbit/s, 0 when the driver does not say. */
static uint32_t netif_speed(const char *name) {
  struct ethtool_cmd cmd = {.cmd = ETHTOOL_GSET};
  struct ifreq ifr;

  memset(&ifr, 0, sizeof ifr);
  ifr.ifr_data = (void *)&cmd;
  if (netif_ioctl(name, SIOCETHTOOL, &ifr) < 0)
    return 0;
  uint32_t speed = ethtool_cmd_speed(&cmd);
  return speed == (uint32_t)SPEED_UNKNOWN ? 0 : speed;
}

int netif_get(const char *name, struct netif *out) {
  struct ifreq ifr;

  memset(out, 0, sizeof *out);
  memset(&ifr, 0, sizeof ifr);
  int rc = netif_ioctl(name, SIOCGIFINDEX, &ifr);
  if (rc < 0)
    return rc;
  out->index = ifr.ifr_ifindex;
  rc = netif_ioctl(name, SIOCGIFFLAGS, &ifr);
  if (rc < 0)
    return rc;
  out->up = (ifr.ifr_flags & IFF_UP) && (ifr.ifr_flags & IFF_RUNNING);
  rc = netif_ioctl(name, SIOCGIFMTU, &ifr);
  if (rc < 0)
    return rc;
  out->mtu = (uint32_t)ifr.ifr_mtu;
  rc = netif_ioctl(name, SIOCGIFHWADDR, &ifr);
  if (rc < 0)
    return rc;
  memcpy(out->mac, ifr.ifr_hwaddr.sa_data, 6);
  out->speed_mbps = netif_speed(name);
  return 0;
}

int netif_set_up(const char *name) {
  struct ifreq ifr;

  memset(&ifr, 0, sizeof ifr);
  int rc = netif_ioctl(name, SIOCGIFFLAGS, &ifr);
  if (rc < 0 || (ifr.ifr_flags & IFF_UP))
    return rc;
  ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
  return netif_ioctl(name, SIOCSIFFLAGS, &ifr);
}

int netif_set_mtu(const char *name, uint32_t mtu) {
  struct ifreq ifr;

  memset(&ifr, 0, sizeof ifr);
  ifr.ifr_mtu = (int)mtu;
  return netif_ioctl(name, SIOCSIFMTU, &ifr);
}

uint32_t netif_rx_queues(const char *name) {
  struct ethtool_channels ch = {.cmd = ETHTOOL_GCHANNELS};
  struct ifreq ifr;

  memset(&ifr, 0, sizeof ifr);
  ifr.ifr_data = (void *)&ch;
  if (netif_ioctl(name, SIOCETHTOOL, &ifr) < 0)
    return 1;
  uint32_t n = ch.rx_count + ch.combined_count;
  return n > 0 ? n : 1;
}

/** A small sysfs file. Bytes read, 0 when there is none. */
static size_t netif_sysfs_read(const char *path, char *buf, size_t room) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? 0 : read(fd, buf, room - 1);

  if (fd >= 0)
    close(fd);
  buf[n > 0 ? n : 0] = '\0';
  return n > 0 ? (size_t)n : 0;
}

int netif_watch(void) {
  struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

  if (fd < 0)
    return err_last();
  if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0) {
    int rc = err_last();
    close(fd);
    return rc;
  }
  return fd;
}

void netif_watch_drain(int fd) {
  char buf[8192];

  while (recv(fd, buf, sizeof buf, MSG_DONTWAIT) > 0)
    ;
}

void netif_mac_derive(const char *run_dir, const char *name, const char *device, uint8_t mac[6]) {
  static const uint8_t key[16] = "hoststack.port.";
  char text[512], machine[40], host[65] = "";

  (void)netif_sysfs_read("/etc/machine-id", machine, sizeof machine);
  (void)gethostname(host, sizeof host - 1);
  int n = snprintf(text, sizeof text, "%s|%s|%s|%s|%s", machine, host, run_dir, name, device);
  uint64_t h = hash_siphash24(key, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
  memcpy(mac, &h, 6);
  mac[0] = (uint8_t)((mac[0] & 0xfcu) | 0x02u);
}
