/*
 * Supervised services, see child.h. Called by `hsctl up` and `hsctl run`, one thread.
 */
#include "child.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_STEADY_US 1000000u /* one that lived this long starts again at once */

static int child_try(struct child *c, const char *dir, const char *sub) {
  int n = snprintf(c->bin, sizeof c->bin, "%s/%shs-%s", dir, sub, c->service);
  return n > 0 && (size_t)n < sizeof c->bin && access(c->bin, X_OK) == 0;
}

int child_init(struct child *c, const char *service) {
  char self[256];
  *c = (struct child){.service = service, .pidfd = -1, .ready_fd = -1};
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  if (n <= 0)
    return -errno;
  self[n] = '\0';
  char *slash = strrchr(self, '/');
  if (!slash)
    return -ENOENT;
  *slash = '\0';
  char sub[64];
  snprintf(sub, sizeof sub, "../%s/", service); /* build tree: services/ctl/hsctl, services/NAME/hs-NAME */
  if (child_try(c, self, "") || child_try(c, self, "../sbin/") || child_try(c, self, sub))
    return 0;
  return -ENOENT;
}

pid_t child_running(const char *run_dir, const char *name) {
  char path[200], text[24] = "";
  snprintf(path, sizeof path, "%s/%s.pid", run_dir, name);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return 0;
  int free_lock = flock(fd, LOCK_EX | LOCK_NB) == 0;
  ssize_t n = free_lock ? 0 : read(fd, text, sizeof text - 1);
  close(fd);
  return n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

static int pidfd_open_(pid_t pid) {
  return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void child_exec(const struct child *c, const struct hsctl *h, int ready) {
  char fd_text[16], name[64];
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid(); /* the supervisor's terminal and death are not the service's */
  snprintf(fd_text, sizeof fd_text, "%d", ready);
  setenv("HS_READY_FD", fd_text, 1);
  fcntl(ready, F_SETFD, 0);
  snprintf(name, sizeof name, "hs-%s", c->service);
  char *argv[] = {name, "-c", (char *)(uintptr_t)h->config, h->run_dir ? "-r" : NULL, (char *)(uintptr_t)h->run_dir,
                  NULL};
  execv(c->bin, argv);
  fprintf(stderr, "hsctl: cannot start %s: %s\n", c->bin, strerror(errno));
  _exit(127);
}

int child_start(struct child *c, const struct hsctl *h) {
  int pipefd[2];
  c->again_at = 0;
  pid_t running = child_running(hsctl_run_dir(h), c->service);
  if (running) {
    c->pidfd = pidfd_open_(running);
    if (c->pidfd < 0)
      return -errno;
    c->pid = running;
    c->adopted = c->up = 1;
    c->started_at = clock_now_us();
    log_info("supervisor.adopted", "%s pid %d was running", c->service, (int)running);
    return 0;
  }
  if (pipe2(pipefd, O_CLOEXEC))
    return -errno;
  pid_t pid = fork();
  if (pid == 0)
    child_exec(c, h, pipefd[1]);
  close(pipefd[1]);
  if (pid < 0) {
    close(pipefd[0]);
    return -errno;
  }
  c->pid = pid;
  c->adopted = c->up = 0;
  c->ready_fd = pipefd[0];
  c->pidfd = pidfd_open_(pid);
  c->started_at = clock_now_us();
  return c->pidfd < 0 ? -errno : 0;
}

void child_died(struct child *c) {
  int status = 0;
  if (!c->adopted)
    (void)waitpid(c->pid, &status, WNOHANG);
  int steady = clock_now_us() - c->started_at > CHILD_STEADY_US;
  c->deaths = steady ? 1 : c->deaths + 1;
  usec_t pause = c->deaths < 4 ? 0 : c->deaths < 14 ? (c->deaths - 3) * 100000u : 1000000u;
  c->again_at = clock_now_us() + pause;
  if (WIFSIGNALED(status))
    log_warn("supervisor.died", "%s pid %d: signal %d", c->service, (int)c->pid, WTERMSIG(status));
  else
    log_warn("supervisor.died", "%s pid %d: exit status %d", c->service, (int)c->pid, WEXITSTATUS(status));
  close(c->pidfd);
  if (c->ready_fd >= 0)
    close(c->ready_fd);
  c->pid = 0;
  c->pidfd = c->ready_fd = -1;
  c->up = 0;
}

void child_stop(struct child *c, int wait_ms) {
  struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
  if (c->pid == 0)
    return;
  (void)syscall(SYS_pidfd_send_signal, c->pidfd, SIGTERM, NULL, 0);
  if (poll(&p, 1, wait_ms) == 0) {
    (void)syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
    (void)poll(&p, 1, 2000);
  }
  if (!c->adopted)
    (void)waitpid(c->pid, NULL, WNOHANG);
  close(c->pidfd);
  c->pid = 0;
  c->pidfd = -1;
}
