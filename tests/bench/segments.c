/*
 * Bulk between two programs that are written against libvppcom, for the cut-through figures of tests/bench.
 *
 *   segments serve ADDRESS PORT copy|segments            takes all that comes, one connection after the other
 *   segments send ADDRESS PORT SECONDS copy|segments     sends as fast as it can
 *
 * copy: vppcom_session_read and _write, by way of a buffer of each program; segments: read_segments, which hands out
 * the bytes where they lie, and write_segments. `send` prints one JSON line: what was taken by the end, by the sender's
 * clock.
 */
#include "bench.h"
#include "vppcom.h"

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define BLOCK (256u * 1024u)

static uint8_t block[BLOCK];

static void die(const char *what, int rc) {
  fprintf(stderr, "segments: %s: %s\n", what, vppcom_retval_str(rc));
  exit(1);
}

static uint32_t session(void) {
  int rc = vppcom_app_create("segments");
  if (rc != 0)
    die("attach", rc);
  rc = vppcom_session_create(VPPCOM_PROTO_TCP, 0);
  if (rc < 0)
    die("session", rc);
  return (uint32_t)rc;
}

static vppcom_endpt_t endpoint(char **argv, struct in_addr *a) {
  vppcom_endpt_t ep = {
      .is_ip4 = VPPCOM_IS_IP4, .ip = (uint8_t *)a, .port = htons((uint16_t)bench_number(argv[3], 1, 65535))};
  if (inet_pton(AF_INET, argv[2], a) != 1)
    die("address", VPPCOM_EINVAL);
  return ep;
}

/** Until the end of one connection. Bytes. */
static uint64_t take_all(uint32_t h, int segments) {
  vppcom_data_segment_t ds[16];
  uint64_t total = 0;
  for (;;) {
    int rc = segments ? vppcom_session_read_segments(h, ds, 16, BLOCK) : vppcom_session_read(h, block, BLOCK);
    if (rc <= 0)
      return total;
    total += (uint64_t)rc;
    if (segments)
      vppcom_session_free_segments(h, (uint32_t)rc);
  }
}

static void serve(char **argv) {
  struct in_addr a;
  uint32_t l = session();
  vppcom_endpt_t ep = endpoint(argv, &a);
  int rc = vppcom_session_bind(l, &ep);
  if (rc == 0)
    rc = vppcom_session_listen(l, 16);
  if (rc != 0)
    die("listen", rc);
  for (;;) {
    rc = vppcom_session_accept(l, NULL, 0);
    if (rc < 0)
      die("accept", rc);
    uint64_t total = take_all((uint32_t)rc, strcmp(argv[4], "segments") == 0);
    (void)vppcom_session_write((uint32_t)rc, &total, sizeof total);
    (void)vppcom_session_close((uint32_t)rc);
  }
}

static void send_all(char **argv) {
  struct in_addr a;
  uint32_t h = session();
  vppcom_endpt_t ep = endpoint(argv, &a);
  vppcom_data_segment_t ds = {.data = block, .len = BLOCK};
  int segments = strcmp(argv[5], "segments") == 0, rc = vppcom_session_connect(h, &ep);
  if (rc != 0)
    die("connect", rc);
  uint64_t start = bench_now_ns(), end = start + bench_number(argv[4], 1, 1000) * BENCH_NS, total = 0, sent = 0;
  while (bench_now_ns() < end) {
    rc = segments ? vppcom_session_write_segments(h, &ds, 1) : vppcom_session_write(h, block, BLOCK);
    if (rc < 0)
      die("write", rc);
    sent += (uint64_t)rc;
  }
  rc = vppcom_session_shutdown(h, SHUT_WR);
  if (rc == 0)
    rc = vppcom_session_read(h, &total, sizeof total);
  if (rc != (int)sizeof total || total != sent)
    die("not all arrived", rc);
  printf("{\"bytes\": %llu, \"gbit\": %.3f}\n", (unsigned long long)total,
         (double)total * 8 / (double)(bench_now_ns() - start));
  (void)vppcom_session_close(h);
}

int main(int argc, char **argv) {
  if (argc == 5 && strcmp(argv[1], "serve") == 0)
    serve(argv);
  else if (argc == 6 && strcmp(argv[1], "send") == 0)
    send_all(argv);
  else
    return 2;
  vppcom_app_destroy();
  return 0;
}
