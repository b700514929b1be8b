/*
 * bind and listen against the kernel as the twin: random programs of socket, options, bind, listen and close over a few
 * addresses and ports, run by the broker's handlers and by real sockets in a network namespace of their own. Each call
 * must end the same way in both.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/rng.h"
#include "broker_bare.h"
#include "test.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOTS 8
#define PORTS 2
#define OPS   60
#define RUNS  4000

/** One socket in both worlds. */
struct twin {
  int fd; /* -1 = none */
  uint32_t gen;
  int tcp, bound;
};

/** What a program asks for. */
struct wish {
  int tcp, family, addr, reuseaddr, reuseport, v6only;
  uint16_t port;
};

static const char *const addrs4[] = {"0.0.0.0", "127.0.0.1", "127.0.0.2"};
static const char *const addrs6[] = {"::", "::1", "::ffff:127.0.0.1"};

static struct broker_bare bare;
static struct conn *app;
static uint64_t worker_id;
static char story[16384];
static unsigned n_binds, n_quirks;

static void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *fmt, ...) {
  size_t n = strlen(story);
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(story + n, sizeof story - n, fmt, ap);
  va_end(ap);
}

static void fail_with_story(void) {
  fputs(story, stderr); /* longer than fail_msg prints */
  fail();
}

static int kernel_bind(int fd, const struct wish *w) {
  struct sockaddr_in6 s6 = {.sin6_family = AF_INET6, .sin6_port = htons(w->port)};
  struct sockaddr_in s4 = {.sin_family = AF_INET, .sin_port = htons(w->port)};
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &w->reuseaddr, sizeof(int)), 0);
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &w->reuseport, sizeof(int)), 0);
  if (w->family == 6)
    assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &w->v6only, sizeof(int)), 0);
  inet_pton(AF_INET6, addrs6[w->addr], &s6.sin6_addr);
  inet_pton(AF_INET, addrs4[w->addr], &s4.sin_addr);
  int rc = w->family == 6 ? bind(fd, (struct sockaddr *)&s6, sizeof s6) : bind(fd, (struct sockaddr *)&s4, sizeof s4);
  return rc < 0 ? err_last() : 0;
}

static int broker_bind(uint32_t slot, uint32_t gen, const struct wish *w) {
  Hoststack__Attach__Endpoint ep = HOSTSTACK__ATTACH__ENDPOINT__INIT;
  Hoststack__Attach__Bind m = HOSTSTACK__ATTACH__BIND__INIT;
  uint8_t ip[16] = {[10] = 0xff, [11] = 0xff};
  const char *text = NULL;
  if (w->family == 6)
    inet_pton(AF_INET6, addrs6[w->addr], ip);
  else
    inet_pton(AF_INET, addrs4[w->addr], ip + 12);
  ep.ip = (ProtobufCBinaryData){.data = ip, .len = 16};
  ep.port = w->port;
  ep.family = (uint32_t)w->family;
  m.worker_id = worker_id;
  m.slot = slot;
  m.gen = gen;
  m.proto = w->tcp ? 0 : 1;
  m.local = &ep;
  m.reuseaddr = w->reuseaddr;
  m.reuseport = w->reuseport;
  m.v6only = w->v6only;
  return listen_on_bind(&bare.b, app, 1, &m, &text);
}

static int broker_listen(uint32_t slot, uint32_t gen) {
  Hoststack__Attach__Listen m = HOSTSTACK__ATTACH__LISTEN__INIT;
  const char *text = NULL;
  m.worker_id = worker_id;
  m.slot = slot;
  m.gen = gen;
  m.backlog = 5;
  int rc = listen_on_listen(&bare.b, app, 1, &m, &text);
  broker_bare_nod(&bare);
  return rc;
}

static void twin_close(struct twin *t, uint32_t slot) {
  Hoststack__Attach__Unbind m = HOSTSTACK__ATTACH__UNBIND__INIT;
  const char *text = NULL;
  if (t->fd < 0)
    return;
  close(t->fd);
  t->fd = -1;
  m.worker_id = worker_id;
  m.slot = slot;
  m.gen = t->gen;
  assert_int_equal(listen_on_unbind(&bare.b, app, 1, &m, &text), 0);
  tell("%u: close\n", slot);
}

