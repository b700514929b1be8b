/*
 * Skeleton of a service: from argv to a running loop with a control socket, and back.
 *
 * Called by main() of nicio, engine, broker and api on their main threads. The lock on RUN_DIR/NAME.pid is a flock, so
 * it goes with the process however that dies; the file itself stays.
 */
#include "svc/svc.h"

#include "abi/seg.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "control.pb-c.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SVC_CONFIG_DEFAULT "/etc/hoststack/hoststack.yaml"

struct svc_args {
  const char *config, *run_dir, *level;
};

static void svc_usage(const char *name, FILE *f) {
  fprintf(f,
          "usage: hs-%s [-c FILE] [-r DIR] [-l LEVEL] [--version] [--help]\n"
          "  -c FILE   configuration, default " SVC_CONFIG_DEFAULT "\n"
          "  -r DIR    run dir (sockets, pid file), overrides the file's run-dir\n"
          "  -l LEVEL  error, warn, info or debug, overrides the file's log-level\n",
          name);
}

/** 0 go on, 1 done, -EINVAL. */
static int svc_parse(const char *name, int argc, char **argv, struct svc_args *a) {
  static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                        {"run-dir", required_argument, NULL, 'r'},
                                        {"log-level", required_argument, NULL, 'l'},
                                        {"version", no_argument, NULL, 'V'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  int o;
  optind = 1;
  while ((o = getopt_long(argc, argv, "c:r:l:Vh", longs, NULL)) != -1) {
    switch (o) {
    case 'c':
      a->config = optarg;
      break;
    case 'r':
      a->run_dir = optarg;
      break;
    case 'l':
      a->level = optarg;
      break;
    case 'V':
      printf("hs-%s %s, ABI %d.%d\n", name, HS_VERSION, ABI_MAJOR, ABI_MINOR);
      return 1;
    case 'h':
      svc_usage(name, stdout);
      return 1;
    default:
      svc_usage(name, stderr);
      return -EINVAL;
    }
  }
  if (optind < argc) {
    fprintf(stderr, "hs-%s: unexpected argument %s\n", name, argv[optind]);
    return -EINVAL;
  }
  return 0;
}

static int svc_configure(struct svc *s, const struct svc_args *a) {
  static char err[8192];
  int rc = config_load(&s->cfg, a->config, err, sizeof err);
  if (rc < 0) {
    fprintf(stderr, "%s", err);
    return rc;
  }
  if (a->run_dir != NULL) {
    rc = a->run_dir[0] == '/' ? config_set_run_dir(&s->cfg, a->run_dir) : -EINVAL;
    if (rc < 0) {
      fprintf(stderr, "hs-%s: -r %s: found no absolute path of at most 79 bytes\n", s->name, a->run_dir);
      return rc;
    }
  }
  int level = log_level_parse(a->level != NULL ? a->level : s->cfg.log_level);
  if (level < 0) {
    fprintf(stderr, "hs-%s: -l %s: allowed error, warn, info, debug\n", s->name, a->level);
    return level;
  }
  log_set_level((enum log_level)level);
  return 0;
}

/** Folders of the run dir, 0755. */
static int svc_mkdirs(const char *dir) {
  char path[sizeof((struct config *)0)->run_dir + 2];
  snprintf(path, sizeof path, "%s/", dir);
  for (char *p = path + 1; *p != '\0'; p++) {
    if (*p != '/')
      continue;
    *p = '\0';
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
      return err_last();
    *p = '/';
  }
  return 0;
}

static int svc_lock(struct svc *s) {
  char path[160], text[24];
  int fd = open(svc_path(s, ".pid", path, sizeof path), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0)
    return err_last();
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
    int rc = errno == EWOULDBLOCK ? -EEXIST : err_last();
    close(fd);
    return rc;
  }
  int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
  if (ftruncate(fd, 0) < 0 || write(fd, text, (size_t)n) != n) {
    int rc = err_last();
    close(fd);
    return rc;
  }
  s->lock_fd = fd;
  return 0;
}

static void svc_process(const char *name) {
  struct rlimit rl;
  char comm[16];
  signal(SIGPIPE, SIG_IGN);
  snprintf(comm, sizeof comm, "hs-%s", name);
  prctl(PR_SET_NAME, comm);
  if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
  }
}

static void svc_on_rpc(void *ctx, int fd, uint32_t events) {
  struct svc *s = ctx;
  (void)fd;
  (void)events;
  rpc_server_run(s->rpc);
}

static int svc_control(struct svc *s, rpc_handler handler, void *ctx) {
  char path[160], url[176];
  int rc = rpc_server_new(&s->rpc, handler, ctx);
  if (rc < 0)
    return rc;
  snprintf(url, sizeof url, "ipc://%s", svc_path(s, ".ctl", path, sizeof path));
  rc = rpc_server_listen(s->rpc, url);
  if (rc < 0)
    return rc;
  return loop_add_fd(s->loop, rpc_server_fd(s->rpc), EPOLLIN, svc_on_rpc, s);
}

