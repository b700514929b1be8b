/*
 * Rig of the broker's tests: process, doubles, apps (broker_rig.h). One thread.
 */
#include "broker_rig.h"

#include "abi/registry.h"
#include "base/clock.h"
#include "base/err.h"
#include "ctl/attach.h"
#include "shm/seg.h"
#include "test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- doubles of the services --- */

static int svc_item(void *ctx, const struct custody_item *it) {
  struct rig_svc *s = ctx;
  s->items++;
  if (it->kind != ABI_ITEM_SEG || (it->seg_kind != ABI_SEG_APP && it->seg_kind != ABI_SEG_PART))
    return 0;
  int seals = fcntl(it->fd, F_GET_SEALS);
  if (seals < 0 || (seals & (F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)) != (F_SEAL_FUTURE_WRITE | F_SEAL_SEAL))
    s->a_before_sealed++;
  if (s->auto_live && it->seg_kind == ABI_SEG_APP)
    (void)custody_worker_live(s->cust, it->owner);
  return 0;
}

static void svc_drop(void *ctx, const struct custody_item *it) {
  struct rig_svc *s = ctx;
  (void)it;
  s->drops++;
}

static void svc_ready_cb(void *ctx, uint32_t epoch) {
  struct rig_svc *s = ctx;
  s->ready++;
  s->epoch = epoch;
}

static void svc_policy(void *ctx, uint32_t gen) {
  struct rig_svc *s = ctx;
  s->policies++;
  s->policy_gen = gen;
  if (s->auto_policy)
    (void)custody_policy_seen(s->cust, gen);
}

static void svc_worker_dead(void *ctx, uint64_t worker_id) {
  struct rig_svc *s = ctx;
  if (s->n_dead < 32)
    s->dead[s->n_dead++] = worker_id;
  if (s->auto_drain)
    (void)custody_worker_drained(s->cust, worker_id);
}

static const struct custody_ops svc_ops = {
    .item = svc_item, .drop = svc_drop, .ready = svc_ready_cb, .policy = svc_policy, .worker_dead = svc_worker_dead};

void rig_service_start(struct rig_svc *s, enum custody_service who) {
  char path[100];
  snprintf(path, sizeof path, "%s/%s", s->rig->dir, CUSTODY_SOCKET);
  assert_int_equal(custody_new(&s->cust, s->rig->loop, path, who, &svc_ops, s), 0);
}

void rig_service_stop(struct rig_svc *s) {
  custody_free(s->cust);
  s->cust = NULL;
}

static void count_item(void *ctx, const struct custody_item *it) {
  (void)it;
  ++*(unsigned *)ctx;
}

unsigned rig_items(struct rig_svc *s) {
  unsigned n = 0;
  custody_each(s->cust, count_item, &n);
  return n;
}

/* --- the broker --- */

void rig_open(struct broker_rig *r, const char *broker_keys) {
  memset(r, 0, sizeof *r);
  snprintf(r->dir, sizeof r->dir, "/tmp/hs-broker-test.XXXXXX");
  assert_non_null(mkdtemp(r->dir));
  snprintf(r->conf, sizeof r->conf, "%s/hs.yaml", r->dir);
  snprintf(r->attach, sizeof r->attach, "%s/attach", r->dir);
  FILE *f = fopen(r->conf, "we");
  assert_non_null(f);
  fprintf(
      f,
      "run-dir: %s\nlog-level: %s\n"
      "nicio: {rx-slots: 256, tx-slots: 256, interfaces: [{name: e0, kind: kernel, device: t0}]}\n"
      "engine: {max-connections: 64, addresses: [{interface: e0, address: 10.1.0.1/24}, "
      "{interface: e0, address: 'fd00::1/64'}], ports: {low: 40000, high: 40003}, fifo: {rx-max: 64k, tx-max: 64k}}\n"
      "broker: {max-apps: 8, max-workers: 8, slots-per-worker: 64, arena-size: 64M%s%s}\n",
      r->dir, getenv("HS_TEST_LOG") != NULL ? getenv("HS_TEST_LOG") : "error", broker_keys[0] != '\0' ? ", " : "",
      broker_keys);
  fclose(f);
  assert_int_equal(loop_new(&r->loop), 0);
  r->engine = (struct rig_svc){.rig = r, .auto_live = 1, .auto_policy = 1, .auto_drain = 1};
  r->nicio = (struct rig_svc){.rig = r};
  r->api = (struct rig_svc){.rig = r};
}

