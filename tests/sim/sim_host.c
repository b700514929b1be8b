/*
 * A simulated host: the ops of the TCP core over plain-memory fifos, the session layer's part in miniature, the app,
 * and the engine's death and return. What survives a crash is what would lie in shared memory (struct sim_host, first
 * part).
 */
#include "sim.h"

#include "base/bits.h"
#include "base/fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sim_fail(struct sim *s, const char *fmt, ...) {
  if (s->fault[0])
    return;
  va_list ap;
  va_start(ap, fmt);
  int n = snprintf(s->fault, sizeof s->fault, "t=%llu: ", (unsigned long long)s->now);
  if (n > 0)
    (void)vsnprintf(s->fault + n, sizeof s->fault - (size_t)n, fmt, ap);
  va_end(ap);
}

/* --- fifos --- */

static void fifo_poke(struct sim_fifo *f, uint32_t pos, const uint8_t *src, uint32_t len) {
  for (uint32_t done = 0; done < len;) {
    uint32_t at = (pos + done) & (f->size - 1), n = HS_MIN(len - done, f->size - at);
    memcpy(f->mem + at, src + done, n);
    done += n;
  }
}

void sim_fifo_peek(const struct sim_fifo *f, uint32_t off, void *dst, uint32_t len) {
  for (uint32_t done = 0; done < len;) {
    uint32_t at = (f->head + off + done) & (f->size - 1), n = HS_MIN(len - done, f->size - at);
    memcpy((uint8_t *)dst + done, f->mem + at, n);
    done += n;
  }
}

/* --- ops --- */

static struct sim_host *op_host(void *ctx, const struct tcp_conn *c) {
  struct sim_host *h = ctx;
  if (h->conn != c)
    sim_fail(h->sim, "host %d: an op for a connection that is not there", h->id);
  return h;
}

static uint32_t op_rx_place(void *ctx, struct tcp_conn *c, uint32_t off, const struct tcp_seg_in *seg, uint32_t skip,
                            uint32_t len) {
  struct sim_host *h = op_host(ctx, c);
  uint32_t placed = 0, room = h->rx.size - (h->rx.tail - h->rx.head);
  if (off + len > room || skip + len > seg->len) {
    sim_fail(h->sim, "host %d: places %u+%u (skip %u of %u), room %u", h->id, off, len, skip, seg->len, room);
    return 0;
  }
  if (rng_chance_ppm(&h->sim->rng, h->sim->cfg.no_chunk))
    len = (uint32_t)rng_below(&h->sim->rng, len + 1);
  for (uint32_t i = 0; i < seg->n_pieces && placed < len; i++) {
    if (skip >= seg->pieces[i].len) {
      skip -= seg->pieces[i].len;
      continue;
    }
    uint32_t n = HS_MIN(seg->pieces[i].len - skip, len - placed);
    fifo_poke(&h->rx, h->rx.tail + off + placed, seg->pieces[i].p + skip, n);
    placed += n;
    skip = 0;
  }
  return placed;
}

static void op_rx_publish(void *ctx, struct tcp_conn *c, uint32_t n) {
  struct sim_host *h = op_host(ctx, c);
  if (n > h->rx.size - (h->rx.tail - h->rx.head))
    sim_fail(h->sim, "host %d: publishes %u beyond its fifo", h->id, n);
  uint32_t mark = h->sim->host[!h->id].tx_urg; /* known before its byte is, whoever died meanwhile */
  if (mark - h->rx.tail - 1 < n && h->urg_pos != mark)
    sim_fail(h->sim, "host %d: urgent byte at %u comes, the mark told is %u", h->id, mark, h->urg_pos);
  h->rx.tail += n;
}

static void op_urgent(void *ctx, struct tcp_conn *c, uint32_t off) {
  struct sim_host *h = op_host(ctx, c);
  uint32_t mark = h->rx.tail + off, last = h->sim->host[!h->id].tx_urg;
  if (mark < h->urg_pos || mark > last)
    sim_fail(h->sim, "host %d: urgent mark %u after %u, %u was written", h->id, mark, h->urg_pos, last);
  h->urg_pos = mark;
}

static uint32_t op_rx_room(void *ctx, struct tcp_conn *c) {
  struct sim_host *h = op_host(ctx, c);
  return h->rx.size - (h->rx.tail - h->rx.head);
}

