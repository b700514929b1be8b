/*
 * Sessions of datagrams: opening, connecting, sending and receiving (abi/dgram.h, abi/session.h: op OPEN).
 *
 * Called by the program's threads under the worker's mutex; a call that waits releases it. A datagram is put into the
 * tx fifo whole, with its header, and published by one store. Every header that the engine wrote is copied once and
 * checked. Requests go one at a time through the session's record; none of them ever waits for the network, only for
 * the engine's next look.
 */
#include "vcl_dgram.h"

#include "abi/dgram.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "vcl_app.h"
#include "vcl_branch.h"
#include "vcl_parts.h"
#include "vcl_peers.h"
#include "vcl_roam.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#define DGRAM_ANSWER_US (10 * CLOCK_US_PER_S) /* the engine may be away, and on its way back */
#define DGRAM_SEGS_MAX  128u
#define DGRAM_GROUPS    8u /* as the engine keeps for a session */

static int dgram_is_any(const uint8_t ip[16]) {
  static const uint8_t zero[16];
  return memcmp(ip, zero, sizeof zero) == 0;
}

static int dgram_is_limited_broadcast(const uint8_t ip[16]) {
  static const uint8_t all[16] = {[10] = 0xff, [11] = 0xff, [12] = 0xff, [13] = 0xff, [14] = 0xff, [15] = 0xff};
  return memcmp(ip, all, sizeof all) == 0;
}

/* --- requests --- */

/** Until the engine has acted on the last request, or the session has ended. Worker stays entered. */
static int dgram_answered(const struct session *s) {
  if (s->life == SESSION_ZOMBIE || s->broken != 0)
    return 1;
  struct session_facts f = session_facts(s);
  if (f.state == ABI_SESS_CLOSED)
    return 1;
  return f.state == ABI_SESS_READY && __atomic_load_n(&s->e->req_seen, __ATOMIC_ACQUIRE) == s->a->req_seq;
}

static int dgram_wait_answer(struct session *s) {
  struct worker *w = s->w;
  usec_t deadline = clock_now_us() + DGRAM_ANSWER_US;
  home_flush(s->home);
  (void)worker_pump(w);
  struct waiter *wt = NULL;
  int rc = 0;
  s->pins++;
  if (!dgram_answered(s)) {
    wt = waiter_get(w);
    rc = wt == NULL ? -ENOMEM : waiter_watch(wt, &s->watchers);
  }
  while (rc == 0 && !dgram_answered(s)) {
    rc = waiter_wait(wt, deadline);
    if (rc == -EINTR)
      rc = 0; /* the answer is near, and the call could not be begun anew */
  }
  if (wt != NULL)
    waiter_put(wt);
  int gone = s->life == SESSION_ZOMBIE;
  session_unpin(s);
  return gone ? -EBADF : rc;
}

static void dgram_fill(struct session *s, uint8_t kind, const struct vcl_dgram *to) {
  struct abi_request *rq = &s->a->req;
  memset(rq, 0, sizeof *rq);
  rq->id = 1;
  rq->proto = s->proto;
  rq->v6only = s->v6only;
  rq->reuse = (uint8_t)(s->reuse | (app_state.cfg.scope_global ? 0u : ABI_REQ_LOCAL));
  rq->kind = kind;
  rq->vrf = s->opt.vrf;
  rq->local = s->local;
  if (rq->local.family == 0)
    rq->local.family = s->domain == 4 ? 4 : s->domain == 6 ? 6 : 0;
  if (to == NULL)
    return;
  memcpy(rq->remote.ip, to->ip, sizeof rq->remote.ip);
  rq->remote.port.raw = to->port;
  rq->remote.family = to->family;
  rq->ifindex = to->ifindex;
  if (kind == ABI_REQ_JOIN || kind == ABI_REQ_LEAVE)
    memcpy(rq->local.ip, to->local, sizeof rq->local.ip);
}

/** How the last request went. 0 or -errno. */
static int dgram_outcome(struct session *s) {
  session_settle(s);
  if (s->broken != 0)
    return -s->broken;
  struct session_facts f = session_facts(s);
  if (f.state == ABI_SESS_READY) {
    uint32_t err = __atomic_load_n(&s->e->req_error, __ATOMIC_RELAXED);
    return err < 4096 ? -(int)err : -EPROTO;
  }
  return f.error != 0 && f.error < 4096 ? -(int)f.error : -ECONNABORTED;
}

