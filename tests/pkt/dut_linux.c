/*
 * The device under test that checks the expectations: the Linux kernel's TCP behind a tap, in a network namespace of
 * this process alone, which ends with it. Real sockets, real time. Called by run.c, one case at a time; main.c runs
 * several such processes side by side, since cases mostly wait.
 */
#include "pkt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int tap = -1, listener = -1;
static int sock[PKT_CONNS];
static const struct pkt_case *cur;
static const struct pkt_addr *cur_addr;
static struct {
  char name[24];
  int64_t val;
} pending[16]; /* options set before there is a socket */
static unsigned n_pending;
static const char *cc_name;

static uint64_t linux_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int sysctl_write(const char *path, const char *val) {
  char full[160];
  snprintf(full, sizeof full, "/proc/sys/net/%s", path);
  int fd = open(full, O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  int rc = write(fd, val, strlen(val)) < 0 ? -errno : 0;
  close(fd);
  return rc;
}

static const struct {
  const char *key, *path, *dflt;
} keys[] = {
    {"sack", "ipv4/tcp_sack", "1"},
    {"timestamps", "ipv4/tcp_timestamps", "1"},
    {"wscale", "ipv4/tcp_window_scaling", "1"},
    {"ecn", "ipv4/tcp_ecn", "0"},
    {"fastopen", "ipv4/tcp_fastopen", "0"},
    {"syn_retries", "ipv4/tcp_syn_retries", "6"},
    {"synack_retries", "ipv4/tcp_synack_retries", "5"},
    {"data_retries", "ipv4/tcp_retries2", "15"},
    {"fin_wait2", "ipv4/tcp_fin_timeout", "60"},
    {"idle_restart", "ipv4/tcp_slow_start_after_idle", "1"},
    {"rfc1337", "ipv4/tcp_rfc1337", "0"},
    {"tw_reuse", "ipv4/tcp_tw_reuse", "2"},
    {"syncookies", "ipv4/tcp_syncookies", "1"},
    {"abort_on_overflow", "ipv4/tcp_abort_on_overflow", "0"},
    {"mtu_probing", "ipv4/tcp_mtu_probing", "0"},
    {"challenge_limit", "ipv4/tcp_challenge_ack_limit", "2147483647"},
    {NULL, "ipv4/tcp_no_metrics_save", "1"},
    {NULL, "ipv4/tcp_syn_linear_timeouts", "0"},
    {NULL, "ipv4/tcp_invalid_ratelimit", "0"},
    {NULL, "ipv4/tcp_rmem", "4096 131072 262144"},
    {"keepidle_s", "ipv4/tcp_keepalive_time", "7200"},
    {"keepintvl_s", "ipv4/tcp_keepalive_intvl", "75"},
    {"keepcnt", "ipv4/tcp_keepalive_probes", "9"},
    {"rto_min", "ipv4/tcp_rto_min_us", "200000"},
    {"rto_max", "ipv4/tcp_rto_max_ms", "120000"},
    {"early_retrans", "ipv4/tcp_early_retrans", "3"},
};

/* A command line, to its end. 0, or -EIO. */
static int command(const char *line) {
  char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)line, NULL};
  pid_t pid;
  int status = 0, rc = posix_spawnp(&pid, "sh", NULL, NULL, argv, environ);
  if (rc)
    return -rc;
  return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -EIO;
}

static int linux_set(const char *key, const char *val) {
  char text[64];
  if (!strcmp(key, "rmem")) {
    snprintf(text, sizeof text, "4096 %s %s", val, val);
    return sysctl_write("ipv4/tcp_rmem", text);
  }
  if (!strcmp(key, "mtu")) {
    struct ifreq ifr = {.ifr_name = "tap0", .ifr_mtu = (int)strtol(val, NULL, 10)};
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = ioctl(s, SIOCSIFMTU, &ifr);
    close(s);
    return rc;
  }
  if (!strcmp(key, "cc")) { /* per socket: a namespace may not choose its own default */
    cc_name = strcmp(val, "newreno") ? val : "reno";
    return 0;
  }
  if (!strcmp(key, "ecn")) /* ours: 0 off, 1 passive, 2 on; Linux: 0, 2, 1 */
    val = *val == '1' ? "2" : *val == '2' ? "1" : "0";
  if (!strcmp(key, "fin_wait2")) {
    snprintf(text, sizeof text, "%d", (int)strtol(val, NULL, 10) / 1000);
    val = text;
  }
  if (!strcmp(key, "rto_min")) {
    snprintf(text, sizeof text, "%d", (int)strtol(val, NULL, 10) * 1000);
    val = text;
  }
  for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++)
    if (keys[i].key && !strcmp(keys[i].key, key))
      return sysctl_write(keys[i].path, val);
  return -ENOENT;
}

