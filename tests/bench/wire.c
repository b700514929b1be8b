/*
 * wire: a line between two interfaces of the kernel, impaired both ways by nicio's stage (services/nicio/impair.h): the
 * path of `make bench-lossy`, the same for kernel - wire - kernel and stack - wire - kernel, since this kernel has no
 * netem.
 *
 *     wire IF-A IF-B [loss=PERCENT] [delay=µs] [jitter=µs] [rate=BIT/S] [queue=BYTES] [seed=N]
 *
 * AF_PACKET with vnet headers on both sides, so frames come in as large as the sender's offload makes them; they are
 * cut into wire packets, checksums finished, before anything else happens to them: loss is per packet. Each packet
 * leaves by itself. SIGTERM ends it; then it prints what passed. One thread, sleeps when nothing is due.
 */
#include "base/bits.h"
#include "base/clock.h"
#include "impair.h"
#include "vnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WIRE_BATCH  32u
#define WIRE_BUFFER (64 * 1024 * 1024)
#define WIRE_TICK   50u /* µs: what is due within it leaves together, or each packet would cost a wake-up */
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

/** What comes in at one end and leaves at the other. */
struct wire_way {
  int in, out;
  struct impair *impair;
  uint64_t frames, lost, sent, failed;
};

static volatile sig_atomic_t wire_stop;

static void wire_signal(int sig) {
  (void)sig;
  wire_stop = 1;
}

static void wire_die(const char *what) {
  perror(what);
  exit(1);
}

static int wire_open(const char *name) {
  struct sockaddr_ll a = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(name)};
  struct packet_mreq promisc = {.mr_ifindex = a.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
  static const int options[] = {PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, PACKET_QDISC_BYPASS};
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, size = WIRE_BUFFER;

  if (a.sll_ifindex == 0 || fd < 0)
    wire_die(name);
  for (uint32_t i = 0; i < ARRAY_LEN(options); i++)
    if (setsockopt(fd, SOL_PACKET, options[i], &one, sizeof one) < 0)
      wire_die("setsockopt");
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promisc, sizeof promisc) < 0 ||
      bind(fd, (struct sockaddr *)&a, sizeof a) < 0)
    wire_die(name);
  return fd;
}

/** A frame of `len` bytes and what its vnet header says of it, into the impairment. */
static void wire_put(struct wire_way *w, const struct virtio_net_hdr *v, uint8_t *data, uint32_t len, usec_t now) {
  struct abi_frame_desc d;
  struct pkt p;

  memset(&d, 0, sizeof d);
  w->frames++;
  if (len < PKT_LEN_MIN || vnet_in(v, &d, len) < 0) {
    w->failed++;
    return;
  }
  pkt_flat(&p, data, len);
  p.flags = d.flags;
  p.gso_size = d.gso_size;
  p.csum_start = d.csum_start;
  p.csum_off = d.csum_off;
  w->lost += impair_put(w->impair, &p, now);
}

/** Everything that waits at the entrance. */
static void wire_take(struct wire_way *w) {
  static uint8_t room[WIRE_BATCH][PKT_LEN_MAX];
  struct virtio_net_hdr vnet[WIRE_BATCH];
  struct iovec iov[WIRE_BATCH][2];
  struct mmsghdr msg[WIRE_BATCH];
  int got;

  memset(msg, 0, sizeof msg);
  for (uint32_t i = 0; i < WIRE_BATCH; i++) {
    iov[i][0] = (struct iovec){.iov_base = &vnet[i], .iov_len = sizeof vnet[i]};
    iov[i][1] = (struct iovec){.iov_base = room[i], .iov_len = sizeof room[i]};
    msg[i].msg_hdr.msg_iov = iov[i];
    msg[i].msg_hdr.msg_iovlen = 2;
  }
  do {
    got = recvmmsg(w->in, msg, WIRE_BATCH, MSG_DONTWAIT, NULL);
    usec_t now = clock_now_us();
    for (int i = 0; i < got; i++)
      if (msg[i].msg_len > sizeof vnet[i])
        wire_put(w, &vnet[i], room[i], msg[i].msg_len - (uint32_t)sizeof vnet[i], now);
  } while (got == (int)WIRE_BATCH);
}