static void twin_bind(struct twin *t, uint32_t slot, struct rng *r) {
  struct wish w = {.tcp = rng_below(r, 4) != 0,
                   .family = rng_below(r, 2) ? 4 : 6,
                   .addr = (int)rng_below(r, 3),
                   .reuseaddr = rng_below(r, 2) != 0,
                   .reuseport = rng_below(r, 3) == 0,
                   .port = (uint16_t)(2000 + rng_below(r, PORTS))};
  w.v6only = w.family == 6 && w.addr != 2 && rng_below(r, 2);
  twin_close(t, slot);
  t->fd = socket(w.family == 6 ? AF_INET6 : AF_INET, (w.tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
  assert_true(t->fd >= 0);
  t->gen++;
  t->tcp = w.tcp;
  int k = kernel_bind(t->fd, &w), b = broker_bind(slot, t->gen, &w);
  t->bound = k == 0;
  tell("%u: bind %s %s port %u%s%s%s → kernel %s, broker %s\n", slot, w.tcp ? "tcp" : "udp",
       w.family == 6 ? addrs6[w.addr] : addrs4[w.addr], w.port, w.reuseaddr ? " reuseaddr" : "",
       w.reuseport ? " reuseport" : "", w.v6only ? " v6only" : "", k == 0 ? "ok" : err_name(k),
       b == 0 ? "ok" : err_name(b));
  n_binds++;
  if (k == 0 && b == -EADDRINUSE && (w.reuseport || w.reuseaddr)) {
    /* The kernel remembers per port that its last owner allowed reuse and then looks at no other owner
     * (inet_csk_update_fastreuse): it lets in who conflicts with an older one. We do not follow. */
    n_quirks++;
    twin_close(t, slot);
    return;
  }
  if (k != b)
    fail_with_story();
}

static void twin_listen(struct twin *t, uint32_t slot) {
  if (t->fd < 0 || !t->tcp || !t->bound)
    return;
  int k = listen(t->fd, 5) < 0 ? err_last() : 0, b = broker_listen(slot, t->gen);
  tell("%u: listen → kernel %s, broker %s\n", slot, k == 0 ? "ok" : err_name(k), b == 0 ? "ok" : err_name(b));
  if (k != b)
    fail_with_story();
}

static void test_as_linux(void **state) {
  const char *seed = getenv("HS_TEST_SEED");
  uint64_t from = seed != NULL ? strtoull(seed, NULL, 10) : 1, to = seed != NULL ? from + 1 : RUNS;
  (void)state;
  for (uint64_t run = from; run < to; run++) {
    struct twin t[SLOTS];
    struct rng r;
    rng_init(&r, run);
    story[0] = '\0';
    tell("seed %llu\n", (unsigned long long)run);
    for (int i = 0; i < SLOTS; i++)
      t[i] = (struct twin){.fd = -1, .gen = (uint32_t)run * 1000};
    for (int op = 0; op < OPS; op++) {
      uint32_t slot = (uint32_t)rng_below(&r, SLOTS);
      switch (rng_below(&r, 4)) {
      case 0:
        twin_close(&t[slot], slot);
        break;
      case 1:
        twin_listen(&t[slot], slot);
        break;
      default:
        twin_bind(&t[slot], slot, &r);
      }
    }
    for (uint32_t i = 0; i < SLOTS; i++)
      twin_close(&t[i], i);
  }
  print_message("%u binds, %u of them the kernel's shortcut\n", n_binds, n_quirks);
  assert_true(n_quirks <= n_binds / 50);
}

/** A namespace with nothing but lo. 0 or -errno. */
static int private_net(void) {
  struct ifreq ifr = {.ifr_name = "lo"};
  if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
    return err_last();
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifr.ifr_flags = IFF_UP | IFF_RUNNING | IFF_LOOPBACK;
  int rc = ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? err_last() : 0;
  close(fd);
  return rc;
}

static int setup(void **state) {
  static struct loop *l;
  const char *text = NULL;
  Hoststack__Attach__Hello h = HOSTSTACK__ATTACH__HELLO__INIT;
  Hoststack__Attach__AddWorker add = HOSTSTACK__ATTACH__ADD_WORKER__INIT;
  (void)state;
  if (private_net() < 0) {
    print_message("no network namespace to be had here\n");
    _exit(0);
  }
  log_set_level(LOG_LEVEL_ERROR);
  assert_int_equal(loop_new(&l), 0);
  broker_bare_up(&bare, l);
  struct config *c = &bare.b.svc.cfg;
  static const char *const own[] = {"::ffff:127.0.0.1", "::ffff:127.0.0.2", "::1"};
  for (c->n_addrs = 0; c->n_addrs < 3; c->n_addrs++)
    inet_pton(AF_INET6, own[c->n_addrs], c->addr[c->n_addrs].ip);
  app = broker_bare_conn(&bare, getuid());
  h.abi_major = ABI_MAJOR;
  assert_int_equal(hello_on(&bare.b, app, 1, &h, &text), 0);
  broker_bare_nod(&bare);
  assert_int_equal(workers_on_add(&bare.b, app, 2, &add, &text), 0);
  broker_bare_nod(&bare);
  worker_id = bare.b.reg.worker[0].id;
  return 0;
}

static int teardown(void **state) {
  struct loop *l = bare.b.svc.loop;
  (void)state;
  broker_bare_down(&bare);
  loop_free(l);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_linux)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