static int make_net(void) {
  /* It sleeps nearly always; when a packet comes it should see it then, however busy the machine is with other tests.
   */
  struct sched_param prompt = {.sched_priority = 1};
  (void)sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &prompt);
  if (unshare(CLONE_NEWNET))
    return -errno;
  tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  struct ifreq ifr = {.ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI};
  if (tap < 0 || ioctl(tap, TUNSETIFF, &ifr))
    return -errno;
  /* no router solicitations, no duplicate address detection: nothing but the case's packets */
  (void)sysctl_write("ipv6/conf/tap0/accept_dad", "0");
  (void)sysctl_write("ipv6/conf/tap0/router_solicitations", "0");
  (void)sysctl_write("ipv6/conf/tap0/addr_gen_mode", "1");
  return command("ip link set lo up && ip link set tap0 address 02:00:00:00:00:01 && ip addr add 10.0.0.1/24 dev tap0 "
                 "&& ip -6 addr add fd00::1/64 dev tap0 nodad && ip link set tap0 up && "
                 "ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent && "
                 "ip -6 neigh replace fd00::2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent");
}

static int linux_open(const struct pkt_case *c, const struct pkt_addr *a) {
  cur = c;
  cur_addr = a;
  n_pending = 0;
  cc_name = "cubic";
  for (unsigned i = 0; i < PKT_CONNS; i++)
    sock[i] = -1;
  listener = -1;
  int rc = tap < 0 ? make_net() : 0;
  for (unsigned i = 0; rc == 0 && i < sizeof keys / sizeof keys[0]; i++)
    if (sysctl_write(keys[i].path, keys[i].dflt))
      fprintf(stderr, "sysctl %s: refused\n", keys[i].path);
  if (rc == 0)
    rc = linux_set("mtu", "1500");
  for (unsigned i = 0; rc == 0 && i < c->n_sets; i++) {
    rc = linux_set(c->set[i].key, c->set[i].val);
    if (rc)
      fprintf(stderr, "%s:%u: set %s: %s\n", c->file, c->no, c->set[i].key, strerror(-rc));
  }
  return rc;
}

