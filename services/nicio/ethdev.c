/*
 * Loading of the ethdev module (ethdev.h). Control thread.
 */
#include "ethdev.h"

#include "base/log.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#ifndef ETHDEV_DIR
#define ETHDEV_DIR "/usr/lib/hoststack"
#endif

static void *ethdev_handle;
static const struct ethdev_module *ethdev_mod;

static uint32_t ethdev_count(const struct config *cfg) {
  uint32_t n = 0;

  for (uint32_t i = 0; i < cfg->n_ports; i++)
    n += cfg->port[i].kind == PORT_KIND_ETHDEV;
  return n;
}

int ethdev_slots(const struct config *cfg, const struct frame_seg *fs, uint32_t *n_eth) {
  uint32_t eth = ethdev_count(cfg);
  uint64_t n_rx = fs->geom.n_rx;

  /* one eighth stays in stock for the impairment stage; with kernel ports beside it, one half */
  *n_eth = eth == 0 ? 0 : (uint32_t)(eth == cfg->n_ports ? n_rx - n_rx / 8 : n_rx / 2);
  return 0;
}

/** Beside the program first (a build tree), then where it was installed. */
static void *ethdev_load(void) {
  char self[PATH_MAX], path[PATH_MAX + 64];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

  if (n > 0) {
    self[n] = '\0';
    (void)snprintf(path, sizeof path, "%s/%s", dirname(self), ETHDEV_MODULE);
    if (access(path, R_OK) == 0)
      return dlopen(path, RTLD_NOW | RTLD_LOCAL);
  }
  return dlopen(ETHDEV_DIR "/" ETHDEV_MODULE, RTLD_NOW | RTLD_LOCAL);
}

/** EAL takes over every PCI device it knows unless told otherwise: only those that the configuration names. */
static void ethdev_args(const struct config *cfg, char *out, size_t room) {
  size_t at = (size_t)snprintf(out, room, "%s", cfg->eal_args);
  int pci = 0;

  for (uint32_t i = 0; i < cfg->n_ports && at < room; i++) {
    const struct config_port *p = &cfg->port[i];
    if (p->kind != PORT_KIND_ETHDEV || !ethdev_is_pci(p->device))
      continue;
    at += (size_t)snprintf(out + at, room - at, " -a %s", p->device);
    pci = 1;
  }
  if (!pci && at < room)
    (void)snprintf(out + at, room - at, " --no-pci");
}

int ethdev_start(const struct config *cfg, const struct frame_seg *fs, struct slots *slots) {
  char args[2048];

  if (ethdev_count(cfg) == 0)
    return 0;
  ethdev_handle = ethdev_load();
  if (ethdev_handle == NULL) {
    log_error("nicio.ethdev", "%s", dlerror());
    return -ENOENT;
  }
  ethdev_mod = dlsym(ethdev_handle, "ethdev_module");
  if (ethdev_mod == NULL || ethdev_mod->abi != ETHDEV_ABI) {
    log_error("nicio.ethdev", "%s is of another version", ETHDEV_MODULE);
    ethdev_mod = NULL;
    return -EPROTO;
  }
  ethdev_args(cfg, args, sizeof args);
  int rc = ethdev_mod->start(args, fs, slots->n_eth);
  if (rc < 0) {
    log_error("nicio.ethdev", "EAL did not start: %s", err_text(rc));
    return rc;
  }
  slots_set_eth(slots, ethdev_mod->home, NULL);
  return 0;
}

int ethdev_open(struct port *p, const struct config_port *cfg) {
  if (ethdev_mod == NULL)
    return -ENODEV;
  p->ops = ethdev_mod->ops;
  return p->ops->open(p, cfg, -1);
}

void ethdev_stop(void) {
  if (ethdev_mod != NULL)
    ethdev_mod->stop();
  ethdev_mod = NULL; /* the module stays loaded: DPDK's threads may still be on their way out */
}