void rig_start(struct broker_rig *r, const char *fault) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is killed leaves no broker behind */
    if (fault != NULL)
      setenv("HS_FAULT", fault, 1);
    execl(HS_BROKER_BIN, HS_BROKER_BIN, "-c", r->conf, (char *)NULL);
    _exit(127);
  }
  r->pid = pid;
}

int rig_kill(struct broker_rig *r, int sig) {
  if (r->pid <= 0)
    return r->status;
  kill(r->pid, sig);
  assert_int_equal(waitpid(r->pid, &r->status, 0), r->pid);
  r->pid = 0;
  return r->status;
}

int rig_died(struct broker_rig *r) {
  if (r->pid > 0 && waitpid(r->pid, &r->status, WNOHANG) == r->pid)
    r->pid = 0;
  return r->pid == 0;
}

void rig_close(struct broker_rig *r) {
  char cmd[100];
  rig_service_stop(&r->engine);
  rig_service_stop(&r->nicio);
  rig_service_stop(&r->api);
  rig_kill(r, SIGKILL);
  loop_free(r->loop);
  static const char *const files[] = {"hs.yaml", "attach", "custody", "broker.pid", "broker.ctl"};
  for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(cmd, sizeof cmd, "%s/%s", r->dir, files[i]);
    unlink(cmd);
  }
  rmdir(r->dir);
}

void rig_turn(struct broker_rig *r, int ms) {
  if (r->respawn && r->pid > 0 && rig_died(r)) {
    r->respawned++;
    rig_start(r, NULL);
  }
  assert_true(loop_turn(r->loop, ms) >= 0);
}

void rig_until(struct broker_rig *r, const unsigned *word, unsigned want) {
  usec_t end = clock_now_us() + RIG_WAIT_MS * CLOCK_US_PER_MS;
  while (*word < want) {
    assert_true(clock_now_us() < end);
    rig_turn(r, 50);
  }
}

void rig_up(struct broker_rig *r) {
  rig_start(r, NULL);
  rig_service_start(&r->engine, CUSTODY_ENGINE);
  rig_service_start(&r->nicio, CUSTODY_NICIO);
  rig_until(r, &r->engine.ready, 1);
  rig_until(r, &r->nicio.ready, 1);
}

int rig_setup(void **state, const char *broker_keys) {
  struct broker_rig *r = calloc(1, sizeof *r);
  assert_non_null(r);
  rig_open(r, broker_keys);
  rig_up(r);
  *state = r;
  return 0;
}

int rig_teardown(void **state) {
  struct broker_rig *r = *state;
  if (r->pid > 0) {
    int st = rig_kill(r, SIGTERM);
    assert_true(WIFEXITED(st) && WEXITSTATUS(st) == 0);
  }
  rig_close(r);
  free(r);
  return 0;
}

void rig_policy(struct broker_rig *r, struct seg *s, struct abi_policy **p, struct abi_listen_entry **e) {
  const char *why = NULL;
  const struct custody_item *it = custody_find(r->engine.cust, ABI_ITEM_SEG, ABI_SEG_POLICY, 0);
  assert_non_null(it);
  assert_int_equal(seg_attach(s, dup(it->fd), ABI_SEG_POLICY, SEG_RDONLY, &why), 0);
  struct abi_policy_geom g;
  memcpy(&g, s->geom, sizeof g);
  *p = seg_at(s, g.block_off, sizeof **p);
  *e = seg_at(s, g.listen_off, g.n_listen * sizeof **e);
  assert_non_null(*p);
  assert_non_null(*e);
}

/* --- apps --- */

void rig_app_init(struct rig_app *a, struct broker_rig *r) {
  memset(a, 0, sizeof *a);
  a->rig = r;
  a->fd = a->bell = a->door = -1;
}

int rig_app_connect(struct rig_app *a) {
  usec_t end = clock_now_us() + RIG_WAIT_MS * CLOCK_US_PER_MS;
  if (a->fd >= 0)
    close(a->fd);
  for (;;) {
    a->fd = attach_connect_nb(a->rig->attach);
    if (a->fd >= 0)
      return 0;
    assert_true(a->fd == -ENOENT || a->fd == -ECONNREFUSED || a->fd == -EAGAIN);
    assert_true(clock_now_us() < end);
    rig_turn(a->rig, 5);
  }
}