static uint32_t op_tx_used(void *ctx, struct tcp_conn *c) {
  struct sim_host *h = op_host(ctx, c);
  if (h->tx_urg - h->tx.head - 1 < h->tx.tail - h->tx.head)
    tcp_urgent(c, h->tx_urg);
  return h->tx.tail - h->tx.head;
}

static void op_tx_release(void *ctx, struct tcp_conn *c, uint32_t n) {
  struct sim_host *h = op_host(ctx, c);
  if (n > h->tx.tail - h->tx.head)
    sim_fail(h->sim, "host %d: releases %u of %u", h->id, n, h->tx.tail - h->tx.head);
  h->tx.head += n;
}

/* What must hold of every segment that leaves, whatever the engine's soft half thinks. */
static void send_check(struct sim_host *h, const struct tcp_seg_out *out) {
  const struct abi_tcb *d = &h->tcb;
  seq32_t end = out->seq + out->len + ((out->flags & TCP_SYN) != 0) + ((out->flags & TCP_FIN) != 0);
  if (out->flags & TCP_RST)
    return;
  if (seq_gt(end, d->snd_max))
    sim_fail(h->sim, "host %d: sends %u beyond snd_max", h->id, end - d->snd_max);
  if (!(out->flags & TCP_ACK) || (out->flags & TCP_SYN))
    return;
  seq32_t have = d->irs + 1 + h->rx.tail + ((d->fin & ABI_TCB_FIN_RCVD) != 0);
  if (seq_gt(out->ack, have))
    sim_fail(h->sim, "host %d: acknowledges %u bytes that a crash would forget", h->id, out->ack - have);
  if (seq_gt(out->ack + ((uint32_t)out->wnd << d->rcv_wscale), d->rcv_adv))
    sim_fail(h->sim, "host %d: promises more than is stored", h->id);
  if ((out->flags & TCP_FIN) && !(d->fin & ABI_TCB_FIN_SENT))
    sim_fail(h->sim, "host %d: FIN without its bit", h->id);
}

static int op_send(void *ctx, struct tcp_conn *c, const struct tcp_seg_out *out) {
  struct sim_host *h = op_host(ctx, c);
  send_check(h, out);
  if (rng_chance_ppm(&h->sim->rng, h->sim->cfg.blocked)) {
    h->starved = 1;
    return -ENOBUFS;
  }
  return sim_path_send(h->sim, h->id, out);
}

static void op_event(void *ctx, struct tcp_conn *c, enum tcp_event ev) {
  struct sim_host *h = op_host(ctx, c);
  if (ev != TCP_EV_CLOSED)
    return;
  h->ended = 1;
  h->end_error = h->tcb.error;
  tcp_tcb_free(&h->tcb);
  memset(c, 0x5a, sizeof *c);
  free(c); /* whoever touches it from here on is found by the sanitizer */
  h->conn = NULL;
  h->timer_at = UINT64_MAX;
}

static int op_offer(void *ctx, struct tcp_conn *c) {
  return op_host(ctx, c)->takes_offers;
}

static void op_timer(void *ctx, struct tcp_conn *c, usec_t when) {
  op_host(ctx, c)->timer_at = when;
}

static uint32_t op_gso_max(void *ctx, struct tcp_conn *c) {
  (void)op_host(ctx, c);
  return 64000;
}

static const struct tcp_env_ops sim_ops = {.rx_place = op_rx_place,
                                           .rx_publish = op_rx_publish,
                                           .rx_room = op_rx_room,
                                           .urgent = op_urgent,
                                           .tx_used = op_tx_used,
                                           .tx_release = op_tx_release,
                                           .send = op_send,
                                           .event = op_event,
                                           .offer = op_offer,
                                           .timer = op_timer,
                                           .gso_max = op_gso_max};

/* --- life of an engine --- */