int svc_start(struct svc *s, const char *name, int argc, char **argv, rpc_handler handler, void *ctx) {
  struct svc_args args = {.config = SVC_CONFIG_DEFAULT};
  const char *what = "configuration";
  memset(s, 0, sizeof *s);
  s->name = name;
  s->lock_fd = -1;
  s->started_at = clock_now_us();
  log_set_name(name);
  int rc = svc_parse(name, argc, argv, &args);
  if (rc != 0)
    return rc;
  rc = svc_configure(s, &args);
  if (rc < 0)
    goto out;
  svc_process(name);
  what = "run dir";
  rc = svc_mkdirs(s->cfg.run_dir);
  if (rc < 0)
    goto out;
  what = "lock (is another instance running?)";
  rc = svc_lock(s);
  if (rc < 0)
    goto out;
  what = "loop";
  rc = loop_new(&s->loop);
  if (rc < 0)
    goto out;
  what = "control socket";
  rc = svc_control(s, handler, ctx);
  if (rc < 0)
    goto out;
  log_info("svc.start", "version %s, ABI %d.%d, run dir %s, pid %d", HS_VERSION, ABI_MAJOR, ABI_MINOR, s->cfg.run_dir,
           (int)getpid());
  return 0;
out:
  log_error("svc.start", "%s: %s: %s", what, s->cfg.run_dir[0] != '\0' ? s->cfg.run_dir : args.config, err_text(rc));
  svc_stop(s);
  return rc;
}

void svc_ready(struct svc *s) {
  const char *text = getenv("HS_READY_FD");
  s->ready = 1;
  log_info("svc.ready", "after %llu ms", (unsigned long long)((clock_now_us() - s->started_at) / CLOCK_US_PER_MS));
  if (text == NULL)
    return;
  char *end;
  long fd = strtol(text, &end, 10);
  if (*end != '\0' || fd < 3 || fd > 1 << 20)
    return;
  if (write((int)fd, "R\n", 2) != 2)
    log_warn("svc.ready", "HS_READY_FD=%ld: %s", fd, err_text(err_last()));
  close((int)fd);
  unsetenv("HS_READY_FD");
}

void svc_stop(struct svc *s) {
  if (s->rpc != NULL)
    loop_del_fd(s->loop, rpc_server_fd(s->rpc));
  rpc_server_free(s->rpc);
  loop_free(s->loop);
  if (s->lock_fd >= 0)
    close(s->lock_fd);
  s->rpc = NULL;
  s->loop = NULL;
  s->lock_fd = -1;
}

const char *svc_path(const struct svc *s, const char *file, char *buf, size_t len) {
  if (file[0] == '.') /* of this service */
    snprintf(buf, len, "%s/%s%s", s->cfg.run_dir, s->name, file);
  else
    snprintf(buf, len, "%s/%s", s->cfg.run_dir, file);
  return buf;
}

int svc_pack_reply(const struct Hoststack__Control__Reply *r, uint8_t **reply, size_t *reply_len) {
  size_t len = hoststack__control__reply__get_packed_size(r);
  uint8_t *buf = malloc(len > 0 ? len : 1);
  if (buf == NULL)
    return -ENOMEM;
  *reply_len = hoststack__control__reply__pack(r, buf);
  *reply = buf;
  return 0;
}

int svc_error_reply(int err, const char *text, uint8_t **reply, size_t *reply_len) {
  Hoststack__Control__Reply r = HOSTSTACK__CONTROL__REPLY__INIT;
  r.rc = err < 0 ? -err : err;
  r.text = (char *)(uintptr_t)(text != NULL ? text : err_text(err));
  return svc_pack_reply(&r, reply, reply_len);
}

int svc_version_reply(const struct svc *s, uint32_t epoch, uint8_t **reply, size_t *reply_len) {
  Hoststack__Control__ServiceVersion v = HOSTSTACK__CONTROL__SERVICE_VERSION__INIT;
  Hoststack__Control__ServiceVersion *list[] = {&v};
  Hoststack__Control__Versions vs = HOSTSTACK__CONTROL__VERSIONS__INIT;
  Hoststack__Control__Reply r = HOSTSTACK__CONTROL__REPLY__INIT;
  v.service = (char *)(uintptr_t)s->name;
  v.version = (char *)(uintptr_t)HS_VERSION;
  v.pid = (uint32_t)getpid();
  v.up_ms = (clock_now_us() - s->started_at) / CLOCK_US_PER_MS;
  v.abi_major = ABI_MAJOR;
  v.abi_minor = ABI_MINOR;
  v.epoch = epoch;
  v.serving = s->ready;
  vs.n_service = 1;
  vs.service = list;
  r.body_case = HOSTSTACK__CONTROL__REPLY__BODY_VERSIONS;
  r.versions = &vs;
  return svc_pack_reply(&r, reply, reply_len);
}