/** Turns the loop until the attach socket can be read. */
static void app_wait(struct rig_app *a) {
  usec_t end = clock_now_us() + RIG_WAIT_MS * CLOCK_US_PER_MS;
  for (;;) {
    struct pollfd pfd = {.fd = a->fd, .events = POLLIN};
    assert_true(poll(&pfd, 1, 0) >= 0);
    if (pfd.revents != 0)
      return;
    assert_true(clock_now_us() < end);
    rig_turn(a->rig, 2);
  }
}

int rig_app_call(struct rig_app *a, rig_request *rq, rig_reply **out, int *fds, int *n_fds) {
  uint8_t buf[2048];
  int dummy[ATTACH_FDS_MAX], n = 0;
  rq->seq = ++a->seq;
  size_t len = hoststack__attach__request__pack(rq, buf);
  int rc = attach_send(a->fd, buf, len, NULL, 0);
  if (rc < 0)
    return -EPIPE;
  app_wait(a);
  ssize_t got = attach_recv(a->fd, buf, sizeof buf, fds != NULL ? fds : dummy, ATTACH_FDS_MAX, &n);
  if (got <= 0)
    return -EPIPE;
  rig_reply *r = hoststack__attach__reply__unpack(NULL, (size_t)got, buf);
  assert_non_null(r);
  assert_int_equal(r->seq, rq->seq);
  rc = -r->rc;
  assert_true(rc == 0 || r->text[0] != '\0');
  if (fds == NULL)
    while (n > 0)
      close(dummy[--n]);
  if (n_fds != NULL)
    *n_fds = n;
  if (out != NULL)
    *out = r;
  else
    hoststack__attach__reply__free_unpacked(r, NULL);
  return rc;
}

int rig_app_hello(struct rig_app *a) {
  Hoststack__Attach__Hello h = HOSTSTACK__ATTACH__HELLO__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  rig_reply *r = NULL;
  int fds[ATTACH_FDS_MAX], n = 0;
  h.abi_major = ABI_MAJOR;
  h.app_name = (char *)(uintptr_t) "rig";
  if (a->ns != NULL)
    h.namespace_id = (char *)(uintptr_t)a->ns;
  if (a->have_token)
    h.token = (ProtobufCBinaryData){.data = a->token, .len = 16};
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_HELLO;
  rq.hello = &h;
  int rc = rig_app_call(a, &rq, &r, fds, &n);
  if (rc == 0) {
    assert_int_equal(r->body_case, HOSTSTACK__ATTACH__REPLY__BODY_HELLO);
    assert_int_equal(r->hello->token.len, 16);
    assert_int_equal(n, a->have_token ? 0 : 2);
    if (!a->have_token) {
      a->bell = fds[0];
      a->door = fds[1];
      memcpy(a->token, r->hello->token.data, 16);
      a->have_token = 1;
    } else {
      assert_int_equal(a->proc_id, r->hello->proc_id);
    }
    a->app_id = r->hello->app_id;
    a->proc_id = r->hello->proc_id;
  }
  if (r != NULL)
    hoststack__attach__reply__free_unpacked(r, NULL);
  return rc;
}

void rig_app_known(struct rig_app *a, struct broker_rig *r, const char *ns) {
  rig_app_init(a, r);
  a->ns = ns;
  assert_int_equal(rig_app_connect(a), 0);
  assert_int_equal(rig_app_hello(a), 0);
}

void rig_app_up(struct rig_app *a, struct broker_rig *r, const char *ns) {
  rig_app_known(a, r, ns);
  assert_int_equal(rig_app_add_worker(a), 0);
  assert_int_equal(rig_app_map(a), 0);
}

int rig_app_add_worker(struct rig_app *a) {
  Hoststack__Attach__AddWorker m = HOSTSTACK__ATTACH__ADD_WORKER__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_ADD_WORKER;
  rq.add_worker = &m;
  return rig_app_take_worker(a, &rq);
}