/** Everything that is due, or will be within a tick, leaves. A device that is full waits for nobody: that is lost. */
static void wire_give(struct wire_way *w, usec_t now) {
  static uint8_t room[WIRE_BATCH][PKT_LEN_MAX];
  static struct virtio_net_hdr none;
  struct iovec iov[WIRE_BATCH][2];
  struct mmsghdr msg[WIRE_BATCH];
  struct pkt p;
  uint32_t n;

  do {
    memset(msg, 0, sizeof msg);
    for (n = 0; n < WIRE_BATCH && impair_peek(w->impair, &p, now); n++) {
      memcpy(room[n], p.iov[0].iov_base, p.len);
      iov[n][0] = (struct iovec){.iov_base = &none, .iov_len = sizeof none};
      iov[n][1] = (struct iovec){.iov_base = room[n], .iov_len = p.len};
      msg[n].msg_hdr.msg_iov = iov[n];
      msg[n].msg_hdr.msg_iovlen = 2;
      impair_pop(w->impair);
    }
    for (uint32_t done = 0; done < n;) {
      int sent = sendmmsg(w->out, msg + done, n - done, 0);
      if (sent <= 0) {
        w->failed++;
        done++;
        continue;
      }
      w->sent += (uint64_t)sent;
      done += (uint32_t)sent;
    }
  } while (n == WIRE_BATCH);
}

static int wire_option(struct config_impair *c, const char *arg) {
  char *end, *eq = strchr(arg, '=');
  if (eq == NULL)
    return -1;
  double v = strtod(eq + 1, &end);
  if (end == eq + 1 || *end != '\0' || !(v >= 0 && v <= 1e12))
    return -1;
  if (strncmp(arg, "loss=", 5) == 0)
    c->loss_percent = v;
  else if (strncmp(arg, "delay=", 6) == 0)
    c->delay_us = (uint32_t)v;
  else if (strncmp(arg, "jitter=", 7) == 0)
    c->jitter_us = (uint32_t)v;
  else if (strncmp(arg, "rate=", 5) == 0)
    c->rate_bps = (uint64_t)v;
  else if (strncmp(arg, "queue=", 6) == 0)
    c->queue_bytes = (uint64_t)v;
  else if (strncmp(arg, "seed=", 5) == 0)
    c->seed = (uint64_t)v;
  else
    return -1;
  return 0;
}

/** Sleep until something comes in or is due. */
static void wire_wait(struct wire_way *way, usec_t now) {
  struct pollfd fds[2] = {{.fd = way[0].in, .events = POLLIN}, {.fd = way[1].in, .events = POLLIN}};
  usec_t due = HS_MIN(impair_next(way[0].impair), impair_next(way[1].impair));
  usec_t wait = due == UINT64_MAX ? 1000000u : due > now + WIRE_TICK ? due - now : WIRE_TICK;
  struct timespec ts = {.tv_sec = (time_t)(wait / 1000000u), .tv_nsec = (long)(wait % 1000000u) * 1000};
  if (ppoll(fds, 2, &ts, NULL) < 0 && errno != EINTR)
    wire_die("ppoll");
}

static void wire_print(const char *name, const struct wire_way *w) {
  printf("\"%s\": {\"frames\": %llu, \"lost\": %llu, \"sent\": %llu, \"failed\": %llu}", name,
         (unsigned long long)w->frames, (unsigned long long)w->lost, (unsigned long long)w->sent,
         (unsigned long long)w->failed);
}

int main(int argc, char **argv) {
  struct config_impair c = {.seed = 1};
  struct sigaction stop = {.sa_handler = wire_signal};
  struct wire_way way[2];

  memset(way, 0, sizeof way);
  for (int i = 3; i < argc; i++)
    if (wire_option(&c, argv[i]) < 0)
      argc = 0;
  if (argc < 3) {
    fputs("usage: wire IF-A IF-B [loss=PERCENT] [delay=µs] [jitter=µs] [rate=BIT/S] [queue=BYTES] [seed=N]\n", stderr);
    return 2;
  }
  sigaction(SIGTERM, &stop, NULL);
  sigaction(SIGINT, &stop, NULL);
  prctl(PR_SET_TIMERSLACK, 1000ul, 0, 0, 0);
  way[0].in = way[1].out = wire_open(argv[1]);
  way[1].in = way[0].out = wire_open(argv[2]);
  for (int i = 0; i < 2; i++) {
    way[i].impair = impair_new(&c);
    if (way[i].impair == NULL)
      wire_die("impair");
    c.seed++;
  }
  while (!wire_stop) {
    for (int i = 0; i < 2; i++) {
      wire_take(&way[i]);
      wire_give(&way[i], clock_now_us());
    }
    wire_wait(way, clock_now_us());
  }
  fputc('{', stdout);
  wire_print("ab", &way[0]);
  fputs(", ", stdout);
  wire_print("ba", &way[1]);
  puts("}");
  for (int i = 0; i < 2; i++) {
    impair_free(way[i].impair);
    close(way[i].in);
  }
  return 0;
}