/* req → op → hint */
int dgram_open(struct session *s, uint8_t kind, const struct vcl_dgram *to) {
  if (s->home->detached)
    return -ENETDOWN;
  if (s->domain == 0)
    s->domain = s->local.family != 0 ? s->local.family : to != NULL ? to->family : 4;
  dgram_fill(s, kind, to);
  __atomic_store_n(&s->a->req_seq, 1u, __ATOMIC_RELAXED);
  FAULT_POINT("vcl.open");
  __atomic_store_n(&s->a->op, (uint32_t)ABI_OP_OPEN, __ATOMIC_RELEASE);
  stage_set(s, SESSION_CONNECT);
  session_hint(s);
  int rc = dgram_wait_answer(s);
  if (rc == 0)
    rc = dgram_outcome(s);
  if (rc < 0 && rc != -EBADF && s->life == SESSION_OPEN && s->failed) { /* as if it had never been tried */
    int again = session_renew(s);
    if (again < 0)
      return again;
  }
  if (rc == 0)
    s->connected = kind == ABI_REQ_CONNECT && to != NULL && to->family != 0;
  return rc;
}

int dgram_bound(struct session *s) {
  return dgram_open(s, ABI_REQ_CONNECT, NULL);
}

/** A request of an open session. */
static int dgram_request(struct session *s, uint8_t kind, const struct vcl_dgram *to) {
  s->asking++;
  int rc = dgram_wait_answer(s); /* to another thread's, or to one about a group */
  if (rc < 0 || s->broken != 0) {
    s->asking--;
    return rc < 0 ? rc : -s->broken;
  }
  dgram_fill(s, kind, to);
  FAULT_POINT("vcl.request");
  __atomic_store_n(&s->a->req_seq, s->a->req_seq + 1, __ATOMIC_RELEASE);
  session_hint(s);
  rc = dgram_wait_answer(s);
  s->asking--;
  return rc < 0 ? rc : dgram_outcome(s);
}

int dgram_connect(struct session *s, const struct vcl_dgram *peer) {
  session_settle(s);
  if (s->life == SESSION_NEW) {
    int made = peer->family != 0 ? dgram_open(s, ABI_REQ_CONNECT, peer) : 0;
    if (made == 0 && peer->family != 0)
      branch_connected(s);
    return made;
  }
  if (s->life != SESSION_OPEN)
    return -EINVAL;
  int rc = dgram_request(s, ABI_REQ_CONNECT, peer);
  if (rc == 0)
    s->connected = peer->family != 0;
  if (rc == 0 && s->connected && s->accepts)
    peers_end(s);
  if (rc == 0 && ready_error(s) != 0)
    (void)ready_take_error(s); /* of the former peer */
  if (rc == 0)
    branch_connected(s);
  return rc;
}

/* --- receive --- */

static int dgram_lied(struct session *s) {
  if (s->broken == 0)
    s->broken = ECONNRESET;
  return -ECONNRESET;
}

int dgram_head(struct session *s, struct abi_dgram *d) {
  int64_t used = fifo_cons_used(&s->rx);
  if (used <= 0)
    return (int)used;
  if (used < (int64_t)sizeof *d || fifo_cons_peek(&s->rx, 0, d, sizeof *d) != (int64_t)sizeof *d ||
      d->len > ABI_DGRAM_MAX || used - (int64_t)sizeof *d < (int64_t)d->len)
    return -EPROTO;
  return 1;
}

int dgram_nread(struct session *s) {
  struct abi_dgram d;
  session_settle(s);
  if (s->life != SESSION_OPEN || !s->fifos_open)
    return 0;
  if (peers_pending(s))
    return (int)peers_head(s)->len;
  struct session *from = branch_source(s);
  session_lock(from);
  int rc = dgram_head(from, &d);
  session_unlock(from);
  branch_turn(s, from, 0);
  return rc > 0 ? (int)d.len : 0;
}

