/*
 * DPDK's environment (eal.h). Traps and figures: DATAPATH.md, "Frames in shared memory under DPDK", "Start-up of
 * nicio".
 *
 * No hugepages, no files in /var/run: --no-huge --no-shconf. The RX pool has its objects inline in the shared slots: 64
 * bytes of mempool header, 128 of mbuf, 128 of headroom, 3776 of data. The engine could scribble over the mbuf part, so
 * nothing is believed of it: a slot that comes home gets its mbuf written anew.
 */
#include "eal.h"

#include "base/log.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_mempool.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EAL_ARGS_MAX  48
#define EAL_HDR       sizeof(struct rte_mempool_objhdr)
#define EAL_ELT       (ABI_SLOT_SIZE - 64u)
#define EAL_TX_MBUFS  2047u
#define EAL_CACHE     256u
#define EAL_TSC_SLEEP 100000000L /* ns: what get_tsc_freq sleeps to calibrate */
#define EAL_TSC_SHORT 5000000L

_Static_assert(EAL_HDR <= 64, "mempool header");
_Static_assert(RTE_PKTMBUF_HEADROOM == 128, "headroom");
_Static_assert(sizeof(struct rte_mbuf) == 128, "mbuf");
_Static_assert(64 + sizeof(struct rte_mbuf) + RTE_PKTMBUF_HEADROOM == ABI_SLOT_HEAD, "abi/frame.h names this");

struct eal eal;
static int eal_started;

int __real_nanosleep(const struct timespec *req, struct timespec *rem);
int __wrap_nanosleep(const struct timespec *req, struct timespec *rem);

/** Linked in with --wrap: EAL sleeps 100 ms to learn the TSC's frequency, which nobody here asks for. */
int __wrap_nanosleep(const struct timespec *req, struct timespec *rem) {
  struct timespec t = *req;
  if (!eal_started && t.tv_sec == 0 && t.tv_nsec == EAL_TSC_SLEEP)
    t.tv_nsec = EAL_TSC_SHORT;
  return __real_nanosleep(&t, rem);
}

static int eal_init_args(const char *args) {
  static char text[2048];
  char *argv[EAL_ARGS_MAX], *save = NULL;
  static char base[][24] = {"hs-nicio", "--no-huge", "--no-shconf", "--no-telemetry", "--iova-mode=va"};
  int argc = 0;
  char def_mem[] = "-m", def_mb[] = "256", core[] = "--lcores", core0[] = "0@0", quiet[] = "--log-level=lib.*:4";

  for (size_t i = 0; i < sizeof base / sizeof base[0]; i++)
    argv[argc++] = base[i];
  if (strstr(args, "-m ") == NULL) {
    argv[argc++] = def_mem;
    argv[argc++] = def_mb;
  }
  if (strstr(args, "-l ") == NULL && strstr(args, "--lcores") == NULL && strstr(args, "-c ") == NULL) {
    argv[argc++] = core;
    argv[argc++] = core0;
  }
  argv[argc++] = quiet;
  (void)snprintf(text, sizeof text, "%s", args);
  for (char *w = strtok_r(text, " \t", &save); w != NULL && argc < EAL_ARGS_MAX - 1; w = strtok_r(NULL, " \t", &save))
    argv[argc++] = w;
  argv[argc] = NULL;
  int rc = rte_eal_init(argc, argv);
  eal_started = 1;
  return rc < 0 ? -rte_errno : 0;
}

/** An mbuf object as rte_pktmbuf_init leaves it. */
static void eal_mbuf_reset(struct rte_mbuf *m) {
  m->buf_addr = (uint8_t *)m + sizeof *m;
  m->buf_iova = (rte_iova_t)(uintptr_t)m->buf_addr;
  m->buf_len = (uint16_t)(EAL_ELT - sizeof *m);
  m->data_off = RTE_PKTMBUF_HEADROOM;
  m->pool = eal.rx;
  m->priv_size = 0;
  m->next = NULL;
  m->nb_segs = 1;
  m->port = RTE_MBUF_PORT_INVALID;
  m->ol_flags = 0;
  m->packet_type = 0;
  rte_mbuf_refcnt_set(m, 1);
}

void eal_home(void *ctx, uint32_t slot) {
  struct rte_mbuf *m = (struct rte_mbuf *)(void *)(eal.slots + (uint64_t)slot * ABI_SLOT_SIZE + 64);

  (void)ctx;
  eal_mbuf_reset(m);
  rte_mempool_put(eal.rx, m);
}

/** The shared RX slots as a pool. */
static int eal_rx_pool(void) {
  struct rte_pktmbuf_pool_private priv = {.mbuf_data_room_size = EAL_ELT - sizeof(struct rte_mbuf)};
  struct rte_mempool *mp = rte_mempool_create_empty("hs_rx", eal.n_eth, EAL_ELT, EAL_CACHE, sizeof priv, SOCKET_ID_ANY,
                                                    RTE_MEMPOOL_F_NO_IOVA_CONTIG | RTE_MEMPOOL_F_NO_SPREAD);
  if (mp == NULL)
    return -rte_errno;
  eal.rx = mp;
  rte_pktmbuf_pool_init(mp, &priv);
  uint64_t len = (uint64_t)eal.n_eth * ABI_SLOT_SIZE;
  int n = rte_mempool_populate_iova(mp, (char *)eal.slots, (rte_iova_t)(uintptr_t)eal.slots, len, NULL, NULL);
  if (n < 0)
    return n;
  if ((uint32_t)n != eal.n_eth || mp->header_size != 64) {
    log_error("nicio.eal", "pool over %u slots took %d, header %u", eal.n_eth, n, mp->header_size);
    return -EINVAL;
  }
  rte_mempool_obj_iter(mp, rte_pktmbuf_init, NULL);
  return 0;
}

int eal_start(const char *args, const struct frame_seg *fs, uint32_t n_eth) {
  cpu_set_t cpus;

  log_set_name("nicio");
  CPU_ZERO(&cpus);
  int have = sched_getaffinity(0, sizeof cpus, &cpus) == 0;
  int rc = eal_init_args(args);
  if (rc < 0)
    return rc;
  if (have) /* EAL pins its caller */
    (void)sched_setaffinity(0, sizeof cpus, &cpus);
  eal.fs = fs;
  eal.n_eth = n_eth;
  eal.slots = fs->seg->base + fs->geom.rx_off;
  rc = eal_rx_pool();
  if (rc < 0) {
    log_error("nicio.eal", "RX pool over the packet segment: %s", err_text(rc));
    return rc;
  }
  eal.tx =
      rte_pktmbuf_pool_create("hs_tx", EAL_TX_MBUFS, EAL_CACHE, 0, EAL_TX_ROOM + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
  return eal.tx == NULL ? -rte_errno : 0;
}

void eal_stop(void) {
  (void)rte_eal_cleanup();
}
