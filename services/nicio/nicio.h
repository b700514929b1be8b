/*
 * The service as a whole: what main.c sets up and ctl.c asks. Control thread; the lcore sees only its struct lcore.
 */
#ifndef NICIO_NICIO_H
#define NICIO_NICIO_H

#include "abi/stats.h"
#include "lcore.h"
#include "pcapng.h"
#include "port.h"
#include "region.h"
#include "svc/custody.h"
#include "svc/svc.h"

struct nicio {
  struct svc svc;
  struct custody *custody;
  struct seg packet, stats;
  struct abi_stats *page; /* in stats; NULL without */
  struct frame_seg fs;
  struct regions regions;
  struct lcore lcore;
  struct port port[ABI_PORTS_MAX];
  uint32_t n_ports;
  struct pcapng *capture[ABI_PORTS_MAX];
  struct config_impair impair[ABI_PORTS_MAX][2]; /* in force: rx, tx */
  int capture_timer;                             /* loop timer while files are written, 0 = none */
  int netif_fd;
  int begun;      /* the broker has said Ready once */
  int wait_timer; /* until the engine has confirmed our epoch; only with ethdevs */
  int running;    /* the lcore has been started */
  int failed;
};

/** Answers one control request (an rpc_handler; ctx is struct nicio). */
int ctl_handle(void *ctx, const uint8_t *req, size_t len, uint8_t **reply, size_t *reply_len);
/** Set or clear impairment of one direction (0 rx, 1 tx). 0 or -errno. */
int ctl_impair(struct nicio *n, uint32_t port, int dir, const struct config_impair *c);
/** Start a capture of one port into a new file, or stop it (path NULL). 0 or -errno. */
int ctl_capture(struct nicio *n, uint32_t port, const char *path, uint32_t snaplen, uint64_t max_bytes);
#define CTL_CAPTURE_US 10000u /* between looks at the capture rings, while there are any */

#endif
