/*
 * Doubles of broker and engine around a real hs-nicio (nicio_rig.h).
 */
#include "nicio_rig.h"

#include "abi/registry.h"
#include "abi/worker.h"
#include "base/bits.h"
#include "base/clock.h"
#include "ctl/attach.h"
#include "ctl/rpc.h"
#include "custody.pb-c.h"
#include "shm/bell.h"
#include "shm/session.h"
#include "shm/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef Hoststack__Custody__Message cmsg;

int rig_may(void) {
  return geteuid() == 0 && access("/dev/net/tun", R_OK | W_OK) == 0;
}

int rig_run(const char *const argv[]) {
  pid_t pid;
  int st;

  if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ) != 0)
    return -1;
  while (waitpid(pid, &st, 0) < 0)
    if (errno != EINTR)
      return -1;
  return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

int rig_veth(const char *k, const char *s, const char *cidr) {
  const char *const add[] = {"ip", "link", "add", k, "type", "veth", "peer", "name", s, NULL};
  const char *const addr[] = {"ip", "addr", "add", cidr, "dev", k, NULL};
  const char *const upk[] = {"ip", "link", "set", k, "up", NULL};
  const char *const ups[] = {"ip", "link", "set", s, "up", NULL};

  return rig_run(add) || rig_run(addr) || rig_run(upk) || rig_run(ups) ? -1 : 0;
}

/* --- broker --- */

static int rig_say(int fd, const cmsg *m, int with) {
  uint8_t buf[4096];
  size_t n = hoststack__custody__message__pack(m, buf);

  return attach_send(fd, buf, n, &with, with >= 0 ? 1 : 0);
}

static int rig_give(int fd, const struct rig_item *it) {
  cmsg m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  Hoststack__Custody__Give g = HOSTSTACK__CUSTODY__GIVE__INIT;
  Hoststack__Custody__Item i = HOSTSTACK__CUSTODY__ITEM__INIT;

  i.id = it->id;
  i.kind = it->kind;
  i.seg_kind = it->seg_kind;
  i.owner = it->owner;
  g.item = &i;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_GIVE;
  m.give = &g;
  return rig_say(fd, &m, it->fd);
}

static void rig_give_all(struct rig *r, int fd) {
  cmsg m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  Hoststack__Custody__Ready ready = HOSTSTACK__CUSTODY__READY__INIT;

  pthread_mutex_lock(&r->lock);
  for (uint32_t i = 0; i < r->n_items; i++)
    if (rig_give(fd, &r->item[i]) == 0)
      r->gives++;
  r->hellos++;
  pthread_mutex_unlock(&r->lock);
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_READY;
  m.ready = &ready;
  (void)rig_say(fd, &m, -1);
}

static void rig_on_deposit(struct rig *r, int conn, const Hoststack__Custody__Item *it, int fd) {
  pthread_mutex_lock(&r->lock);
  struct rig_item *slot = &r->item[r->n_items++];
  *slot = (struct rig_item){.id = 1000 + r->n_items, .kind = it->kind, .owner = it->owner, .fd = fd};
  (void)rig_give(conn, slot);
  r->deposits++;
  pthread_mutex_unlock(&r->lock);
}

static void rig_welcome(int fd) {
  cmsg m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  Hoststack__Custody__Welcome w = HOSTSTACK__CUSTODY__WELCOME__INIT;

  w.broker_epoch = 1;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_WELCOME;
  m.welcome = &w;
  (void)rig_say(fd, &m, -1);
}

/** 0 when the connection is gone. */
static int rig_on_message(struct rig *r, int conn) {
  static uint8_t buf[ATTACH_MSG_MAX];
  int fds[ATTACH_FDS_MAX], n_fds = 0;
  ssize_t n = attach_recv(conn, buf, sizeof buf, fds, ATTACH_FDS_MAX, &n_fds);

  if (n == -EAGAIN)
    return 1;
  if (n <= 0)
    return 0;
  cmsg *m = hoststack__custody__message__unpack(NULL, (size_t)n, buf);
  if (m == NULL)
    return 0;
  if (m->body_case == HOSTSTACK__CUSTODY__MESSAGE__BODY_HELLO) {
    rig_welcome(conn);
    rig_give_all(r, conn);
  } else if (m->body_case == HOSTSTACK__CUSTODY__MESSAGE__BODY_DEPOSIT && n_fds == 1) {
    rig_on_deposit(r, conn, m->deposit->item, fds[0]);
  }
  hoststack__custody__message__free_unpacked(m, NULL);
  return 1;
}