static void host_env(struct sim_host *h) {
  const struct sim_case *c = &h->sim->cfg;
  memset(&h->env, 0, sizeof h->env);
  memset(h->counters, 0, sizeof h->counters);
  tcp_config_defaults(&h->env.cfg);
  h->env.cfg.sack = !c->no_sack;
  h->env.cfg.timestamps = !c->no_ts;
  if (c->newreno || c->cc != NULL)
    h->env.cfg.cc = (uint8_t)tcp_cc_find(c->cc != NULL ? c->cc : "newreno");
  h->env.cfg.pacing = !c->no_pacing;
  if (c->delack)
    h->env.cfg.delack = c->delack;
  h->env.cfg.ecn = c->ecn;
  h->env.cfg.wscale = !c->no_wscale;
  h->env.cfg.rcv_buf_max = c->fifo[h->id];
  h->env.cfg.data_retries = 30; /* the path is bad, but it is never gone */
  h->env.cfg.syn_retries = h->env.cfg.synack_retries = 30;
  h->env.cfg.rto_max = 10 * 1000 * 1000;
  h->env.ops = &sim_ops;
  h->env.ctx = h;
  h->env.counters = h->counters;
  tcp_env_memory(&h->env, h->logs, c->no_logs ? 0 : sizeof h->logs);
  tcp_env_busy(&h->env, h->busy, 8);
  for (unsigned i = 0; i < sizeof h->env.secret; i++)
    h->env.secret[i] = (uint8_t)(c->seed * 7 + i + (unsigned)h->id);
}

static void host_forget(struct sim_host *h) {
  if (h->conn != NULL) {
    memset(h->conn, 0x5a, sizeof *h->conn);
    free(h->conn);
  }
  h->conn = NULL;
  h->timer_at = UINT64_MAX;
  h->touched = h->starved = 0;
  for (unsigned i = 0; i < TCP_N_COUNTERS; i++)
    h->totals[i] += h->counters[i];
  memset(h->counters, 0, sizeof h->counters);
}

/** The engine of this host dies here and now. */
void sim_host_crash(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  host_forget(h);
  h->down = 1;
  h->crashes++;
  h->up_at = s->now + 1 + rng_below(&s->rng, s->cfg.down + 1);
}

/* A call into the engine of host `id`; it may die at a fault point inside. */
#define SIM_CALL(s, id, stmt)                                                                                          \
  do {                                                                                                                 \
    (s)->victim = (id);                                                                                                \
    if (setjmp((s)->crashed) == 0) {                                                                                   \
      stmt;                                                                                                            \
      (s)->victim = -1;                                                                                                \
    } else {                                                                                                           \
      (s)->victim = -1;                                                                                                \
      sim_host_crash((s), (id));                                                                                       \
    }                                                                                                                  \
  } while (0)

static struct tcp_conn *host_conn_new(struct sim_host *h) {
  h->conn = malloc(sizeof *h->conn);
  if (h->conn == NULL)
    abort();
  memset(h->conn, 0xa5, sizeof *h->conn);
  h->timer_at = UINT64_MAX;
  return h->conn;
}

static void host_record(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  uint32_t gen = h->tcb.gen + 1;
  memset(&h->tcb, 0, sizeof h->tcb);
  h->tcb.gen = gen;
  h->tcb.worker_id = 1;
  h->tcb.local = (struct abi_endpoint){.port = be16_from(id ? 80 : 40000), .family = s->cfg.family};
  h->tcb.remote = (struct abi_endpoint){.port = be16_from(id ? 40000 : 80), .family = s->cfg.family};
  memcpy(h->tcb.local.ip, s->addr[id].b, 16);
  memcpy(h->tcb.remote.ip, s->addr[!id].b, 16);
}

static uint32_t host_mtu(const struct sim *s) {
  return s->cfg.mtu ? s->cfg.mtu : 1500;
}

void sim_host_connect(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  host_record(s, id);
  host_conn_new(h);
  SIM_CALL(s, id, (void)tcp_connect(&h->env, h->conn, &h->tcb, host_mtu(s), s->now));
  h->touched = 1;
}

/* What the app's durable words ask for, said (again) to the engine. */
static void host_say(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  if (h->conn != NULL && h->want_abort)
    SIM_CALL(s, id, tcp_abort(&h->env, h->conn, ECONNABORTED, s->now));
  if (h->conn != NULL && h->want_shut && !h->want_close)
    SIM_CALL(s, id, tcp_shutdown(&h->env, h->conn, s->now));
  if (h->conn != NULL && h->want_close && !(h->tcb.fin & ABI_TCB_ORPHAN))
    SIM_CALL(s, id, tcp_close(&h->env, h->conn, h->rx.tail != h->rx.head, s->now));
}