/** Copies what fits of the datagram at the head. Bytes or -EPROTO. */
static int dgram_copy(struct session *s, const struct abi_dgram *d, const struct iovec *iov, int n) {
  uint32_t done = 0;
  for (int i = 0; i < n && done < d->len; i++) {
    uint32_t part = (uint32_t)HS_MIN(iov[i].iov_len, (size_t)(d->len - done));
    if (part != 0 && fifo_cons_peek(&s->rx, (uint32_t)sizeof *d + done, iov[i].iov_base, part) != (int64_t)part)
      return -EPROTO;
    done += part;
  }
  return (int)done;
}

/** What stands beside a datagram that was read; its time only if the engine wrote it. */
static void dgram_fill_out(const struct abi_dgram *d, int engines, struct vcl_dgram *out) {
  memset(out, 0, sizeof *out);
  memcpy(out->ip, d->ip, sizeof out->ip);
  memcpy(out->local, d->local, sizeof out->local);
  out->port = d->port.raw;
  out->family = d->family;
  out->ifindex = d->ifindex;
  out->tos = d->tos;
  out->ttl = d->ttl;
  out->len = d->len;
  if ((d->flags & ABI_DGRAM_STAMPED) == 0)
    return;
  usec_t now = clock_now_us();
  uint32_t age = (uint32_t)now - ((d->ifindex & 0xffff0000u) | d->seg);
  out->ifindex = d->ifindex & 0xffffu;
  out->stamp_us = engines && age < now ? now - age : 0;
}

/** Whether d may be put behind `first`. */
static int dgram_is_like(const struct abi_dgram *d, const struct vcl_dgram *first, const struct iovec *iov, int n) {
  size_t room = 0;
  for (int i = 0; i < n; i++)
    room += iov[i].iov_len;
  return d->len != 0 && d->len <= first->len && d->len <= room && d->port.raw == first->port &&
         d->family == first->family && d->tos == first->tos && d->ttl == first->ttl &&
         memcmp(d->ip, first->ip, sizeof d->ip) == 0 && memcmp(d->local, first->local, sizeof d->local) == 0;
}

/** One that is kept here (vcl_peers.h). Bytes. */
static int dgram_recv_kept(struct session *s, const struct iovec *iov, int n, int flags, struct vcl_dgram *out) {
  uint32_t len = peers_head(s)->len;
  int got = peers_copy(s, iov, n);
  if (out != NULL)
    dgram_fill_out(peers_head(s), 0, out);
  if ((flags & MSG_PEEK) == 0)
    peers_consume(s);
  return (flags & MSG_TRUNC) != 0 ? (int)len : got;
}

/** Takes, or looks at, the datagram that comes next, in *from its own fifo or a branch's. Bytes, *some = 0: there is
 * none. -EPROTO: what the engine wrote makes no sense; a branch of that kind ends, and the next one is looked at. */
static int dgram_take(struct session *s, const struct iovec *iov, int n, int flags, struct abi_dgram *d,
                      struct session **from, int *some) {
  for (;;) {
    struct session *f = branch_source(s);
    session_lock(f);
    int rc = dgram_head(f, d);
    int got = rc > 0 ? dgram_copy(f, d, iov, n) : rc;
    if (got >= 0 && rc > 0 && (flags & MSG_PEEK) == 0)
      fifo_cons_consume(&f->rx, (uint32_t)sizeof *d + d->len);
    session_unlock(f);
    *from = f;
    *some = rc > 0;
    if (got >= 0 || f == s)
      return got;
    branch_lied(f);
  }
}

static int dgram_recv_once(struct session *s, const struct iovec *iov, int n, int flags, struct vcl_dgram *out) {
  struct abi_dgram d;
  struct session *from;
  int some;
  session_settle(s);
  if (s->life != SESSION_OPEN || !s->fifos_open)
    return s->broken != 0 ? -s->broken : -EAGAIN; /* nothing can have come yet */
  int err = ready_take_error(s);
  if (err != 0)
    return -err;
  if (peers_pending(s))
    return dgram_recv_kept(s, iov, n, flags, out);
  branch_arm(s);
  int got = dgram_take(s, iov, n, flags, &d, &from, &some);
  if (got < 0)
    return dgram_lied(s);
  if (!some)
    return s->shut_rd ? 0 : -EAGAIN;
  branch_turn(s, from, (flags & MSG_PEEK) == 0);
  if (from != s)
    branch_names(from, &d);
  else
    roam_heard(s, &d);
  if (out != NULL)
    dgram_fill_out(&d, from == s, out);
  return (flags & MSG_TRUNC) != 0 ? (int)d.len : got;
}