static void rig_tell_drop(struct rig *r, int conn) {
  cmsg m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  Hoststack__Custody__Drop d = HOSTSTACK__CUSTODY__DROP__INIT;

  pthread_mutex_lock(&r->lock);
  uint64_t id = r->drop_id;
  r->drop_id = 0;
  pthread_mutex_unlock(&r->lock);
  if (id == 0 || conn < 0)
    return;
  d.n_id = 1;
  d.id = &id;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_DROP;
  m.drop = &d;
  (void)rig_say(conn, &m, -1);
}

static void *rig_broker(void *arg) {
  struct rig *r = arg;
  int conn = -1;

  for (;;) {
    struct pollfd p[3] = {
        {.fd = r->wake[0], .events = POLLIN}, {.fd = r->listen_fd, .events = POLLIN}, {.fd = conn, .events = POLLIN}};
    char c;
    if (poll(p, 3, -1) < 0 && errno != EINTR)
      break;
    if (p[0].revents) {
      if (read(r->wake[0], &c, 1) != 1 || c == 'q')
        break;
      rig_tell_drop(r, conn);
    }
    if (p[1].revents) {
      int fd = attach_accept(r->listen_fd);
      if (fd >= 0 && conn >= 0)
        close(conn);
      conn = fd >= 0 ? fd : conn;
      continue;
    }
    if (p[2].revents && !rig_on_message(r, conn)) {
      close(conn);
      conn = -1;
    }
  }
  if (conn >= 0)
    close(conn);
  return NULL;
}

/* --- set-up --- */

static void rig_add(struct rig *r, uint64_t id, uint32_t kind, uint32_t seg_kind, uint64_t owner, int fd) {
  r->item[r->n_items++] =
      (struct rig_item){.id = id, .kind = kind, .seg_kind = seg_kind, .owner = owner, .fd = dup(fd)};
}

static int rig_segments(struct rig *r, uint32_t n_rx, uint32_t n_tx) {
  struct abi_packet_geom pg;
  struct abi_worker_geom wg;
  struct abi_stats_geom sg;
  uint64_t geom[16];
  const char *why;
  int rc;

  uint64_t size = frame_geom_make(&pg, 1, n_rx, n_tx);
  memcpy(geom, &pg, sizeof geom);
  if ((rc = seg_create(&r->packet, "rig-packet", ABI_SEG_PACKET, 11, size, geom)) < 0 ||
      (rc = frame_seg_open(&r->fs, &r->packet, &why)) < 0)
    return rc;
  size = worker_geom_make(&wg, ABI_SEG_APP, 77, 7, 64, 1, 4 * ABI_CHUNK_MAX);
  r->app_arena = wg.arena_off;
  memcpy(geom, &wg, sizeof geom);
  if ((rc = seg_create(&r->app, "rig-app", ABI_SEG_APP, 22, size, geom)) < 0)
    return rc;
  size = stats_geom_make(&sg);
  memcpy(geom, &sg, sizeof geom);
  if ((rc = seg_create(&r->stats, "rig-stats", ABI_SEG_STATS, 33, size, geom)) < 0)
    return rc;
  r->bell[0] = bell_doorbell();
  r->bell[1] = bell_doorbell();
  rig_add(r, 11, ABI_ITEM_SEG, ABI_SEG_PACKET, 0, r->packet.fd);
  rig_add(r, 22, ABI_ITEM_SEG, ABI_SEG_APP, 77, r->app.fd);
  rig_add(r, 33, ABI_ITEM_SEG, ABI_SEG_STATS, 1, r->stats.fd);
  rig_add(r, 44, ABI_ITEM_LINK_BELL, 0, 0, r->bell[0]);
  rig_add(r, 45, ABI_ITEM_LINK_BELL, 0, 1, r->bell[1]);
  return 0;
}