static void linux_close(void) {
  struct linger hard = {.l_onoff = 1};
  uint8_t f[PKT_FRAME_MAX];
  for (unsigned i = 0; i < PKT_CONNS; i++)
    if (sock[i] >= 0) {
      setsockopt(sock[i], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
      close(sock[i]);
    }
  if (listener >= 0)
    close(listener);
  while (read(tap, f, sizeof f) > 0)
    ;
  int icmp = 0, fast = 0; /* what it taught the routes is forgotten before the next case */
  for (unsigned i = 0; i < cur->n; i++) {
    icmp |= cur->line[i].verb == PKT_ICMP;
    fast |= cur->line[i].verb == PKT_FASTOPEN;
  }
  if (fast) /* cookies */
    (void)command("ip tcp_metrics flush");
  if (icmp)
    (void)command("ip route flush cache; ip -6 route flush cache");
}

static void linux_inject(const uint8_t *f, uint32_t len) {
  if (write(tap, f, len) != (ssize_t)len)
    fprintf(stderr, "tap: %s\n", strerror(errno));
}

static uint32_t linux_take(uint8_t *f, uint64_t until, int *sum) {
  *sum = 1;
  for (;;) {
    ssize_t n = read(tap, f, PKT_FRAME_MAX);
    if (n > 0)
      return (uint32_t)n;
    uint64_t now = linux_now();
    if (now >= until)
      return 0;
    struct pollfd p = {.fd = tap, .events = POLLIN};
    struct timespec t = {.tv_sec = (time_t)((until - now) / 1000000),
                         .tv_nsec = (long)((until - now) % 1000000) * 1000};
    (void)ppoll(&p, 1, &t, NULL);
  }
}

static int opt_apply(int fd, const char *name, int64_t val) {
  static const struct {
    const char *name;
    int level, opt;
  } known[] = {
      {"nodelay", IPPROTO_TCP, TCP_NODELAY},
      {"cork", IPPROTO_TCP, TCP_CORK},
      {"quickack", IPPROTO_TCP, TCP_QUICKACK},
      {"keepalive", SOL_SOCKET, SO_KEEPALIVE},
      {"keepidle", IPPROTO_TCP, TCP_KEEPIDLE},
      {"keepintvl", IPPROTO_TCP, TCP_KEEPINTVL},
      {"keepcnt", IPPROTO_TCP, TCP_KEEPCNT},
      {"user_timeout", IPPROTO_TCP, TCP_USER_TIMEOUT},
      {"fastopen", IPPROTO_TCP, TCP_FASTOPEN},
      {"mss", IPPROTO_TCP, TCP_MAXSEG},
      {"max_pacing", SOL_SOCKET, SO_MAX_PACING_RATE},
      {"syncnt", IPPROTO_TCP, TCP_SYNCNT},
      {"linger2", IPPROTO_TCP, TCP_LINGER2},
      {"defer", IPPROTO_TCP, TCP_DEFER_ACCEPT},
      {"tos", IPPROTO_IP, IP_TOS},
  };
  int v = (int)val;
  if (!strcmp(name, "linger")) {
    struct linger l = {.l_onoff = 1, .l_linger = v};
    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l) ? -errno : 0;
  }
  if (!strcmp(name, "tos") && cur_addr->family == 6)
    return setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &v, sizeof v) ? -errno : 0;
  for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
    if (!strcmp(known[i].name, name))
      return setsockopt(fd, known[i].level, known[i].opt, &v, sizeof v) ? -errno : 0;
  return -ENOPROTOOPT;
}

static int opt_pending(int fd) {
  int rc = 0;
  for (unsigned i = 0; i < n_pending && rc == 0; i++)
    rc = opt_apply(fd, pending[i].name, pending[i].val);
  return rc;
}

static socklen_t address(struct sockaddr_storage *ss, const uint8_t *ip, uint16_t port) {
  memset(ss, 0, sizeof *ss);
  if (cur_addr->family == 4) {
    struct sockaddr_in *in = (struct sockaddr_in *)ss;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, ip, 4);
    return sizeof *in;
  }
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(port);
  memcpy(&in6->sin6_addr, ip, 16);
  return sizeof *in6;
}

static int stream(void) {
  int fd = socket(cur_addr->family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc_name, (socklen_t)strlen(cc_name)))
    fprintf(stderr, "congestion control %s: %s\n", cc_name, strerror(errno));
  return fd;
}

static int linux_listen(unsigned backlog) {
  struct sockaddr_storage ss;
  int one = 1;
  listener = stream();
  if (listener < 0)
    return -errno;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  socklen_t n = address(&ss, cur_addr->dut, cur->port);
  int rc = opt_pending(listener);
  if (rc)
    return rc;
  return bind(listener, (struct sockaddr *)&ss, n) || listen(listener, (int)backlog) ? -errno : 0;
}

/* A socket for a connection to *ss, with the options that were asked for before there was one. */
static int opened(unsigned conn, struct sockaddr_storage *ss, socklen_t *n) {
  sock[conn] = stream();
  if (sock[conn] < 0)
    return -errno;
  *n = address(ss, cur_addr->peer, (uint16_t)(cur->peer_port + conn));
  return opt_pending(sock[conn]);
}

static int linux_connect(unsigned conn) {
  struct sockaddr_storage ss;
  socklen_t n;
  int rc = opened(conn, &ss, &n);
  if (rc)
    return rc;
  return connect(sock[conn], (struct sockaddr *)&ss, n) && errno != EINPROGRESS ? -errno : 0;
}

