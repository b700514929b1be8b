/*
 * Two programs of one machine that exchange datagrams, for the cut-through figures of tests/bench: natively on the
 * kernel's loopback or under the preload shim on the stack's own address.
 *
 *   dgrams serve ADDRESS PORT echo|count poll|sleep   echoes them, or counts them; one byte asks for the count so far,
 *                                                     which begins anew then
 *   dgrams ask ADDRESS PORT SIZE SECONDS poll|sleep   ping-pong; one that is lost is sent again, and told of
 *   dgrams flood ADDRESS PORT SIZE SECONDS            as many as will go; how many arrived is what counts
 *
 * poll: recv never sleeps; sleep: blocking calls. Prints one JSON line.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define LOST_NS (BENCH_NS / 5) /* no answer for so long: it was dropped */

static uint8_t buf[65536];

static struct sockaddr_in address(char **argv) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)bench_number(argv[3], 1, 65535))};
  if (inet_pton(AF_INET, argv[2], &a.sin_addr) != 1)
    bench_die("address");
  return a;
}

static void serve(char **argv) {
  struct sockaddr_in a = address(argv), from;
  int echo = strcmp(argv[4], "echo") == 0, flags = strcmp(argv[5], "poll") == 0 ? MSG_DONTWAIT : 0;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  uint64_t n = 0;
  if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
    bench_die("bind");
  puts("up");
  (void)fflush(stdout);
  for (;;) {
    socklen_t len = sizeof(from);
    ssize_t k = recvfrom(fd, buf, sizeof(buf), flags, (struct sockaddr *)&from, &len);
    if (k < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
      bench_die("recvfrom");
    if (k == 1)
      (void)sendto(fd, &n, sizeof(n), 0, (struct sockaddr *)&from, len);
    else if (k > 0 && echo)
      (void)sendto(fd, buf, (size_t)k, 0, (struct sockaddr *)&from, len);
    n = k == 1 ? 0 : n + (k > 0);
  }
}

/** An answer of n bytes. 0: lost. */
static int take(int fd, void *to, size_t n, int flags) {
  uint64_t start = bench_now_ns();
  for (;;) {
    ssize_t k = recv(fd, to, n, flags);
    if (k == (ssize_t)n)
      return 1;
    if (k < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
      bench_die("recv");
    if (bench_now_ns() - start >= LOST_NS)
      return 0;
  }
}

/** How many arrived since it was asked last. */
static uint64_t arrived(int fd) {
  uint64_t n = 0;
  for (int i = 0; i < 50; i++)
    if (send(fd, "?", 1, 0) == 1 && take(fd, &n, sizeof(n), 0))
      return n;
  bench_die("nobody counts");
  return 0;
}

/** Connected while the server waits: who connects earlier stays with the engine. */
static int dial(char **argv) {
  struct sockaddr_in a = address(argv);
  struct timeval wait = {.tv_usec = LOST_NS / 1000};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
    bench_die("connect");
  for (uint64_t start = bench_now_ns(); bench_now_ns() - start < BENCH_NS / 10;)
    (void)arrived(fd);
  if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
    bench_die("connect");
  return fd;
}

static void ask(char **argv) {
  size_t size = (size_t)bench_number(argv[4], 1, sizeof(buf));
  uint64_t seconds = bench_number(argv[5], 1, 1000), lost = 0;
  int flags = strcmp(argv[6], "poll") == 0 ? MSG_DONTWAIT : 0, fd = dial(argv);
  struct bench_times times;
  bench_times_init(&times);
  uint64_t start = bench_now_ns(), last = start, now = start;
  while (now - start < seconds * BENCH_NS) {
    if (send(fd, buf, size, 0) != (ssize_t)size)
      bench_die("send");
    int got = take(fd, buf, size, flags);
    now = bench_now_ns();
    if (got)
      bench_times_add(&times, now - last);
    else
      lost++;
    last = now;
  }
  bench_times_sort(&times);
  printf("{\"requests\": %llu, \"lost\": %llu, \"p50_us\": %.3f, \"p99_us\": %.3f}\n", (unsigned long long)times.n,
         (unsigned long long)lost, bench_times_us(&times, 50), bench_times_us(&times, 99));
}

static void flood(char **argv) {
  size_t size = (size_t)bench_number(argv[4], 1, sizeof(buf));
  uint64_t seconds = bench_number(argv[5], 1, 1000), sent = 0;
  int fd = dial(argv);
  (void)arrived(fd);
  uint64_t start = bench_now_ns(), now = start;
  for (; now - start < seconds * BENCH_NS; now = bench_now_ns())
    for (int i = 0; i < 32; i++)
      sent += send(fd, buf, size, 0) == (ssize_t)size;
  uint64_t got = arrived(fd);
  printf("{\"sent\": %llu, \"arrived\": %llu, \"rate\": %.0f}\n", (unsigned long long)sent, (unsigned long long)got,
         (double)got * 1e9 / (double)(now - start));
}

int main(int argc, char **argv) {
  if (argc == 6 && strcmp(argv[1], "serve") == 0)
    serve(argv);
  else if (argc == 7 && strcmp(argv[1], "ask") == 0)
    ask(argv);
  else if (argc == 6 && strcmp(argv[1], "flood") == 0)
    flood(argv);
  else
    return 2;
  return 0;
}
