/*
 * hsctl up, down, run: the supervisor. It starts services, starts them again when they die, and takes running ones over
 * when it is started anew; its own death kills nobody.
 */
#include "base/clock.h"
#include "base/log.h"
#include "child.h"
#include "ctl/attach.h"
#include "hsctl.h"
#include "svc/config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UP_SERVICES 4
#define UP_WAIT_MS  15000 /* for all services to serve */
#define UP_DEATHS   8     /* ends at once this often: will not serve by waiting */
#define UP_STOP_MS  2000  /* for one to end by SIGTERM */

static const char *const up_order[UP_SERVICES] = {"broker", "nicio", "engine", "api"};

struct supervisor {
  const struct hsctl *h;
  struct child child[UP_SERVICES];
  int n;
  int signal_fd;
  int told;      /* readiness was passed on */
  int report_fd; /* towards the waiting `hsctl up`, -1 = none */
};

/* The lock of the supervisor in a run dir, said to the user if it is not to be had. A child inherits it. */
static int up_lock(const char *run_dir) {
  char path[200];
  (void)mkdir(run_dir, 0755); /* parents are made by the services; a failure shows in open */
  snprintf(path, sizeof path, "%s/up.pid", run_dir);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB)) {
    fprintf(stderr, "hsctl up: %s: %s\n", run_dir,
            fd >= 0 && errno == EWOULDBLOCK ? "a supervisor runs there already" : strerror(errno));
    if (fd >= 0)
      close(fd);
    return -1;
  }
  return fd;
}

static void up_lock_mine(int fd, const char *run_dir) {
  char text[24];
  int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
  if (ftruncate(fd, 0) || write(fd, text, (size_t)n) != n)
    log_warn("supervisor.pidfile", "%s/up.pid: %s", run_dir, strerror(errno));
}

/* A bad configuration is refused before anything starts. */
static int up_check_config(const struct hsctl *h) {
  static struct config cfg;
  static char err[8192];
  int rc = config_load(&cfg, h->config, err, sizeof err);
  if (rc)
    fprintf(stderr, "%s", err);
  return rc;
}

/* All services have been ended on purpose: programs that start now need not wait for a broker. */
static void up_forget_sockets(const struct hsctl *h) {
  static struct config cfg;
  static char err[8192];
  if (config_load(&cfg, h->config, err, sizeof err))
    return; /* nothing is lost but their second */
  attach_forget(cfg.attach);
  for (uint32_t i = 0; i < cfg.n_ns; i++)
    if (cfg.ns[i].attach[0] != '\0')
      attach_forget(cfg.ns[i].attach);
}

/* A service that ends again and again is told to the waiting `hsctl up`; it is tried on, as always. */
static void up_report_loop(struct supervisor *s) {
  for (int i = 0; i < s->n && s->report_fd >= 0; i++) {
    if (s->child[i].deaths < UP_DEATHS)
      continue;
    (void)!write(s->report_fd, s->child[i].service, strlen(s->child[i].service));
    close(s->report_fd);
    s->report_fd = -1;
  }
}

static void up_report(struct supervisor *s) {
  int up = 0;
  up_report_loop(s);
  for (int i = 0; i < s->n; i++)
    up += s->child[i].up;
  if (s->told || up < s->n)
    return;
  s->told = 1;
  log_info("supervisor.up", "%d services serve", s->n);
  if (s->report_fd >= 0) {
    (void)!write(s->report_fd, "1", 1);
    close(s->report_fd);
    s->report_fd = -1;
  }
}

static int up_timeout(struct supervisor *s) {
  usec_t now = clock_now_us(), next = UINT64_MAX;
  for (int i = 0; i < s->n; i++)
    if (s->child[i].pid == 0 && s->child[i].again_at < next)
      next = s->child[i].again_at;
  if (next == UINT64_MAX)
    return -1;
  return next <= now ? 0 : (int)((next - now) / 1000 + 1);
}

static void up_start_due(struct supervisor *s) {
  usec_t now = clock_now_us();
  for (int i = 0; i < s->n; i++) {
    struct child *c = &s->child[i];
    if (c->pid || c->again_at > now)
      continue;
    int rc = child_start(c, s->h);
    if (rc == 0)
      continue;
    log_error("supervisor.start", "%s: %s", c->service, strerror(-rc));
    c->again_at = now + 1000000;
  }
}

static void up_look(struct supervisor *s, const struct pollfd *p) {
  for (int i = 0; i < s->n; i++) {
    struct child *c = &s->child[i];
    char byte;
    if (c->ready_fd >= 0 && p[1 + s->n + i].revents) {
      c->up = read(c->ready_fd, &byte, 1) == 1;
      close(c->ready_fd);
      c->ready_fd = -1;
    }
    if (c->pid && p[1 + i].revents)
      child_died(c);
  }
}

/* Until SIGTERM or SIGINT: then stop all. SIGHUP and the terminal's end are not ours. */
static int up_loop(struct supervisor *s) {
  for (;;) {
    struct pollfd p[1 + 2 * UP_SERVICES];
    up_start_due(s);
    up_report(s);
    p[0] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
    for (int i = 0; i < s->n; i++) {
      p[1 + i] = (struct pollfd){.fd = s->child[i].pidfd, .events = POLLIN};
      p[1 + s->n + i] = (struct pollfd){.fd = s->child[i].ready_fd, .events = POLLIN};
    }
    if (poll(p, (nfds_t)(1 + 2 * s->n), up_timeout(s)) < 0 && errno != EINTR)
      return 1;
    if (p[0].revents)
      break;
    up_look(s, p);
  }
  log_info("supervisor.down", "stopping %d services", s->n);
  for (int i = s->n - 1; i >= 0; i--)
    child_stop(&s->child[i], UP_STOP_MS);
  if (s->n == UP_SERVICES)
    up_forget_sockets(s->h);
  return 0;
}