/** A new engine: adopts what the record and the cursors say. */
void sim_host_adopt(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  volatile int r = 0; /* lives through a longjmp */
  h->down = 0;
  host_env(h);
  if (h->ended)
    return;
  if (h->tcb.life != ABI_TCB_USED) { /* died before the open was durable */
    if (!h->listening)
      sim_host_connect(s, id);
    return;
  }
  if (rng_chance_ppm(&s->rng, s->cfg.lose_ooo))
    memset(h->tcb.ooo, 0, sizeof h->tcb.ooo);
  host_conn_new(h);
  SIM_CALL(s, id, r = tcp_adopt(&h->env, h->conn, &h->tcb, h->tx.head, h->rx.tail, host_mtu(s), s->now));
  if (h->conn == NULL)
    return;
  if (r < 0) {
    free(h->conn);
    h->conn = NULL;
    if (h->tcb.state != ABI_TCP_CLOSED && h->tcb.state != ABI_TCP_LAST_ACK)
      sim_fail(s, "host %d: adoption refused in %s, fin %x, last fault point %s", id, tcp_state_name(h->tcb.state),
               h->tcb.fin, s->crash_name);
    h->ended = 1; /* the old engine had not come round to say so */
    h->end_error = h->tcb.error;
    tcp_tcb_free(&h->tcb);
    return;
  }
  host_say(s, id);
  h->touched = 1;
}

/* --- segments, output, timer --- */

static void host_stray(struct sim *s, int id, const struct tcp_seg_in *seg) {
  struct tcp_seg_out out;
  if (!s->host[id].ended) /* between two attempts to connect: silence */
    return;
  if (tcp_reply_closed(seg, &out))
    (void)sim_path_send(s, id, &out);
}

void sim_host_input(struct sim *s, int id, const struct tcp_seg_in *seg) {
  struct sim_host *h = &s->host[id];
  volatile int r = 0; /* lives through a longjmp */
  h->touched = 1;
  if (h->conn != NULL) {
    SIM_CALL(s, id, tcp_input(&h->env, h->conn, seg, s->now));
    return;
  }
  if (h->ended || !h->listening || !(seg->hdr.flags & TCP_SYN)) {
    host_stray(s, id, seg);
    return;
  }
  host_record(s, id);
  host_conn_new(h);
  SIM_CALL(s, id, r = tcp_passive_open(&h->env, h->conn, &h->tcb, seg, host_mtu(s), s->now));
  if (r < 0 && h->conn != NULL) {
    free(h->conn);
    h->conn = NULL;
    host_stray(s, id, seg);
  }
}

void sim_host_output(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  volatile int r = 0; /* lives through a longjmp */
  h->touched = h->starved = 0;
  if (h->conn != NULL)
    SIM_CALL(s, id, r = tcp_output(&h->env, h->conn, s->now));
  if (h->conn != NULL && r)
    h->starved = 1;
}

void sim_host_timer(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  h->timer_at = UINT64_MAX;
  if (h->conn != NULL)
    SIM_CALL(s, id, tcp_timer(&h->env, h->conn, s->now));
  h->touched = 1;
}

/* --- the app --- */

static int app_connected(const struct sim_host *h) {
  if (h->ended)
    return 1;
  return h->tcb.life == ABI_TCB_USED && h->tcb.state != ABI_TCP_SYN_SENT && h->tcb.state != ABI_TCP_SYN_RECEIVED;
}

static void app_read(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  uint32_t have = h->rx.tail - h->rx.head;
  if (have == 0 || rng_chance_ppm(&s->rng, s->cfg.slow_app))
    return;
  uint32_t n = HS_MIN(have, (uint32_t)rng_range(&s->rng, 1, s->cfg.read_max));
  for (uint32_t i = 0; i < n; i++) {
    uint8_t got = h->rx.mem[(h->rx.head + i) & (h->rx.size - 1)];
    if (got != sim_byte(s->cfg.seed, !id, h->read + i)) {
      sim_fail(s, "host %d: byte %llu is wrong (fault point %s)", id, (unsigned long long)(h->read + i), s->crash_name);
      return;
    }
  }
  if (id == 1 && h->read < s->cfg.mark && h->read + n >= s->cfg.mark)
    h->mark_at = s->now;
  h->read += n;
  if (h->read == s->cfg.bytes[!id])
    h->read_all_at = s->now;
  h->rx.head += n;
  if (h->conn != NULL && !h->want_close)
    SIM_CALL(s, id, tcp_rx_consumed(&h->env, h->conn, s->now));
}

