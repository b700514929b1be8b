/*
 * The device under test that is ours: one whole engine worker (IP, TCP, session glue, real segments and fifos) from
 * tests/sim/engine_rig, with a virtual clock. The rig's second host is not started; its wire is where our frames are
 * taken from, cut into wire segments as a device would. Called by run.c, one case at a time.
 */
#include "pkt.h"

#include "session/tunables.h"
#include "sim/engine_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DUT_QUEUE    4096u
#define LISTEN_SLOT  1u
#define CONNECT_SLOT 8u
#define LONG_WAIT    60000000u /* µs */

struct out_frame {
  uint8_t *bytes;
  uint32_t len;
  int sum;
};

static struct rig *rig;
static struct rig_sess sess[PKT_CONNS];
static uint8_t used[PKT_CONNS], closed[PKT_CONNS];
static uint32_t told[PKT_CONNS]; /* soft errors that were asked for */
static struct abi_options opts;
static int opts_set;
static struct out_frame queue[DUT_QUEUE];
static unsigned q_head, q_tail;
static const struct pkt_case *cur;
static const struct pkt_addr *cur_addr;

/* Sets one tunable of the configuration by the name that the tunables table gives it. */
static int set_tunable(struct config *cfg, const char *key, uint32_t val) {
  static const struct {
    const char *name;
    size_t off;
  } known[] = {
#define PKT_TUNABLE(field, name, ...) {#field, offsetof(struct config, tcp.field)},
      ABI_TUNABLES(PKT_TUNABLE)
#undef PKT_TUNABLE
  };
  for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
    if (!strcmp(known[i].name, key)) {
      memcpy((char *)cfg + known[i].off, &val, sizeof val);
      return 0;
    }
  return -ENOENT;
}

static int set_key(struct config *cfg, const char *key, const char *text) {
  uint32_t val = (uint32_t)strtoul(text, NULL, 0);
  if (!strcmp(key, "rmem")) {
    cfg->rx_fifo_max = val;
    return 0;
  }
  if (!strcmp(key, "mtu")) {
    rig->host[0].fs.pkt->port[0].mtu = val;
    return 0;
  }
  if (!strcmp(key, "cc"))
    return set_tunable(cfg, "cc", (uint32_t)tcp_cc_find(text));
  return set_tunable(cfg, key, val);
}

static int open_configured(void) {
  struct rig_host *h = &rig->host[0];
  rig_engine_kill(&rig->host[1]);
  rig_engine_kill(h);
  (void)set_tunable(&h->cfg, "time_wait", 60000);
  for (unsigned i = 0; i < cur->n_sets; i++)
    if (!cur->set[i].linux_only && set_key(&h->cfg, cur->set[i].key, cur->set[i].val)) {
      fprintf(stderr, "%s:%u: the engine has no tunable %s\n", cur->file, cur->no, cur->set[i].key);
      return -EINVAL;
    }
  rig_engine_start(h);
  return 0;
}

static void queue_put(const uint8_t *f, uint32_t len, int sum) {
  if (q_tail - q_head == DUT_QUEUE)
    abort();
  struct out_frame *o = &queue[q_tail++ % DUT_QUEUE];
  o->bytes = malloc(len);
  if (!o->bytes)
    abort();
  memcpy(o->bytes, f, len);
  o->len = len;
  o->sum = sum;
}