int rig_app_take_worker(struct rig_app *a, rig_request *rq) {
  rig_reply *r = NULL;
  int fds[ATTACH_FDS_MAX], n = 0;
  int rc = rig_app_call(a, rq, &r, fds, &n);
  if (rc == 0) {
    const char *why = NULL;
    assert_int_equal(n, 2);
    assert_int_equal(fcntl(fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
    if (a->mapped)
      worker_view_close(&a->view);
    assert_int_equal(worker_view_open(&a->view, fds[1], SEG_RDWR, fds[0], SEG_RDONLY, &why), 0);
    a->mapped = 1;
    a->worker_id = r->add_worker->worker_id;
    assert_int_equal(a->view.ga.worker_id, a->worker_id);
    assert_int_equal(a->view.ga.app_id, a->app_id);
  }
  if (r != NULL)
    hoststack__attach__reply__free_unpacked(r, NULL);
  return rc;
}

int rig_app_map(struct rig_app *a) {
  Hoststack__Attach__WorkerMapped m = HOSTSTACK__ATTACH__WORKER_MAPPED__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  m.worker_id = a->worker_id;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_WORKER_MAPPED;
  rq.worker_mapped = &m;
  return rig_app_call(a, &rq, NULL, NULL, NULL);
}

void rig_endpoint(Hoststack__Attach__Endpoint *ep, uint8_t addr[16], const char *ip, uint32_t port) {
  int six = strchr(ip, ':') != NULL;
  memset(addr, 0, 16);
  if (!six)
    addr[10] = addr[11] = 0xff;
  assert_int_equal(inet_pton(six ? AF_INET6 : AF_INET, ip, six ? addr : addr + 12), 1);
  hoststack__attach__endpoint__init(ep);
  ep->ip = (ProtobufCBinaryData){.data = addr, .len = 16};
  ep->port = port;
  ep->family = six ? 6 : 4;
}

int rig_app_bind(struct rig_app *a, uint32_t slot, uint32_t gen, const char *ip, uint16_t port, unsigned flags,
                 uint16_t *got) {
  Hoststack__Attach__Endpoint ep;
  Hoststack__Attach__Bind m = HOSTSTACK__ATTACH__BIND__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  rig_reply *r = NULL;
  uint8_t addr[16];
  rig_endpoint(&ep, addr, ip, port);
  if ((flags & RIG_NO_FAMILY) != 0)
    ep.family = 0;
  m.worker_id = a->worker_id;
  m.slot = slot;
  m.gen = gen;
  m.proto = (flags & RIG_UDP) != 0;
  m.local = &ep;
  m.reuseaddr = (flags & ABI_BIND_REUSEADDR) != 0;
  m.reuseport = (flags & ABI_BIND_REUSEPORT) != 0;
  m.v6only = (flags & ABI_BIND_V6ONLY) != 0;
  m.app_share = (flags & ABI_BIND_APP_SHARE) != 0;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_BIND;
  rq.bind = &m;
  int rc = rig_app_call(a, &rq, &r, NULL, NULL);
  if (rc == 0 && got != NULL)
    *got = (uint16_t)r->bind->local->port;
  if (r != NULL)
    hoststack__attach__reply__free_unpacked(r, NULL);
  return rc;
}

int rig_app_listen(struct rig_app *a, uint32_t slot, uint32_t gen, uint32_t backlog, uint32_t share_of, uint32_t *id) {
  Hoststack__Attach__Listen m = HOSTSTACK__ATTACH__LISTEN__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  rig_reply *r = NULL;
  m.worker_id = a->worker_id;
  m.slot = slot;
  m.gen = gen;
  m.backlog = backlog;
  m.share_of = share_of;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_LISTEN;
  rq.listen = &m;
  int rc = rig_app_call(a, &rq, &r, NULL, NULL);
  if (rc == 0 && id != NULL)
    *id = r->bind->listener_id;
  if (r != NULL)
    hoststack__attach__reply__free_unpacked(r, NULL);
  return rc;
}

int rig_app_unbind(struct rig_app *a, uint32_t slot, uint32_t gen) {
  Hoststack__Attach__Unbind m = HOSTSTACK__ATTACH__UNBIND__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  m.worker_id = a->worker_id;
  m.slot = slot;
  m.gen = gen;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_UNBIND;
  rq.unbind = &m;
  return rig_app_call(a, &rq, NULL, NULL, NULL);
}

void rig_app_die(struct rig_app *a) {
  int *fds[] = {&a->fd, &a->bell, &a->door};
  for (unsigned i = 0; i < 3; i++) {
    if (*fds[i] >= 0)
      close(*fds[i]);
    *fds[i] = -1;
  }
  if (a->mapped)
    worker_view_close(&a->view);
  a->mapped = a->have_token = 0;
}