int rig_open(struct rig *r, uint32_t n_rx, uint32_t n_tx) {
  char path[96];
  int rc;

  memset(r, 0, sizeof *r);
  r->packet.fd = r->app.fd = r->stats.fd = -1;
  pthread_mutex_init(&r->lock, NULL);
  if (unshare(CLONE_NEWNET) < 0)
    return -errno;
  (void)snprintf(r->dir, sizeof r->dir, "/tmp/hs-nicio-rig-XXXXXX");
  if (mkdtemp(r->dir) == NULL)
    return -errno;
  (void)snprintf(r->config, sizeof r->config, "%s/hoststack.yaml", r->dir);
  (void)snprintf(path, sizeof path, "%s/custody", r->dir);
  if ((rc = rig_segments(r, n_rx, n_tx)) < 0)
    return rc;
  r->listen_fd = attach_listen(path, 0600, 4);
  if (r->listen_fd < 0)
    return r->listen_fd;
  if (pipe2(r->wake, O_CLOEXEC) < 0)
    return -errno;
  rc = pthread_create(&r->thread, NULL, rig_broker, r);
  return rc == 0 ? rig_engine_open(r) : -rc;
}

int rig_config(struct rig *r, const char *nicio, const char *interfaces) {
  FILE *f = fopen(r->config, "w");

  if (f == NULL)
    return -errno;
  fprintf(f, "run-dir: %s\nnicio:\n%s  interfaces:\n%s", r->dir, nicio, interfaces);
  return fclose(f) == 0 ? 0 : -errno;
}

int rig_spawn(struct rig *r) {
  char prog[] = HS_NICIO_BIN, opt[] = "-c";
  char *argv[] = {prog, opt, r->config, NULL};

  r->pid = fork();
  if (r->pid == 0) { /* it must not outlive a test that aborts */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execv(prog, argv);
    _exit(127);
  }
  return r->pid < 0 ? -errno : 0;
}

static int rig_reap(struct rig *r, int sig) {
  int st = 0;

  if (r->pid <= 0)
    return -1;
  kill(r->pid, sig);
  while (waitpid(r->pid, &st, 0) < 0 && errno == EINTR)
    ;
  r->pid = 0;
  return WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st);
}

void rig_kill(struct rig *r) {
  (void)rig_reap(r, SIGKILL);
}

int rig_term(struct rig *r) {
  return rig_reap(r, SIGTERM);
}

int rig_wait(struct rig *r) {
  return rig_reap(r, 0);
}

void rig_close(struct rig *r) {
  const char *const rm[] = {"rm", "-rf", r->dir, NULL};

  rig_kill(r);
  if (write(r->wake[1], "q", 1) == 1)
    pthread_join(r->thread, NULL);
  for (uint32_t i = 0; i < r->n_items; i++)
    close(r->item[i].fd);
  close(r->listen_fd);
  close(r->wake[0]);
  close(r->wake[1]);
  close(r->bell[0]);
  close(r->bell[1]);
  seg_detach(&r->packet);
  seg_detach(&r->app);
  seg_detach(&r->stats);
  if (strncmp(r->dir, "/tmp/hs-nicio-rig-", 18) == 0)
    (void)rig_run(rm);
  pthread_mutex_destroy(&r->lock);
}

/* --- engine --- */

int rig_engine_open(struct rig *r) {
  int rc = frame_link_open(&r->link, &r->fs, 0, FRAME_ENGINE);

  r->n_tx_free = 0;
  memset(r->tx_out, 0, sizeof r->tx_out);
  bell_ring_service(r->bell[0]);
  return rc;
}

static void rig_tx_all_free(struct rig *r) {
  r->n_tx_free = 0;
  for (uint32_t i = 0; i < r->fs.geom.n_tx && i < ARRAY_LEN(r->tx_free); i++)
    r->tx_free[r->n_tx_free++] = i;
  memset(r->tx_out, 0, sizeof r->tx_out);
}

