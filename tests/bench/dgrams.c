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
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#define SAMPLES_MAX (1u << 22)
#define NS          1000000000ull
#define LOST_NS     (NS / 5) /* no answer for so long: it was dropped */

static uint8_t buf[65536];
static uint32_t *sample;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t number(const char *text, uint64_t max) {
  char *end;
  uint64_t v = strtoull(text, &end, 10);
  if (*end != '\0' || v == 0 || v > max)
    die(text);
  return v;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in address(char **argv) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number(argv[3], 65535))};
  if (inet_pton(AF_INET, argv[2], &a.sin_addr) != 1)
    die("address");
  return a;
}

static void serve(char **argv) {
  struct sockaddr_in a = address(argv), from;
  int echo = strcmp(argv[4], "echo") == 0, flags = strcmp(argv[5], "poll") == 0 ? MSG_DONTWAIT : 0;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  uint64_t n = 0;
  if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
    die("bind");
  puts("up");
  (void)fflush(stdout);
  for (;;) {
    socklen_t len = sizeof(from);
    ssize_t k = recvfrom(fd, buf, sizeof(buf), flags, (struct sockaddr *)&from, &len);
    if (k < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
      die("recvfrom");
    if (k == 1)
      (void)sendto(fd, &n, sizeof(n), 0, (struct sockaddr *)&from, len);
    else if (k > 0 && echo)
      (void)sendto(fd, buf, (size_t)k, 0, (struct sockaddr *)&from, len);
    n = k == 1 ? 0 : n + (k > 0);
  }
}

/** An answer of n bytes. 0: lost. */
static int take(int fd, void *to, size_t n, int flags) {
  uint64_t start = now_ns();
  for (;;) {
    ssize_t k = recv(fd, to, n, flags);
    if (k == (ssize_t)n)
      return 1;
    if (k < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
      die("recv");
    if (now_ns() - start >= LOST_NS)
      return 0;
  }
}

/** How many arrived since it was asked last. */
static uint64_t arrived(int fd) {
  uint64_t n = 0;
  for (int i = 0; i < 50; i++)
    if (send(fd, "?", 1, 0) == 1 && take(fd, &n, sizeof(n), 0))
      return n;
  die("nobody counts");
  return 0;
}

/** Connected while the server waits: who connects earlier stays with the engine. */
static int dial(char **argv) {
  struct sockaddr_in a = address(argv);
  struct timeval wait = {.tv_usec = LOST_NS / 1000};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
    die("connect");
  for (uint64_t start = now_ns(); now_ns() - start < NS / 10;)
    (void)arrived(fd);
  if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
    die("connect");
  return fd;
}

static int by_size(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void ask(char **argv) {
  size_t size = (size_t)number(argv[4], sizeof(buf));
  uint64_t seconds = number(argv[5], 1000), n = 0, lost = 0;
  int flags = strcmp(argv[6], "poll") == 0 ? MSG_DONTWAIT : 0, fd = dial(argv);
  sample = calloc(SAMPLES_MAX, sizeof(*sample));
  if (sample == NULL)
    die("memory");
  uint64_t start = now_ns(), last = start, now = start;
  while (now - start < seconds * NS) {
    if (send(fd, buf, size, 0) != (ssize_t)size)
      die("send");
    int got = take(fd, buf, size, flags);
    now = now_ns();
    if (got)
      sample[n++ % SAMPLES_MAX] = (uint32_t)(now - last);
    else
      lost++;
    last = now;
  }
  uint32_t kept = (uint32_t)(n < SAMPLES_MAX ? n : SAMPLES_MAX);
  qsort(sample, kept, sizeof(*sample), by_size);
  printf("{\"requests\": %llu, \"lost\": %llu, \"p50_us\": %.3f, \"p99_us\": %.3f}\n", (unsigned long long)n,
         (unsigned long long)lost, sample[kept / 2] / 1e3, sample[kept / 100 * 99] / 1e3);
}

static void flood(char **argv) {
  size_t size = (size_t)number(argv[4], sizeof(buf));
  uint64_t seconds = number(argv[5], 1000), sent = 0;
  int fd = dial(argv);
  (void)arrived(fd);
  uint64_t start = now_ns(), now = start;
  for (; now - start < seconds * NS; now = now_ns())
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