/** vcl_dgram_recv_like: from the engine's fifo alone. */
static int dgram_recv_like(struct session *s, const struct iovec *iov, int n, const struct vcl_dgram *first) {
  struct abi_dgram d;
  session_settle(s);
  if (s->life != SESSION_OPEN || !s->fifos_open || peers_pending(s) || branch_source(s) != s)
    return -EAGAIN;
  session_lock(s);
  int rc = dgram_head(s, &d);
  int got = rc > 0 && dgram_is_like(&d, first, iov, n) ? dgram_copy(s, &d, iov, n) : -EAGAIN;
  if (got >= 0)
    fifo_cons_consume(&s->rx, (uint32_t)sizeof d + d.len);
  session_unlock(s);
  if (got >= 0)
    branch_turn(s, s, 1);
  return got; /* an impossible head is the next read's to find */
}

int dgram_recv(struct session *s, const struct iovec *iov, int n, int flags, struct vcl_dgram *out) {
  int block = !s->nonblock && (flags & MSG_DONTWAIT) == 0;
  if ((flags & MSG_OOB) != 0)
    return -EOPNOTSUPP;
  for (;;) {
    int rc = dgram_recv_once(s, iov, n, flags, out);
    if (rc == -EAGAIN && cut_pump(s->w) > 0)
      rc = dgram_recv_once(s, iov, n, flags, out);
    if (rc != -EAGAIN || !block)
      return rc;
    home_flush(s->home);
    rc = ready_wait(s, EPOLLIN | EPOLLRDHUP, -1);
    if (rc < 0)
      return rc;
  }
}

/* --- send --- */

/** The header of a datagram to send. 0 or -errno as Linux gives it. */
static int dgram_header(const struct session *s, uint32_t len, const struct vcl_dgram *in, struct abi_dgram *d) {
  memset(d, 0, sizeof *d);
  d->len = len;
  d->tos = s->opt.tos;
  d->flags = (s->opt.flags & ABI_OPT_BROADCAST) != 0 ? ABI_DGRAM_BROADCAST : 0;
  if (in != NULL) {
    memcpy(d->ip, in->ip, sizeof d->ip);
    memcpy(d->local, in->local, sizeof d->local);
    d->port.raw = in->port;
    d->family = in->family;
    d->flags |= in->flags;
    d->ifindex = in->ifindex;
    d->seg = in->seg;
    d->tos = in->tos != 0 ? in->tos : d->tos;
    d->ttl = in->ttl;
  }
  if (d->family == 0 && !s->connected)
    return -EDESTADDRREQ;
  if (d->family != 0 && (d->port.raw == 0 || dgram_is_any(d->ip)))
    return -EINVAL;
  if (len > (d->family == 6 || (d->family == 0 && s->e->remote.family == 6) ? ABI_DGRAM_MAX : ABI_DGRAM_MAX - 20u))
    return -EMSGSIZE;
  if (d->seg != 0 && len > DGRAM_SEGS_MAX * (uint32_t)d->seg)
    return -EINVAL;
  if (d->family == 4 && dgram_is_limited_broadcast(d->ip) && (d->flags & ABI_DGRAM_BROADCAST) == 0)
    return -EACCES;
  uint32_t piece = d->seg != 0 ? HS_MIN(len, (uint32_t)d->seg) : len;
  if ((d->flags & ABI_DGRAM_UNCUT) != 0 && s->connected && piece > __atomic_load_n(&s->e->mss, __ATOMIC_RELAXED))
    return -EMSGSIZE;
  return 0;
}