static void rig_take_home(struct rig *r) {
  uint32_t slots[64];
  int n;

  while ((n = frame_done_take(&r->link, slots, ARRAY_LEN(slots))) > 0) {
    for (int i = 0; i < n; i++) {
      if (slots[i] >= r->fs.geom.n_tx || !r->tx_out[slots[i]])
        abort(); /* a TX slot came home twice, or was never out */
      r->tx_out[slots[i]] = 0;
      r->tx_free[r->n_tx_free++] = slots[i];
    }
  }
}

uint32_t rig_turn(struct rig *r, rig_frame_fn fn, void *ctx) {
  static uint8_t flat[70000];
  struct abi_frame_desc d[64];
  uint32_t seen = 0;

  switch (frame_link_poll(&r->link)) {
  case FRAME_PEER_NEW:
    frame_link_ack(&r->link);
    bell_ring_service(r->bell[0]);
    break;
  case FRAME_CAME_UP:
    rig_tx_all_free(r);
    break;
  case FRAME_SAME:
    break;
  }
  rig_take_home(r);
  int n = frame_take(&r->link, d, ARRAY_LEN(d));
  for (int at = 0; at < n;) {
    uint32_t len = 0;
    int first = at;
    for (;; at++) {
      memcpy(flat + len, r->packet.base + d[at].off, d[at].len);
      len += d[at].len;
      if (!r->held_rx)
        frame_done_push(&r->link, d[at].slot);
      r->rx_descs++;
      if (!(d[at].flags & ABI_FR_CHAIN))
        break;
    }
    at++;
    seen++;
    r->rx_frames++;
    if (fn != NULL)
      fn(r, ctx, &d[first], flat, len);
  }
  if (frame_flush(&r->link))
    bell_ring_service(r->bell[0]);
  return seen;
}

int rig_until(struct rig *r, rig_frame_fn fn, void *ctx, int (*cond)(struct rig *r, void *ctx), int ms) {
  usec_t end = clock_now_us() + (usec_t)ms * 1000;

  do {
    rig_turn(r, fn, ctx);
    if (cond(r, ctx))
      return 1;
    sched_yield();
  } while (clock_now_us() < end);
  return 0;
}

int rig_send(struct rig *r, const uint8_t *frame, uint32_t len, uint32_t head, int from_app,
             const struct abi_frame_desc *like) {
  struct abi_frame_desc d[RIG_TX_PER_FRAME];
  uint32_t n = 0;

  memset(d, 0, sizeof d);
  for (uint32_t off = 0; off < len; n++) {
    uint32_t take = HS_MIN(len - off, n == 0 ? head : from_app ? 60000u : ABI_SLOT_SIZE);
    if (n > 0 && from_app) {
      memcpy(r->app.base + r->app_arena + off, frame + off, take);
      d[n].region = (uint32_t)r->app.id;
      d[n].off = r->app_arena + off;
      d[n].slot = ABI_SEG_NONE;
      d[n].flags = ABI_FR_NO_SLOT;
    } else {
      if (r->n_tx_free == 0)
        return -ENOSPC;
      d[n].slot = r->tx_free[--r->n_tx_free];
      r->tx_out[d[n].slot] = 1;
      d[n].off = frame_tx_off(&r->fs, d[n].slot);
      memcpy(r->packet.base + d[n].off, frame + off, take);
    }
    d[n].len = take;
    off += take;
    if (off < len)
      d[n].flags |= ABI_FR_CHAIN;
  }
  if (like != NULL) {
    d[0].flags |= like->flags & (uint16_t) ~(ABI_FR_CHAIN | ABI_FR_NO_SLOT);
    d[0].gso_size = like->gso_size;
    d[0].csum_start = like->csum_start;
    d[0].csum_off = like->csum_off;
    d[0].port = like->port;
  }
  if (frame_room(&r->link) < n)
    return -ENOSPC;
  frame_push(&r->link, d, n);
  return 0;
}

int rig_control(struct rig *r, const uint8_t *req, size_t len, uint8_t **reply, size_t *reply_len) {
  struct rpc_client *c;
  char url[128];

  (void)snprintf(url, sizeof url, "ipc://%s/nicio.ctl", r->dir);
  int rc = rpc_client_new(&c, url);
  if (rc < 0)
    return rc;
  rc = rpc_client_call(c, req, len, reply, reply_len, RIG_WAIT_MS);
  rpc_client_free(c);
  return rc;
}
