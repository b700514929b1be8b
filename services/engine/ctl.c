/*
 * Control requests that the engine answers: sessions, TCP figures, counters, ring reset. Control thread.
 *
 * Reads the durable table and the session records (shared memory, written by the worker) without a lock, so that a long
 * list never stalls the data path; a row may be a moment old.
 */
#include "ctl_route.h"
#include "ctl_tcp.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"
#include "control.pb-c.h"
#include "ip/ip_counters.h"
#include "tcp/tcp_conn.h"
#include "wire/flow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SHOW_SESSION_MAX 10000u

#define COUNTERS_MAX ABI_STATS_MAX

static const char *const tcp_state_names[] = {"?",          "ESTABLISHED", "SYN_SENT",  "SYN_RECEIVED",
                                              "FIN_WAIT_1", "FIN_WAIT_2",  "TIME_WAIT", "CLOSED",
                                              "CLOSE_WAIT", "LAST_ACK",    "LISTEN",    "CLOSING"};

static const char *state_name(uint32_t state) {
  return state < sizeof tcp_state_names / sizeof *tcp_state_names ? tcp_state_names[state] : "?";
}

const struct abi_stat_desc *engine_counter_list(uint32_t *n) {
  static struct abi_stat_desc desc[COUNTERS_MAX];
  static uint32_t count;
  enum { info = 0, warn = 1, error = 2, gauge = 3 };
  if (!count) {
    uint32_t i = 0;
    struct abi_stat_desc *d;
#define FILL(stat_name, sev, text)                                                                                     \
  d = &desc[i++];                                                                                                      \
  snprintf(d->name, sizeof d->name, "%s", stat_name);                                                                  \
  snprintf(d->help, sizeof d->help, "%s", text);                                                                       \
  d->kind = (sev) == gauge;                                                                                            \
  d->severity = (sev) == gauge ? info : (uint32_t)(sev);
#define X(id, stat_name, sev, text) FILL(stat_name, sev, text)
    ENGINE_COUNTERS(X)
#undef X
#define X(id, sev, text) FILL("tcp." #id, sev, text)
    TCP_COUNTERS(X)
#undef X
#define X(id, stat_name, sev, text) FILL(stat_name, sev, text)
    IP_COUNTERS(X)
#undef X
#define X(id, sev, text) FILL("udp." #id, sev, text)
    UDP_COUNTERS(X)
#undef X
    count = i;
  }
  *n = count;
  return desc;
}

static char *text_endpoint(const struct abi_endpoint *ep) {
  struct ip_addr a;
  char ip[IP_ADDR_TEXT_MAX], *out = NULL;
  memcpy(&a, ep->ip, sizeof a);
  ip_addr_format(&a, ip, sizeof ip);
  if (asprintf(&out, ip_addr_is4(&a) ? "%s:%u" : "[%s]:%u", ip, be16_get(ep->port)) < 0)
    return NULL;
  return out;
}

/* Engine worker that has the connection. */
static uint32_t session_worker(const struct engine *e, const struct abi_tcb *d) {
  struct ip_addr local, remote;
  memcpy(&local, d->local.ip, sizeof local);
  memcpy(&remote, d->remote.ip, sizeof remote);
  return flow_worker(&local, be16_get(d->local.port), &remote, be16_get(d->remote.port), e->group.n);
}

/* Record halves of a worker that the control thread may look at; NULL when it is gone. */
static const struct app_worker *session_app(const struct engine *e, uint64_t worker_id) {
  for (uint32_t k = 0; e->running && k < e->group.n; k++) {
    const struct worker *w = e->group.w[k];
    for (uint32_t i = 0; i < w->n_apps && i < WORKER_APPS_MAX; i++) {
      const struct app_worker *a = __atomic_load_n(&w->app[i], __ATOMIC_ACQUIRE);
      if (a && a->id == worker_id)
        return a; /* freed by this very thread only */
    }
  }
  return NULL;
}

/* Bytes in a fifo whose words move while we look: the tail is read first, so that the answer is never too large. */
static uint32_t bytes_between(const uint32_t *tail, const uint32_t *head) {
  uint32_t end = __atomic_load_n(tail, __ATOMIC_ACQUIRE);
  int32_t used = (int32_t)(end - __atomic_load_n(head, __ATOMIC_ACQUIRE));
  return used > 0 ? (uint32_t)used : 0;
}

