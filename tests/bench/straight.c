/*
 * Two programs of one machine over one connection, for the cut-through figures of tests/bench: natively on the kernel's
 * loopback or under the preload shim on the stack's own address.
 *
 *   straight serve ADDRESS PORT SIZE poll|sleep     echoes messages of SIZE bytes, one connection after the other; a
 *                                                   connection that ends at once is only accepted and closed
 *   straight ask ADDRESS PORT SIZE SECONDS poll|sleep
 *   straight connect ADDRESS PORT SECONDS           connects and closes, over and over
 *   straight wake SECONDS CORE CORE                 two processes, each pinned to its core, wake each other by eventfd
 * and do nothing else: what a sleep costs on this kernel
 *
 * poll: recv never sleeps, both sides look again and again; sleep: blocking calls. Prints one JSON line.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static uint8_t buf[65536];
static struct bench_times times;

/** A message of n bytes. 0 at the end of the connection. */
static int take(int fd, size_t n, int flags) {
  size_t got = 0;
  while (got < n) {
    ssize_t k = recv(fd, buf + got, n - got, flags);
    if (k < 0 && (errno == EAGAIN || errno == EINTR))
      continue;
    if (k <= 0)
      return 0;
    got += (size_t)k;
  }
  return 1;
}

static struct sockaddr_in address(char **argv) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)bench_number(argv[3], 1, 65535))};
  if (inet_pton(AF_INET, argv[2], &a.sin_addr) != 1)
    bench_die("address");
  return a;
}

static int dial(const struct sockaddr_in *a) {
  int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0)
    bench_die("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  return fd;
}

static void serve(char **argv) {
  struct sockaddr_in a = address(argv);
  size_t size = (size_t)bench_number(argv[4], 1, sizeof(buf));
  int flags = strcmp(argv[5], "poll") == 0 ? MSG_DONTWAIT : 0, one = 1;
  int l = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 512) < 0)
    bench_die("listen");
  for (;;) {
    int fd = accept(l, NULL, NULL);
    if (fd < 0)
      bench_die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    while (take(fd, size, flags))
      if (send(fd, buf, size, MSG_NOSIGNAL) != (ssize_t)size)
        break;
    close(fd);
  }
}

static void report(uint64_t ns) {
  bench_times_sort(&times);
  printf("{\"requests\": %llu, \"rate\": %.0f, \"p50_us\": %.3f, \"p99_us\": %.3f}\n", (unsigned long long)times.n,
         (double)times.n * 1e9 / (double)ns, bench_times_us(&times, 50), bench_times_us(&times, 99));
}

static void ask(char **argv) {
  struct sockaddr_in a = address(argv);
  size_t size = (size_t)bench_number(argv[4], 1, sizeof(buf));
  uint64_t seconds = bench_number(argv[5], 1, 1000);
  int flags = strcmp(argv[6], "poll") == 0 ? MSG_DONTWAIT : 0;
  int fd = dial(&a);
  uint64_t start = bench_now_ns(), last = start, now = start;
  bench_times_init(&times);
  while (now - start < seconds * BENCH_NS) {
    if (send(fd, buf, size, 0) != (ssize_t)size || !take(fd, size, flags))
      bench_die("ask");
    now = bench_now_ns();
    bench_times_add(&times, now - last);
    last = now;
  }
  report(now - start);
}

static void pin(const char *core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(bench_number(core, 0, CPU_SETSIZE - 1), &set);
  if (sched_setaffinity(0, sizeof(set), &set) < 0)
    bench_die("core");
}

static void bell(int fd, int ring) {
  uint64_t one = 1;
  if ((ring ? write(fd, &one, sizeof(one)) : read(fd, &one, sizeof(one))) != sizeof(one))
    bench_die("eventfd");
}

static void wake(char **argv) {
  int there = eventfd(0, EFD_CLOEXEC), back = eventfd(0, EFD_CLOEXEC);
  uint64_t seconds = bench_number(argv[2], 1, 1000);
  pid_t pid = there < 0 || back < 0 ? -1 : fork();
  if (pid < 0)
    bench_die("wake");
  pin(argv[pid == 0 ? 4 : 3]);
  if (pid == 0)
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (pid == 0) {
    bell(there, 0);
    bell(back, 1);
  }
  bench_times_init(&times);
  uint64_t start = bench_now_ns(), last = start, now = start;
  while (now - start < seconds * BENCH_NS) {
    bell(there, 1);
    bell(back, 0);
    now = bench_now_ns();
    bench_times_add(&times, now - last);
    last = now;
  }
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  report(now - start);
}

static void connects(char **argv) {
  struct sockaddr_in a = address(argv);
  struct linger reset = {1, 0}; /* the kernel would run out of ports: TIME_WAIT */
  uint64_t seconds = bench_number(argv[4], 1, 1000), n = 0, start = bench_now_ns(), now = start;
  for (; now - start < seconds * BENCH_NS; now = bench_now_ns(), n++) {
    int fd = dial(&a);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
  }
  printf("{\"connects\": %llu, \"rate\": %.0f}\n", (unsigned long long)n, (double)n * 1e9 / (double)(now - start));
}

int main(int argc, char **argv) {
  if (argc == 6 && strcmp(argv[1], "serve") == 0)
    serve(argv);
  else if (argc == 7 && strcmp(argv[1], "ask") == 0)
    ask(argv);
  else if (argc == 5 && strcmp(argv[1], "connect") == 0)
    connects(argv);
  else if (argc == 5 && strcmp(argv[1], "wake") == 0)
    wake(argv);
  else
    return 2;
  return 0;
}
