/*
 * Any bytes as a configuration file: refused with terminated text, or accepted with values inside their ranges.
 */
#include "svc/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int cond) {
  if (!cond)
    abort();
}

static void check(const struct config *c) {
  need(c->n_ports <= CONFIG_PORTS_MAX && c->n_addrs <= CONFIG_ADDRS_MAX && c->n_routes <= CONFIG_ROUTES_MAX);
  need(c->n_ns <= CONFIG_NS_MAX && c->n_api_listen <= 4 && c->engine_workers >= 1 &&
       c->engine_workers <= CONFIG_ENGINE_WORKERS_MAX);
  need(c->run_dir[0] == '/' && strnlen(c->run_dir, sizeof c->run_dir) < sizeof c->run_dir);
  need(c->attach[0] == '/' && strnlen(c->attach, sizeof c->attach) < sizeof c->attach);
  need((c->rx_slots & (c->rx_slots - 1)) == 0 && c->rx_slots >= 256);
  need(c->port_lo <= c->port_hi && c->port_hi <= 65535);
  need(c->arena_bytes % (1u << 20) == 0 && c->arena_bytes >= c->rx_fifo_max);
  for (uint32_t i = 0; i < c->n_ports; i++)
    need(c->port[i].name[0] != '\0' && c->port[i].device[0] != '\0' && (c->port[i].kind == 1 || c->port[i].kind == 2));
  for (uint32_t i = 0; i < c->n_addrs; i++)
    need(c->addr[i].prefix <= (c->addr[i].family == 4 ? 32u : 128u));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct config c;
  char path[40], err[512];
  int fd = memfd_create("config", MFD_CLOEXEC);
  if (fd < 0 || size > 1u << 16) {
    close(fd);
    return 0;
  }
  need(write(fd, data, size) == (ssize_t)size);
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  memset(err, 'x', sizeof err);
  int rc = config_load(&c, path, err, sizeof err);
  need(memchr(err, '\0', sizeof err) != NULL);
  need((rc == 0) == (err[0] == '\0'));
  if (rc == 0)
    check(&c);
  close(fd);
  return 0;
}