static const char *const recovery_names[] = {"open", "disorder", "", "recovery", "loss"};
static const char *const accept_names[] = {"active", "parked", "offered", "taken"};

static uint64_t ms_since(uint32_t at) {
  return at == 0 ? 0 : (((clock_now_us() >> 10) - at) & UINT32_MAX) * 1024 / 1000;
}

/* What the durable record says, for a verbose row. */
static void fill_verbose(const struct abi_tcb *d, Hoststack__Control__Session *row) {
  usec_t now = clock_now_us();
  char text[64];
  snprintf(text, sizeof text, "%s%s%s%s", d->nego & ABI_TCB_TS ? "timestamps " : "",
           d->nego & ABI_TCB_SACK ? "sack " : "", d->nego & ABI_TCB_WSCALE ? "wscale " : "",
           d->nego & ABI_TCB_ECN ? "ecn " : "");
  row->options = strdup(text);
  row->snd_wscale = d->snd_wscale;
  row->rcv_wscale = d->rcv_wscale;
  row->pmtu = d->pmtu;
  row->age_ms = now > d->created_at ? (now - d->created_at) / 1000 : 0;
  row->orphan = (d->fin & ABI_TCB_ORPHAN) != 0;
  row->accept = strdup(d->accept < ARRAY_LEN(accept_names) ? accept_names[d->accept] : "?");
  row->sack_block = calloc(ABI_TCB_OOO, sizeof *row->sack_block);
  for (unsigned i = 0; row->sack_block && i < ABI_TCB_OOO; i++) {
    if (d->ooo[i].l == d->ooo[i].r)
      continue;
    snprintf(text, sizeof text, "%u-%u", d->ooo[i].l - d->last_ack_sent, d->ooo[i].r - d->last_ack_sent);
    row->sack_block[row->n_sack_block++] = strdup(text);
  }
}

/* What the engine told the app, for a verbose row. */
static void fill_figures(const struct abi_sess_engine *eng, Hoststack__Control__Session *row) {
  const struct abi_tcp_figures *f = &eng->figures;
  const struct abi_tcp_more *m = &eng->more;
  row->rcv_mss = f->rcv_mss;
  row->pacing_kbps = f->pacing_kbps;
  row->reordering = f->reordering;
  row->lost = f->lost;
  row->min_rtt_us = m->min_rtt_us;
  row->rcv_rtt_us = m->rcv_rtt_us;
  row->rcv_space = m->rcv_space;
  row->unacked = m->unacked;
  row->sacked = m->sacked;
  row->rexmit_out = m->rexmit;
  row->recovery = strdup(m->ca_state < ARRAY_LEN(recovery_names) ? recovery_names[m->ca_state] : "?");
  row->backoff = m->backoff;
  row->probes = m->probes;
  row->tx_limit = eng->tx_limit;
  row->rx_limit = (uint32_t)row->rx_queue + f->rcv_wnd;
  row->sent_ms_ago = ms_since(m->data_sent_at);
  row->received_ms_ago = ms_since(m->data_rcvd_at);
}

static void fill_from_record(const struct engine *e, const struct abi_tcb *d, int verbose,
                             Hoststack__Control__Session *row) {
  const struct abi_reg_worker *reg = engine_reg_worker(e, d->worker_id);
  const struct abi_reg_app *app = reg ? engine_reg_app(e, reg->app_id) : NULL;
  const struct abi_reg_proc *proc = reg ? engine_reg_proc(e, reg->proc_id) : NULL;
  const struct app_worker *a = session_app(e, d->worker_id);
  row->app = app ? strndup(app->name, sizeof app->name) : NULL;
  row->proc_pid = proc ? proc->pid : 0;
  const struct abi_sess_engine *eng = a ? worker_view_engine(&a->v, d->slot) : NULL;
  const struct abi_sess_app *half = a ? worker_view_app(&a->v, d->slot) : NULL;
  if (!eng || eng->gen != d->slot_gen)
    return;
  if (half->gen == d->slot_gen) {
    row->rx_queue = bytes_between(&eng->rx.tail, &half->rx_head);
    row->tx_queue = bytes_between(&half->tx.tail, &eng->tx_head);
  }
  const struct abi_tcp_figures *f = &eng->figures;
  row->cwnd = f->cwnd;
  row->ssthresh = f->ssthresh;
  row->srtt_us = f->srtt_us;
  row->rttvar_us = f->rttvar_us;
  row->rto_us = f->rto_us;
  row->in_flight = f->in_flight;
  row->rcv_wnd = f->rcv_wnd;
  row->retransmits = f->retrans_total;
  if (verbose)
    fill_figures(eng, row);
}