/** Places and publishes it. Bytes, -EAGAIN when there is no room or memory, -EPROTO. Under session_lock. */
static int dgram_put(struct session *s, const struct abi_dgram *d, const struct iovec *iov, int n) {
  uint32_t at = sizeof *d, need = (uint32_t)sizeof *d + d->len;
  int64_t room = fifo_prod_room(&s->tx);
  if (room < 0)
    return -EPROTO;
  if (room < (int64_t)need)
    return -EAGAIN;
  int64_t put = fifo_prod_place(&s->tx, 0, d, sizeof *d);
  for (int i = 0; i < n && put >= 0 && put == (int64_t)at; i++) {
    int64_t got = iov[i].iov_len != 0 ? fifo_prod_place(&s->tx, at, iov[i].iov_base, (uint32_t)iov[i].iov_len) : 0;
    at += (uint32_t)iov[i].iov_len;
    put = got < 0 ? got : put + got;
  }
  if (put < 0)
    return -EPROTO;
  if (put < (int64_t)need)
    return -EAGAIN; /* the arena is short: nothing was published */
  FAULT_POINT("vcl.dgram");
  held_note(s);
  fifo_prod_publish(&s->tx, need);
  return (int)d->len;
}

static int dgram_send_once(struct session *s, uint32_t len, const struct iovec *iov, int n,
                           const struct vcl_dgram *to) {
  struct abi_dgram d;
  int rc = ready_take_error(s);
  if (rc != 0)
    return -rc;
  rc = dgram_header(s, len, to, &d);
  if (rc < 0)
    return rc;
  rc = branch_send(s, &d, iov, n);
  if (rc != -ENOENT)
    return rc;
  if (ready_tx_room(s) < 0)
    return dgram_lied(s);
  session_lock(s);
  rc = dgram_put(s, &d, iov, n);
  session_unlock(s);
  if (rc == -EAGAIN && !s->home->forked && ready_tx_room(s) >= (int64_t)(sizeof d + len)) {
    worker_trim(s->w); /* idle sessions may hold memory */
    rc = dgram_put(s, &d, iov, n);
    if (rc == -EAGAIN)
      parts_starve(s);
  }
  parts_note(s);
  if (rc == -EPROTO)
    return dgram_lied(s);
  if (rc >= 0)
    session_hint(s);
  return rc;
}

void dgram_again(struct session *s, const struct abi_dgram *d, const struct iovec *iov) {
  if (s->life != SESSION_OPEN || s->broken != 0 || ready_tx_room(s) < 0)
    return;
  session_lock(s);
  int rc = dgram_put(s, d, iov, 1);
  session_unlock(s);
  if (rc >= 0)
    session_hint(s);
}

/** Room in the fifo, or a moment if it is memory that is short. */
static int dgram_wait_room(struct session *s, uint32_t need) {
  struct worker *w = s->w;
  home_flush(s->home);
  if (ready_tx_room(s) < (int64_t)need)
    return ready_wait(s, EPOLLOUT, -1);
  s->pins++;
  worker_unlock(w);
  (void)poll(NULL, 0, 1);
  worker_lock(w);
  int gone = s->life == SESSION_ZOMBIE;
  session_unpin(s);
  return gone ? -EBADF : 0;
}

/** A session that sends before it is bound gets a port first. */
static int dgram_ready(struct session *s, const struct vcl_dgram *to) {
  session_settle(s);
  if (s->broken != 0)
    return -s->broken;
  if (s->life == SESSION_NEW) {
    if (to == NULL || to->family == 0)
      return -EDESTADDRREQ;
    if (to->port == 0 || dgram_is_any(to->ip))
      return -EINVAL;
    return dgram_open(s, ABI_REQ_PROBE, to);
  }
  if (s->life == SESSION_CONNECT) { /* another thread opens it */
    int rc = dgram_wait_answer(s);
    session_settle(s);
    return rc < 0 ? rc : s->life == SESSION_OPEN ? 0 : -EAGAIN;
  }
  return s->life == SESSION_OPEN && s->fifos_open ? 0 : -ENOTCONN;
}

int dgram_send(struct session *s, const struct iovec *iov, int n, int flags, const struct vcl_dgram *to) {
  int block = !s->nonblock && (flags & MSG_DONTWAIT) == 0;
  size_t len = 0;
  if ((flags & MSG_OOB) != 0)
    return -EOPNOTSUPP;
  for (int i = 0; i < n; i++) {
    if (iov[i].iov_len > ABI_DGRAM_MAX - HS_MIN(len, (size_t)ABI_DGRAM_MAX))
      return -EMSGSIZE;
    len += iov[i].iov_len;
  }
  if (s->shut_wr)
    return -EPIPE;
  int rc = dgram_ready(s, to);
  while (rc == 0) {
    rc = dgram_send_once(s, (uint32_t)len, iov, n, to);
    if (rc != -EAGAIN)
      return rc;
    if (!block) {
      (void)ready_events(s); /* full: arms, so that room is announced */
      return rc;
    }
    rc = dgram_wait_room(s, (uint32_t)(sizeof(struct abi_dgram) + len));
  }
  return rc;
}