static int up_supervise(const struct hsctl *h, const char *const *services, int n, int report_fd) {
  struct supervisor s = {.h = h, .n = n, .report_fd = report_fd};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, NULL);
  signal(SIGHUP, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  s.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  for (int i = 0; i < n; i++) {
    if (child_init(&s.child[i], services[i]) == 0)
      continue;
    fprintf(stderr, "hsctl: cannot find the program hs-%s beside hsctl\n", services[i]);
    return 1;
  }
  int rc = up_loop(&s);
  close(s.signal_fd);
  return rc;
}

/* The waiting parent: 0 once the supervisor says that all serve. */
static int up_wait(int fd, const char *run_dir) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  char word[16];
  if (poll(&p, 1, UP_WAIT_MS) <= 0) {
    fprintf(stderr, "hsctl up: not all services serve after %d s; hsctl show version tells which, %s/log why\n",
            UP_WAIT_MS / 1000, run_dir);
    return 1;
  }
  ssize_t n = read(fd, word, sizeof word);
  if (n == 1)
    return 0;
  if (n > 1) {
    fprintf(stderr,
            "hsctl up: %.*s ends as soon as it starts, %d times so far; %s/log tells why\n"
            "hsctl up: the supervisor goes on trying; hsctl down ends it\n",
            (int)n, word, UP_DEATHS, run_dir);
    return 1;
  }
  fprintf(stderr, "hsctl up: the supervisor ended; its log is %s/log\n", run_dir);
  return 1;
}

/* A supervisor in the background lets go of the caller's terminal or pipe; its and the services' log goes to the run
 * dir.
 */
static void up_redirect(const char *run_dir) {
  char path[200];
  snprintf(path, sizeof path, "%s/log", run_dir);
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (null >= 0)
    dup2(null, 0);
  if (log >= 0) {
    dup2(log, 1);
    dup2(log, 2);
  }
}

/* Supervises until the end, in this process; report_fd as in struct supervisor. */
static int up_locked(const struct hsctl *h, int lock, int report_fd) {
  up_lock_mine(lock, hsctl_run_dir(h));
  if (report_fd >= 0)
    up_redirect(hsctl_run_dir(h));
  return up_supervise(h, up_order, UP_SERVICES, report_fd);
}

int cmd_up(const struct hsctl *h, int argc, char **argv) {
  int foreground = argc == 2 && (strcmp(argv[1], "--foreground") == 0 || strcmp(argv[1], "-f") == 0);
  int fds[2];
  log_set_name("hsctl");
  if (argc > 1 && !foreground) {
    fprintf(stderr, "usage: hsctl up [--foreground]\n");
    return 2;
  }
  if (up_check_config(h))
    return 1;
  int lock = up_lock(hsctl_run_dir(h));
  if (lock < 0)
    return 1;
  if (foreground)
    return up_locked(h, lock, -1);
  pid_t pid = pipe2(fds, O_CLOEXEC) ? -1 : fork();
  if (pid < 0) {
    fprintf(stderr, "hsctl up: %s\n", strerror(errno));
    return 1;
  }
  if (pid == 0) {
    setsid();
    close(fds[0]);
    _exit(up_locked(h, lock, fds[1]));
  }
  close(fds[1]);
  close(lock); /* the child has it */
  return up_wait(fds[0], hsctl_run_dir(h));
}

int cmd_run(const struct hsctl *h, int argc, char **argv) {
  log_set_name("hsctl");
  for (int i = 0; argc == 2 && i < UP_SERVICES; i++)
    if (strcmp(argv[1], up_order[i]) == 0)
      return up_check_config(h) ? 1 : up_supervise(h, &up_order[i], 1, -1);
  fprintf(stderr, "usage: hsctl run SERVICE, SERVICE one of broker, nicio, engine, api\n");
  return 2;
}

/* End one process by its lock: SIGTERM, SIGKILL when it does not go. 1 if it ran. */
static int down_one(const char *run_dir, const char *name) {
  pid_t pid = child_running(run_dir, name);
  if (pid == 0)
    return 0;
  struct child c = {.service = name, .pid = pid, .adopted = 1, .ready_fd = -1};
  c.pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (c.pidfd < 0)
    return 0;
  child_stop(&c, strcmp(name, "up") == 0 ? UP_STOP_MS * (UP_SERVICES + 1) : UP_STOP_MS);
  return 1;
}

int cmd_down(const struct hsctl *h, int argc, char **argv) {
  (void)argv;
  if (argc > 1) {
    fprintf(stderr, "hsctl down: takes no arguments\n");
    return 2;
  }
  const char *dir = hsctl_run_dir(h);
  int n = down_one(dir, "up");
  for (int i = UP_SERVICES - 1; i >= 0; i--)
    n += down_one(dir, up_order[i]);
  up_forget_sockets(h);
  if (n)
    printf("stopped\n");
  else
    printf("nothing ran in %s\n", dir);
  return 0;
}