static Hoststack__Control__Session *session_row(const struct engine *e, uint32_t i, const struct abi_tcb *d,
                                                int verbose) {
  Hoststack__Control__Session *row = malloc(sizeof *row);
  if (!row)
    return NULL;
  hoststack__control__session__init(row);
  row->index = i;
  row->proto = strdup("tcp");
  row->local = text_endpoint(&d->local);
  row->remote = text_endpoint(&d->remote);
  row->state = strdup(state_name(d->state));
  row->cc = strdup(d->state == ABI_TCP_TIME_WAIT ? "-" : tcp_cc_name(d->cc));
  row->worker_id = d->worker_id;
  row->slot = d->slot;
  row->engine_worker = session_worker(e, d);
  row->vrf = d->vrf;
  row->snd_wnd = d->snd_wnd;
  row->mss = d->mss;
  if (verbose)
    fill_verbose(d, row);
  fill_from_record(e, d, verbose, row);
  if (!row->app)
    row->app = strdup(d->worker_id ? "?" : "-");
  return row;
}

/* A connection counts, and its row is added if the page wants it. */
static int session_add(const struct engine *e, Hoststack__Control__Sessions *s,
                       const Hoststack__Control__ShowSession *q, uint32_t limit, uint32_t i, const struct abi_tcb *d) {
  if (s->total++ < q->offset || s->n_session == limit)
    return 0;
  s->session[s->n_session] = session_row(e, i, d, q->verbose);
  if (!s->session[s->n_session])
    return -ENOMEM;
  s->n_session++;
  return 0;
}

/* Those that wait in compact records come last, numbered behind the TCBs. */
static int show_timewait(const struct engine *e, Hoststack__Control__Sessions *s,
                         const Hoststack__Control__ShowSession *q, uint32_t limit) {
  const struct timewait *t = &e->worker.timewait;
  uint32_t high = e->running && t->tw ? __atomic_load_n(&e->worker.tcbs.block->tw_high, __ATOMIC_ACQUIRE) : 0;
  int rc = 0;
  for (uint32_t i = 0; i < high && i < t->n && rc == 0; i++) {
    struct abi_tw w = t->tw[i];
    struct abi_tcb d = {.state = ABI_TCP_TIME_WAIT, .nego = w.nego, .vrf = abi_tw_vrf(&w)};
    if (w.life != ABI_TW_USED)
      continue;
    memcpy(d.local.ip, w.local, sizeof d.local.ip);
    memcpy(d.remote.ip, w.remote, sizeof d.remote.ip);
    d.local.port = be16_from(w.lport);
    d.remote.port = be16_from(w.rport);
    rc = session_add(e, s, q, limit, (uint32_t)e->worker.tcbs.geom.n + i, &d);
  }
  return rc;
}

/* Sessions of datagrams of one app worker: their records are all there is. */
static int show_app_datagrams(const struct engine *e, const struct app_worker *a, Hoststack__Control__Sessions *s,
                              const Hoststack__Control__ShowSession *q, uint32_t limit) {
  uint32_t n = (uint32_t)a->v.ga.n_slots_app, high = __atomic_load_n(&a->v.app->slots_high, __ATOMIC_ACQUIRE);
  int rc = 0;
  for (uint32_t slot = 0; slot < n && slot < high && rc == 0; slot++) {
    const struct abi_sess_engine *eng = worker_view_engine(&a->v, slot);
    if (eng->proto != transport_udp.proto || __atomic_load_n(&eng->state, __ATOMIC_ACQUIRE) != ABI_SESS_READY)
      continue;
    struct abi_tcb d = {
        .local = eng->local, .remote = eng->remote, .worker_id = a->id, .slot = slot, .slot_gen = eng->gen};
    uint32_t before = (uint32_t)s->n_session;
    rc = session_add(e, s, q, limit, slot, &d);
    if (rc || s->n_session == before)
      continue;
    Hoststack__Control__Session *row = s->session[before];
    free(row->proto);
    free(row->state);
    free(row->cc);
    row->proto = strdup("udp");
    row->state = strdup(eng->remote.family ? "CONNECTED" : "OPEN");
    row->cc = strdup("-");
    row->engine_worker = __atomic_load_n(&eng->lane, __ATOMIC_RELAXED);
    row->vrf = a->sh->vrf;
    row->lost = eng->figures.lost;
  }
  return rc;
}