static int linux_fastopen(unsigned conn, const uint8_t *p, uint32_t n) {
  struct sockaddr_storage ss;
  socklen_t len;
  int rc = opened(conn, &ss, &len);
  if (rc)
    return rc;
  ssize_t k = sendto(sock[conn], p, n, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&ss, len);
  return k < 0 ? -errno : (int)k;
}

static int linux_error(unsigned conn) {
  int err = 0;
  socklen_t n = sizeof err;
  if (sock[conn] < 0)
    return EBADF;
  getsockopt(sock[conn], SOL_SOCKET, SO_ERROR, &err, &n);
  return err;
}

static int linux_connected(unsigned conn) {
  struct pollfd p = {.fd = sock[conn], .events = POLLOUT};
  if (poll(&p, 1, 0) <= 0)
    return 0;
  int err = linux_error(conn);
  return err ? -err : 1;
}

static int linux_accept(unsigned conn) {
  sock[conn] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return sock[conn] < 0 ? -errno : 0;
}

static int linux_write(unsigned conn, const uint8_t *p, uint32_t n) {
  ssize_t k = send(sock[conn], p, n, MSG_NOSIGNAL);
  return k < 0 ? -errno : (int)k;
}

static int linux_urgent(unsigned conn, const uint8_t *p, uint32_t n) {
  ssize_t k = send(sock[conn], p, n, MSG_NOSIGNAL | MSG_OOB);
  return k < 0 ? -errno : (int)k;
}

static int linux_oob(unsigned conn, uint8_t *byte) {
  return recv(sock[conn], byte, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) == 1;
}

static int linux_read(unsigned conn, uint8_t *p, uint32_t n) {
  ssize_t k = recv(sock[conn], p, n, 0);
  return k < 0 ? -errno : (int)k;
}

static int linux_shutdown(unsigned conn) {
  return shutdown(sock[conn], SHUT_WR) ? -errno : 0;
}

static int linux_shut(unsigned conn) {
  int fd = sock[conn];
  sock[conn] = -1;
  return close(fd) ? -errno : 0;
}

static int linux_sockopt(unsigned conn, const char *name, int64_t val) {
  if (sock[conn] >= 0)
    return opt_apply(sock[conn], name, val);
  if (n_pending == 16)
    return -ENOSPC;
  snprintf(pending[n_pending].name, sizeof pending[0].name, "%s", name);
  pending[n_pending++].val = val;
  return listener >= 0 ? opt_apply(listener, name, val) : 0;
}

static int linux_tune(const char *key, int64_t val) {
  char text[24];
  snprintf(text, sizeof text, "%lld", (long long)val);
  return linux_set(key, text);
}

/* TCP_INFO needs a socket; a closed one lives on in the table. */
static int linux_state(uint16_t dut_port, uint16_t peer_port) {
  char line[256];
  unsigned lp, rp, st;
  int found = 0;
  FILE *f = fopen(cur_addr->family == 4 ? "/proc/thread-self/net/tcp" : "/proc/thread-self/net/tcp6", "r");
  while (f && !found && fgets(line, sizeof line, f))
    if (sscanf(line, "%*d: %*[0-9A-F]:%x %*[0-9A-F]:%x %x", &lp, &rp, &st) == 3 && rp == peer_port && lp == dut_port)
      found = (int)st;
  if (f)
    fclose(f);
  return found;
}

static int linux_check(void) {
  return 0;
}

const struct pkt_dut pkt_dut_linux = {.name = "linux",
                                      .is_linux = 1,
                                      .open = linux_open,
                                      .close = linux_close,
                                      .now = linux_now,
                                      .inject = linux_inject,
                                      .take = linux_take,
                                      .listen = linux_listen,
                                      .connect = linux_connect,
                                      .fastopen = linux_fastopen,
                                      .connected = linux_connected,
                                      .accept = linux_accept,
                                      .write = linux_write,
                                      .urgent = linux_urgent,
                                      .oob = linux_oob,
                                      .read = linux_read,
                                      .error = linux_error,
                                      .shutdown = linux_shutdown,
                                      .shut = linux_shut,
                                      .sockopt = linux_sockopt,
                                      .tune = linux_tune,
                                      .state = linux_state,
                                      .check = linux_check};