static void put32(uint8_t *p, uint32_t v) {
  for (int i = 0; i < 4; i++)
    p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* What a device with segmentation offload does: one header per piece; FIN and PSH on the last, CWR on the first. */
static void queue_cut(const struct rig_frame *f) {
  uint32_t ip = f->flags & ABI_FR_GSO_TCP6 ? 40 : 20, t = 14 + ip;
  uint32_t hlen = t + (uint32_t)(f->bytes[t + 12] >> 4) * 4, n = f->len - hlen;
  uint32_t seq = (uint32_t)f->bytes[t + 4] << 24 | (uint32_t)f->bytes[t + 5] << 16 | (uint32_t)f->bytes[t + 6] << 8 |
                 f->bytes[t + 7];
  uint8_t flags = f->bytes[t + 13], out[PKT_FRAME_MAX];
  for (uint32_t at = 0; at < n; at += f->gso_size) {
    uint32_t len = n - at < f->gso_size ? n - at : f->gso_size;
    memcpy(out, f->bytes, hlen);
    memcpy(out + hlen, f->bytes + hlen + at, len);
    put32(out + t + 4, seq + at);
    out[t + 13] = (uint8_t)(flags & ~(at + len < n ? TH_FIN | TH_PSH : 0) & ~(at ? TH_CWR : 0));
    uint32_t total = hlen - 14 + len - (ip == 40 ? 40 : 0);
    uint32_t off = ip == 40 ? 18 : 16;
    out[off] = (uint8_t)(total >> 8);
    out[off + 1] = (uint8_t)total;
    queue_put(out, hlen + len, 0);
  }
}

static void drain(void) {
  struct rig_host *far = &rig->host[1];
  while (far->wire_head != far->wire_tail) {
    struct rig_frame *f = &far->wire[far->wire_head++ % RIG_WIRE];
    if (f->gso_size && f->flags & (ABI_FR_GSO_TCP4 | ABI_FR_GSO_TCP6))
      queue_cut(f);
    else
      queue_put(f->bytes, f->len, !(f->flags & ABI_FR_CSUM_PART));
    free(f->bytes);
  }
}

static void step(usec_t us) {
  rig_step(rig, us);
  drain();
}

/* Frames in, work done, frames out; doorbells are looked at every 50 µs. */
static void settle(void) {
  static const usec_t us[] = {1, 1, 60, 1, 1};
  for (unsigned i = 0; i < sizeof us / sizeof us[0]; i++)
    step(us[i]);
}

static int engine_open(const struct pkt_case *c, const struct pkt_addr *a) {
  rig = calloc(1, sizeof *rig);
  if (!rig)
    return -ENOMEM;
  cur = c;
  cur_addr = a;
  memset(used, 0, sizeof used);
  memset(closed, 0, sizeof closed);
  memset(told, 0, sizeof told);
  memset(&opts, 0, sizeof opts);
  opts_set = 0;
  rig_open(rig, 1);
  int rc = open_configured();
  settle();
  return rc;
}

static void engine_close(void) {
  rig_close(rig);
  free(rig);
  while (q_head != q_tail)
    free(queue[q_head++ % DUT_QUEUE].bytes);
  q_head = q_tail = 0;
}

static void engine_inject(const uint8_t *f, uint32_t len) {
  struct rig_host *h = &rig->host[0];
  uint8_t *copy = malloc(len);
  if (!copy)
    abort();
  memcpy(copy, f, len);
  h->wire[h->wire_tail++ % RIG_WIRE] = (struct rig_frame){.bytes = copy, .len = len, .due = rig_now()};
  settle();
}

/* To the next deadline of the worker, but not beyond `until`. */
static void advance(usec_t until) {
  const struct worker *w = &rig->host[0].w;
  usec_t now = rig_now(), to = timer_next(&w->wheel);
  if (until - now > LONG_WAIT) /* hours of silence: the IP room's housekeeping may be late */
    to = to < now + LONG_WAIT ? to : now + LONG_WAIT;
  else if (w->ip_next && w->ip_next < to)
    to = w->ip_next;
  if (to <= now)
    to = now + 100;
  to = to > until ? until : to;
  step(to - now);
  if (rig_now() + 2 <= until)
    for (int i = 0; i < 2; i++)
      step(1);
}

static uint32_t engine_take(uint8_t *f, uint64_t until, int *sum) {
  while (q_head == q_tail && rig_now() < until)
    advance(until);
  if (q_head == q_tail)
    return 0;
  struct out_frame *o = &queue[q_head++ % DUT_QUEUE];
  uint32_t len = o->len < PKT_FRAME_MAX ? o->len : PKT_FRAME_MAX;
  memcpy(f, o->bytes, len);
  *sum = o->sum;
  free(o->bytes);
  return len;
}

static void apply_opts(unsigned conn) {
  struct rig_sess *s = &sess[conn];
  s->a->opt_gen++;
  s->a->opt = opts;
  __atomic_store_n(&s->a->opt_gen, s->a->opt_gen + 1, __ATOMIC_RELEASE);
  rig_hint(s->h, s->slot);
  settle();
}

static int engine_listen(unsigned backlog) {
  struct abi_listen_entry *le = seg_at(&rig->host[0].policy, 4096, sizeof *le);
  rig_listen(&rig->host[0], LISTEN_SLOT, cur->port, cur_addr->family, 1);
  le->backlog = backlog;
  settle();
  worker_view_app(&rig->host[0].view, LISTEN_SLOT)->opt.fastopen = opts.fastopen;
  worker_view_app(&rig->host[0].view, LISTEN_SLOT)->opt.defer = opts.defer;
  rig_arm(&rig->host[0], LISTEN_SLOT); /* accept() is about to be called */
  settle();
  return 0;
}

static int engine_connect(unsigned conn) {
  rig_connect_to(&rig->host[0], &sess[conn], CONNECT_SLOT + conn, 1, 2, (uint16_t)(cur->peer_port + conn),
                 cur_addr->family);
  used[conn] = 1;
  if (opts_set) {
    sess[conn].a->opt = opts;
    sess[conn].a->opt_gen = 2;
  }
  settle();
  return 0;
}

/* As the library does it: ask, then write into a fresh slot what a SYN can carry, and connect. */
static int engine_fastopen(unsigned conn, const uint8_t *p, uint32_t n) {
  struct rig_host *h = &rig->host[0];
  struct rig_sess *s = &sess[conn];
  uint16_t port = (uint16_t)(cur->peer_port + conn);
  uint32_t saved = opts.flags;
  opts.flags |= ABI_OPT_FASTOPEN;
  rig_sess_open(h, s, CONNECT_SLOT + conn, 1);
  used[conn] = 1;
  s->a->opt = opts;
  s->a->opt_gen = 2;
  rig_connect_ask(h, s, rig_endpoint(2, port, cur_addr->family), ABI_REQ_FAST);
  settle();
  int rc = s->e->error == ENODATA ? (int)(n < s->e->mss ? n : s->e->mss) : -(int)s->e->error;
  if (rc > 0) {
    rig_sess_open(h, s, CONNECT_SLOT + PKT_CONNS + conn, 1);
    s->a->opt = opts;
    s->a->opt_gen = 2;
    if (fifo_prod_write(&s->tx, p, (uint32_t)rc) != rc)
      abort();
    rig_connect_ask(h, s, rig_endpoint(2, port, cur_addr->family), 0);
    settle();
  }
  opts.flags = saved;
  return rc == 0 ? -EINPROGRESS : rc;
}

static int engine_connected(unsigned conn) {
  uint32_t st = rig_state(&sess[conn]);
  if (st == ABI_SESS_CLOSED)
    return -(int)sess[conn].e->error;
  return st == ABI_SESS_READY;
}

static int engine_accept(unsigned conn) {
  if (!rig_accept(&rig->host[0], LISTEN_SLOT, &sess[conn]))
    return -EAGAIN;
  used[conn] = 1;
  settle();
  if (opts_set)
    apply_opts(conn);
  return 0;
}

static int engine_write(unsigned conn, const uint8_t *p, uint32_t n) {
  int rc = (int)rig_write(&sess[conn], p, n);
  settle();
  return rc;
}

/* As the library does it: all but the last byte, then the mark, then that byte; one hint. */
static int engine_urgent(unsigned conn, const uint8_t *p, uint32_t n) {
  struct rig_sess *s = &sess[conn];
  if (fifo_prod_write(&s->tx, p, n - 1) != n - 1)
    return -EAGAIN;
  rig_urgent(s);
  return (int)(n - 1 + (uint32_t)engine_write(conn, p + n - 1, 1));
}

/* The mark that the engine told, and the byte in front of it in the rx fifo. */
static int engine_oob(unsigned conn, uint8_t *byte) {
  struct rig_sess *s = &sess[conn];
  uint32_t ahead = s->e->urg_pos - s->rx.head - 1;
  if (!(s->e->flags & ABI_SE_URGENT) || ahead > ABI_FIFO_MAX || fifo_cons_used(&s->rx) <= (int64_t)ahead)
    return 0;
  return fifo_cons_peek(&s->rx, ahead, byte, 1) == 1;
}

static int engine_read(unsigned conn, uint8_t *p, uint32_t n) {
  int rc = (int)rig_read(&sess[conn], p, n);
  settle();
  if (rc > 0)
    return rc;
  return rig_eof(&sess[conn]) ? 0 : -EAGAIN;
}

static int engine_error(unsigned conn) {
  const struct abi_sess_engine *e = sess[conn].e;
  if (e->error != 0)
    return (int)e->error;
  uint32_t word = e->soft_error; /* as the library does: each once */
  int err = word != told[conn] ? (int)(word & 0xffffu) : 0;
  told[conn] = word;
  return err;
}

static int engine_shutdown(unsigned conn) {
  rig_want(&sess[conn], ABI_WANT_SHUT_WR);
  settle();
  return 0;
}

static int engine_shut(unsigned conn) {
  rig_want(&sess[conn], ABI_WANT_CLOSE);
  closed[conn] = 1;
  settle();
  return 0;
}

static void opt_flag(uint32_t flag, int64_t val) {
  opts.flags = val ? opts.flags | flag : opts.flags & ~flag;
}

static int opt_set(const char *name, int64_t val) {
  if (!strcmp(name, "nodelay"))
    opt_flag(ABI_OPT_NODELAY, val);
  else if (!strcmp(name, "cork"))
    opt_flag(ABI_OPT_CORK, val);
  else if (!strcmp(name, "quickack")) {
    opt_flag(ABI_OPT_QUICKACK, val);
    opt_flag(ABI_OPT_LAZYACK, !val);
  } else if (!strcmp(name, "keepalive"))
    opt_flag(ABI_OPT_KEEPALIVE, val);
  else if (!strcmp(name, "keepidle"))
    opts.keepidle_s = (uint32_t)val;
  else if (!strcmp(name, "keepintvl"))
    opts.keepintvl_s = (uint32_t)val;
  else if (!strcmp(name, "keepcnt"))
    opts.keepcnt = (uint32_t)val;
  else if (!strcmp(name, "user_timeout"))
    opts.user_timeout_ms = (uint32_t)val;
  else if (!strcmp(name, "fastopen"))
    opts.fastopen = (uint32_t)val;
  else if (!strcmp(name, "max_pacing"))
    opts.max_pacing = (uint32_t)val;
  else if (!strcmp(name, "syncnt"))
    opts.syncnt = (uint8_t)val;
  else if (!strcmp(name, "linger2"))
    opts.linger2_s = (int16_t)val;
  else if (!strcmp(name, "defer")) /* 1 and 3 s are one and two timeouts */
    opts.defer = (uint8_t)(val <= 1 ? val : 2);
  else if (!strcmp(name, "mss"))
    opts.mss = (uint32_t)val;
  else if (!strcmp(name, "tos"))
    opts.tos = (uint8_t)val;
  else if (!strcmp(name, "linger")) {
    opt_flag(ABI_OPT_LINGER, 1);
    opts.linger_s = (uint32_t)val;
  } else
    return -ENOPROTOOPT;
  return 0;
}

static int engine_sockopt(unsigned conn, const char *name, int64_t val) {
  int rc = opt_set(name, val);
  opts_set = 1;
  if (rc == 0 && used[conn])
    apply_opts(conn);
  return rc;
}

/* While connections are open, by the way that hsctl set tcp goes; the TCB segment ends with the case. */
static int engine_tune(const char *key, int64_t val) {
  static const char *const names[] = {
#define PKT_TUNABLE(field, ...) #field,
      ABI_TUNABLES(PKT_TUNABLE)
#undef PKT_TUNABLE
  };
  struct rig_host *h = &rig->host[0];
  uint32_t lower, higher;
  for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (!strcmp(names[i], key)) {
      int rc = tunables_set(&h->w.tcbs.block->tune, &h->cfg, i, (uint32_t)val, &lower, &higher);
      tunables_apply(&h->w);
      return rc;
    }
  return -ENOENT;
}

static void endpoints(struct ip_addr *local, struct ip_addr *remote) {
  memset(local, 0, sizeof *local);
  *remote = *local;
  if (cur_addr->family == 4) {
    local->b[10] = local->b[11] = remote->b[10] = remote->b[11] = 0xff;
    memcpy(local->b + 12, cur_addr->dut, 4);
    memcpy(remote->b + 12, cur_addr->peer, 4);
  } else {
    memcpy(local->b, cur_addr->dut, 16);
    memcpy(remote->b, cur_addr->peer, 16);
  }
}

static int engine_state(uint16_t dut_port, uint16_t peer_port) {
  struct worker *w = &rig->host[0].w;
  const struct tcb_table *t = &w->tcbs;
  struct ip_addr local, remote;
  for (uint32_t i = 0; i < tcb_high(t); i++) {
    const struct abi_tcb *d = &t->tcb[i];
    if (d->life == ABI_TCB_USED && d->remote.port.raw == be16_from(peer_port).raw &&
        d->local.port.raw == be16_from(dut_port).raw)
      return d->state;
  }
  endpoints(&local, &remote); /* TIME_WAIT without an app has a table of its own */
  return timewait_find(w, 0, &local, dut_port, &remote, peer_port) == TIMEWAIT_NONE ? 0 : ABI_TCP_TIME_WAIT;
}

/* tcp_conn_check of every connection. */
static int engine_check(void) {
  struct worker *w = &rig->host[0].w;
  for (uint32_t i = 0; i < PKT_CONNS; i++) {
    struct ip_addr local, remote;
    endpoints(&local, &remote);
    struct session *s =
        flow_find(w, 0, transport_tcp.proto, &local, cur->port, &remote, (uint16_t)(cur->peer_port + i));
    int line = s && s->ops && !s->dead ? tcp_conn_check(&w->tcp, (struct tcp_conn *)(void *)s->priv) : 0;
    if (line)
      return line;
  }
  return 0;
}

const struct pkt_dut pkt_dut_engine = {.name = "engine",
                                       .open = engine_open,
                                       .close = engine_close,
                                       .now = rig_now,
                                       .inject = engine_inject,
                                       .take = engine_take,
                                       .listen = engine_listen,
                                       .connect = engine_connect,
                                       .fastopen = engine_fastopen,
                                       .connected = engine_connected,
                                       .accept = engine_accept,
                                       .write = engine_write,
                                       .urgent = engine_urgent,
                                       .oob = engine_oob,
                                       .read = engine_read,
                                       .error = engine_error,
                                       .shutdown = engine_shutdown,
                                       .shut = engine_shut,
                                       .sockopt = engine_sockopt,
                                       .tune = engine_tune,
                                       .state = engine_state,
                                       .check = engine_check};