static int show_datagrams(const struct engine *e, Hoststack__Control__Sessions *s,
                          const Hoststack__Control__ShowSession *q, uint32_t limit) {
  int rc = 0;
  for (uint32_t i = 0; e->running && i < e->worker.n_apps && i < WORKER_APPS_MAX && rc == 0; i++) {
    const struct app_worker *a = __atomic_load_n(&e->worker.app[i], __ATOMIC_ACQUIRE);
    if (a) /* freed by this very thread only */
      rc = show_app_datagrams(e, a, s, q, limit);
  }
  return rc;
}

static int show_session(struct engine *e, const Hoststack__Control__ShowSession *q, Hoststack__Control__Reply *r) {
  Hoststack__Control__Sessions *s = calloc(1, sizeof *s);
  uint32_t limit = q->limit && q->limit < SHOW_SESSION_MAX ? q->limit : SHOW_SESSION_MAX;
  if (!s)
    return -ENOMEM;
  hoststack__control__sessions__init(s);
  r->body_case = HOSTSTACK__CONTROL__REPLY__BODY_SESSIONS;
  r->sessions = s;
  s->session = calloc(limit, sizeof(Hoststack__Control__Session *));
  if (!s->session)
    return -ENOMEM;
  uint32_t high = e->running ? __atomic_load_n(&e->worker.tcbs.block->high, __ATOMIC_ACQUIRE) : 0;
  int rc = 0;
  for (uint32_t i = 0; i < high && i < e->worker.tcbs.geom.n && rc == 0; i++) {
    struct abi_tcb d = e->worker.tcbs.tcb[i];
    if (d.life == ABI_TCB_USED)
      rc = session_add(e, s, q, limit, i, &d);
  }
  rc = rc ? rc : show_timewait(e, s, q, limit);
  return rc ? rc : show_datagrams(e, s, q, limit);
}

static Hoststack__Control__Counter *counter_row(const char *name, uint64_t value, const char *help, uint32_t sev) {
  Hoststack__Control__Counter *c = malloc(sizeof *c);
  if (!c)
    return NULL;
  hoststack__control__counter__init(c);
  c->name = strdup(name);
  c->help = strdup(help);
  c->value = value;
  c->severity = sev;
  return c;
}

static int fill_counters(struct engine *e, const char *prefix, Hoststack__Control__Counter ***rows, size_t *n) {
  uint32_t count;
  const struct abi_stat_desc *desc = engine_counter_list(&count);
  engine_count(e);
  *rows = calloc(count, sizeof **rows);
  if (!*rows)
    return -ENOMEM;
  for (uint32_t i = 0; i < count; i++) {
    if (strncmp(desc[i].name, prefix, strlen(prefix)) != 0)
      continue;
    uint64_t value = e->counters ? __atomic_load_n(&e->counters[i], __ATOMIC_RELAXED) : 0;
    Hoststack__Control__Counter *c = counter_row(desc[i].name, value, desc[i].help, desc[i].severity);
    if (!c)
      return -ENOMEM;
    (*rows)[(*n)++] = c;
  }
  return 0;
}