/** What a new engine is to be told. Without memory the group is lost with the engine. */
static void dgram_group_keep(struct session *s, const struct vcl_dgram *d) {
  if (s->groups == NULL)
    s->groups = calloc(DGRAM_GROUPS, sizeof *s->groups);
  if (s->groups != NULL && s->n_groups < DGRAM_GROUPS)
    s->groups[s->n_groups++] = *d;
}

static void dgram_group_forget(struct session *s, const struct vcl_dgram *d) {
  for (uint8_t i = 0; i < s->n_groups; i++) {
    if (memcmp(s->groups[i].ip, d->ip, sizeof d->ip) != 0)
      continue;
    s->groups[i] = s->groups[--s->n_groups];
    return;
  }
}

int dgram_group(struct session *s, const struct vcl_dgram *d, int join) {
  session_settle(s);
  int rc = s->life == SESSION_NEW ? dgram_open(s, ABI_REQ_CONNECT, NULL) : 0;
  if (rc == 0 && s->life != SESSION_OPEN)
    rc = -EINVAL;
  if (rc < 0)
    return rc;
  rc = dgram_request(s, join ? ABI_REQ_JOIN : ABI_REQ_LEAVE, d);
  if (rc == 0 && join)
    dgram_group_keep(s, d);
  else if (rc == 0)
    dgram_group_forget(s, d);
  return rc;
}

void dgram_regroup(struct session *s) {
  if (s->regroup == 0 || s->asking || s->life != SESSION_OPEN || !dgram_answered(s) || s->broken != 0)
    return;
  dgram_fill(s, ABI_REQ_JOIN, &s->groups[--s->regroup]);
  __atomic_store_n(&s->a->req_seq, s->a->req_seq + 1, __ATOMIC_RELEASE);
  session_hint(s);
}

/* --- the shim's face --- */

static struct session *dgram_enter(uint32_t h, int *rc) {
  struct session *s = session_enter(h);
  *rc = s == NULL ? VPPCOM_EBADFD : 0;
  if (s != NULL && !session_is_dgram(s)) {
    worker_leave(s->w);
    *rc = -EOPNOTSUPP;
    return NULL;
  }
  return s;
}

int vcl_dgram_recv(uint32_t h, const struct iovec *iov, int n, int flags, struct vcl_dgram *d) {
  int rc;
  struct session *s = dgram_enter(h, &rc);
  if (s == NULL)
    return rc;
  struct worker *w = s->w;
  rc = dgram_recv(s, iov, n, flags, d);
  if (rc == -EAGAIN && worker_pump(w) > 0)
    rc = dgram_recv(s, iov, n, flags, d);
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}

int vcl_dgram_recv_like(uint32_t h, const struct iovec *iov, int n, const struct vcl_dgram *first) {
  int rc;
  struct session *s = dgram_enter(h, &rc);
  if (s == NULL)
    return rc;
  struct worker *w = s->w;
  rc = dgram_recv_like(s, iov, n, first);
  worker_leave(w);
  return rc < 0 ? -EAGAIN : rc;
}

int vcl_dgram_send(uint32_t h, const struct iovec *iov, int n, int flags, const struct vcl_dgram *d) {
  int rc;
  struct session *s = dgram_enter(h, &rc);
  if (s == NULL)
    return rc;
  struct worker *w = s->w;
  rc = dgram_send(s, iov, n, flags, d);
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}

int vcl_dgram_connect(uint32_t h, const struct vcl_dgram *peer) {
  int rc;
  struct session *s = dgram_enter(h, &rc);
  if (s == NULL)
    return rc;
  struct worker *w = s->w;
  rc = dgram_connect(s, peer);
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}

int vcl_dgram_group(uint32_t h, const struct vcl_dgram *d, int join) {
  int rc;
  struct session *s = dgram_enter(h, &rc);
  if (s == NULL)
    return rc;
  struct worker *w = s->w;
  rc = dgram_group(s, d, join);
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}
