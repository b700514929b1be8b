/*
 * Two programs of one machine over one connection, for the cut-through figures of tests/bench: natively on the kernel's
 * loopback or under the preload shim on the stack's own address.
 *
 *   straight serve ADDRESS PORT SIZE poll|sleep     echoes messages of SIZE bytes, one connection after the other; a
 *                                                   connection that ends at once is only accepted and closed
 *   straight ask ADDRESS PORT SIZE SECONDS poll|sleep
 *   straight connect ADDRESS PORT SECONDS           connects and closes, over and over
 *
 * poll: recv never sleeps, both sides look again and again; sleep: blocking calls. Prints one JSON line.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
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
  bench_times_report(&times, now - start);
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
  else
    return 2;
  return 0;
}