static int fill_states(const struct engine *e, Hoststack__Control__Tcp *t) {
  uint64_t by_state[12] = {0};
  uint32_t high = e->running ? __atomic_load_n(&e->worker.tcbs.block->high, __ATOMIC_ACQUIRE) : 0;
  for (uint32_t i = 0; i < high && i < e->worker.tcbs.geom.n; i++)
    if (e->worker.tcbs.tcb[i].life == ABI_TCB_USED && e->worker.tcbs.tcb[i].state < 12)
      by_state[e->worker.tcbs.tcb[i].state]++;
  for (uint32_t k = 0; e->running && k < e->group.n; k++)
    by_state[ABI_TCP_TIME_WAIT] += __atomic_load_n(&e->group.w[k]->timewait.used, __ATOMIC_RELAXED);
  t->connections_by_state = calloc(12, sizeof *t->connections_by_state);
  if (!t->connections_by_state)
    return -ENOMEM;
  for (uint32_t i = 1; i < 12; i++) {
    Hoststack__Control__Counter *c = counter_row(state_name(i), by_state[i], "", 0);
    if (!c)
      return -ENOMEM;
    t->connections_by_state[t->n_connections_by_state++] = c;
  }
  return 0;
}

static int show_tcp(struct engine *e, Hoststack__Control__Reply *r) {
  Hoststack__Control__Tcp *t = calloc(1, sizeof *t);
  if (!t)
    return -ENOMEM;
  hoststack__control__tcp__init(t);
  r->body_case = HOSTSTACK__CONTROL__REPLY__BODY_TCP;
  r->tcp = t;
  int rc = fill_counters(e, "tcp.", &t->counter, &t->n_counter);
  return rc ? rc : fill_states(e, t);
}

static int show_stats(struct engine *e, Hoststack__Control__Reply *r) {
  Hoststack__Control__Stats *s = calloc(1, sizeof *s);
  if (!s)
    return -ENOMEM;
  hoststack__control__stats__init(s);
  r->body_case = HOSTSTACK__CONTROL__REPLY__BODY_STATS;
  r->stats = s;
  return fill_counters(e, "", &s->counter, &s->n_counter);
}

static void mail_reset(struct worker *w, void *arg) {
  (void)arg;
  worker_reset_rings(w);
}

static int reset_rings(struct engine *e) {
  if (!e->running)
    return -EAGAIN;
  log_info("engine.reset_rings", "everything in flight is thrown away by request");
  return mailbox_post(&e->worker.mail, mail_reset, NULL);
}

static int dispatch(struct engine *e, const Hoststack__Control__Request *q, Hoststack__Control__Reply *r) {
  switch (q->body_case) {
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_SESSION:
    return show_session(e, q->show_session, r);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_TCP:
    return show_tcp(e, r);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_STATS:
    return show_stats(e, r);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_INTERFACE:
    return engine_show_interface(e, r);
  case HOSTSTACK__CONTROL__REQUEST__BODY_RESET_RINGS:
    return reset_rings(e);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_TCP_CONFIG:
    return ctl_show_tcp_config(e, r);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SET_TCP:
    return ctl_set_tcp(e, q->set_tcp, r);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_ROUTE:
    return ctl_show_route(e, q->show_route, r);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_NEIGHBOR:
    return ctl_show_neighbor(e, r);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SET_ROUTE:
    return ctl_set_route(e, q->set_route, r);
  default:
    return -EOPNOTSUPP;
  }
}

int engine_ctl(void *ctx, const uint8_t *req, size_t req_len, uint8_t **reply, size_t *reply_len) {
  struct engine *e = ctx;
  Hoststack__Control__Request *q = hoststack__control__request__unpack(NULL, req_len, req);
  if (!q)
    return svc_error_reply(EBADMSG, "engine: not a control Request", reply, reply_len);
  int rc;
  if (q->body_case == HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_VERSION) {
    rc = svc_version_reply(&e->svc, e->running ? e->worker.tcbs.block->epoch : 0, reply, reply_len);
    goto out;
  }
  Hoststack__Control__Reply *r = malloc(sizeof *r);
  if (!r) {
    rc = svc_error_reply(ENOMEM, NULL, reply, reply_len);
    goto out;
  }
  hoststack__control__reply__init(r);
  rc = dispatch(e, q, r);
  if (rc)
    rc = svc_error_reply(rc, rc == -EOPNOTSUPP ? "engine: no such request here" : NULL, reply, reply_len);
  else
    rc = svc_pack_reply(r, reply, reply_len);
  hoststack__control__reply__free_unpacked(r, NULL);
out:
  hoststack__control__request__free_unpacked(q, NULL);
  return rc;
}