static void app_write(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  uint64_t left = s->cfg.bytes[id] - h->written;
  uint32_t room = h->tx.size - (h->tx.tail - h->tx.head);
  if (h->want_shut || h->want_close || left == 0 || room == 0)
    return;
  uint32_t n = (uint32_t)HS_MIN(HS_MIN(left, (uint64_t)room), rng_range(&s->rng, 1, s->cfg.write_max));
  for (uint32_t i = 0; i < n; i++)
    h->tx.mem[(h->tx.tail + i) & (h->tx.size - 1)] = sim_byte(s->cfg.seed, id, h->written + i);
  h->written += n;
  if (s->cfg.urgent != 0 && rng_chance_ppm(&s->rng, s->cfg.urgent))
    h->tx_urg = h->tx.tail + n;
  h->tx.tail += n; /* published */
  h->touched = 1;
}

static void app_end(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  int all_written = h->written == s->cfg.bytes[id], all_read = h->read == s->cfg.bytes[!id];
  int was_shut = h->want_shut, was_close = h->want_close;
  if (!h->saw_eof && h->rx.tail == h->rx.head && (h->tcb.fin & ABI_TCB_FIN_RCVD)) {
    h->saw_eof = 1;
    if (!all_read && !s->cfg.abort_at)
      sim_fail(s, "host %d: end of stream at byte %llu of %u", id, (unsigned long long)h->read, s->cfg.bytes[!id]);
  }
  int closes_early = s->cfg.close_first == 2 || (s->cfg.close_first == 1 && id == 0);
  if (all_written && !closes_early)
    h->want_shut = 1;
  int heard = !s->cfg.patient || h->ended || (h->tcb.fin & ABI_TCB_FIN_ACKED);
  if (all_written && all_read && heard && (closes_early || h->saw_eof))
    h->want_close = 1;
  int was_abort = h->want_abort;
  if (s->cfg.abort_at && id == 0 && h->read >= s->cfg.abort_at)
    h->want_abort = 1;
  if (was_shut != h->want_shut || was_close != h->want_close || was_abort != h->want_abort)
    host_say(s, id);
}

/** One look of the app at its session. */
void sim_host_app(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  if (!h->takes_offers && s->now > 400000) {
    h->takes_offers = 1;
    if (h->conn != NULL)
      SIM_CALL(s, id, tcp_accept_ready(&h->env, h->conn, s->now));
  }
  if (!app_connected(h))
    return;
  app_read(s, id);
  app_write(s, id);
  app_end(s, id);
}

/* --- checks --- */

void sim_host_check(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  if (h->conn == NULL)
    return;
  int line = tcp_conn_check(&h->env, h->conn);
  if (line)
    sim_fail(s, "host %d: tcp_conn_check line %d in %s", id, line, tcp_state_name(h->tcb.state));
  if (!app_connected(h) || h->ended)
    return;
  seq32_t una = h->tcb.iss + 1 + h->tx.head + ((h->tcb.fin & ABI_TCB_FIN_ACKED) != 0);
  seq32_t nxt = h->tcb.irs + 1 + h->rx.tail + ((h->tcb.fin & ABI_TCB_FIN_RCVD) != 0);
  if (h->tcb.state != ABI_TCP_CLOSED && (una != h->conn->snd_una || nxt != h->conn->rcv_nxt))
    sim_fail(s, "host %d: soft sequence numbers have left the cursors", id);
}

static int fifo_init(struct sim_fifo *f, uint32_t size) {
  f->size = size;
  f->mem = malloc(size);
  return f->mem == NULL ? -ENOMEM : 0;
}

int sim_host_init(struct sim *s, int id) {
  struct sim_host *h = &s->host[id];
  memset(h, 0, sizeof *h);
  h->sim = s;
  h->id = id;
  h->timer_at = UINT64_MAX;
  h->takes_offers = !s->cfg.parked;
  h->listening = id == 1 && !s->cfg.simultaneous_open;
  host_env(h);
  return fifo_init(&h->tx, s->cfg.fifo[id]) < 0 || fifo_init(&h->rx, s->cfg.fifo[id]) < 0 ? -ENOMEM : 0;
}

void sim_host_fini(struct sim_host *h) {
  host_forget(h);
  free(h->tx.mem);
  free(h->rx.mem);
}
