/*
 * What all kinds of ports share (port.h): set-up from the configuration, the page in shared memory, and
 * what the two kernel kinds do alike. Control thread.
 */
#include "port.h"

#include "base/bits.h"
#include "base/fault.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void port_init(struct port *p, uint32_t index, const struct config *all, const struct frame_seg *fs,
               struct slots *slots) {
  const struct config_port *cfg = &all->port[index];
  static const uint8_t none[6];

  memset(p, 0, sizeof *p);
  p->fs = fs;
  p->slots = slots;
  p->index = (uint8_t)index;
  p->kind = (uint8_t)cfg->kind;
  p->fd = -1;
  p->count = fs->pkt->port[index].counters;
  (void)snprintf(p->name, sizeof p->name, "%s", cfg->name);
  (void)snprintf(p->device, sizeof p->device, "%s", cfg->device);
  p->mac_set = memcmp(cfg->mac, none, 6) != 0;
  memcpy(p->mac, cfg->mac, 6);
  netif_mac_derive(all->run_dir, p->name, p->device, p->mac_derived);
}

void port_publish(struct port *p) {
  struct abi_port *s = &p->fs->pkt->port[p->index];
  uint32_t gen = __atomic_load_n(&s->gen, __ATOMIC_RELAXED) | 1u;

  __atomic_store_n(&s->gen, gen, __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  FAULT_POINT("nicio.port");
  s->up = p->up;
  s->mtu = p->mtu;
  s->caps = p->caps;
  s->speed_mbps = p->speed_mbps;
  memcpy(s->mac, p->mac, 6);
  memcpy(s->name, p->name, sizeof s->name);
  s->kind = p->kind;
  s->used = 1;
  FAULT_POINT("nicio.port.gen");
  __atomic_store_n(&s->gen, gen + 1, __ATOMIC_RELEASE);
}

int port_refresh(struct port *p) {
  struct port_link l;

  if (p->ops->link(p, &l) < 0) {
    l = (struct port_link){.up = 0, .mtu = p->mtu, .speed_mbps = p->speed_mbps};
    memcpy(l.mac, p->mac, 6);
  }
  if (p->mac_set)
    memcpy(l.mac, p->mac, 6);
  if (l.up == p->up && l.mtu == p->mtu && l.speed_mbps == p->speed_mbps && memcmp(l.mac, p->mac, 6) == 0)
    return 0;
  if (l.up != p->up)
    log_info("nicio.link", "%s is %s", p->name, l.up ? "up" : "down");
  __atomic_store_n(&p->up, (uint8_t)l.up, __ATOMIC_RELAXED);
  p->mtu = l.mtu;
  p->speed_mbps = l.speed_mbps;
  memcpy(p->mac, l.mac, 6);
  port_publish(p);
  return 1;
}

void port_kernel_set(struct port *p, void *priv, int fd) {
  p->priv = priv;
  p->fd = fd;
  p->fds[0] = fd;
  p->n_fds = 1;
  p->caps = ABI_PORT_CSUM_TX | ABI_PORT_TSO | ABI_PORT_FIFO_TX | ABI_PORT_RX_MERGED;
  (void)port_refresh(p);
}

void port_kernel_unset(struct port *p) {
  close(p->fd);
  free(p->priv);
  p->priv = NULL;
  p->fd = -1;
  p->n_fds = 0;
}

int port_kernel_link(const struct port *p, struct netif *nif, struct port_link *out) {
  int rc = netif_get(p->device, nif);
  if (rc < 0)
    return rc;
  *out = (struct port_link){.up = nif->up, .mtu = nif->mtu, .speed_mbps = nif->speed_mbps};
  memcpy(out->mac, nif->mac, 6);
  return 0;
}
