/*
 * connect, and endpoints between the caller's form and the shared one.
 *
 * Called by the program's threads under the worker's mutex. The request goes app → engine by the session's own record
 * (abi/session.h); the broker has no part in it.
 */
#include "base/fault.h"
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_dgram.h"

#include <sys/socket.h>

#define CONNECT_DONE 2 /* the one that was begun has ended well, and this is where it is told */

int connect_endpoint(const vppcom_endpt_t *ep, struct abi_endpoint *out) {
  if (ep == NULL || ep->ip == NULL)
    return -EINVAL;
  memset(out, 0, sizeof *out);
  memcpy(&out->port.raw, &ep->port, sizeof out->port.raw);
  if (ep->is_ip4) {
    out->family = 4;
    out->ip[10] = out->ip[11] = 0xff;
    memcpy(out->ip + 12, ep->ip, 4);
  } else {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(out->ip, ep->ip, 16);
    out->family = memcmp(out->ip, mapped, sizeof mapped) == 0 ? 4 : 6;
  }
  return 0;
}

void connect_fill(const struct abi_endpoint *in, vppcom_endpt_t *ep) {
  ep->is_ip4 = in->family != 6;
  memcpy(&ep->port, &in->port.raw, sizeof ep->port);
  if (ep->ip == NULL)
    return;
  if (ep->is_ip4)
    memcpy(ep->ip, in->ip + 12, 4);
  else
    memcpy(ep->ip, in->ip, 16);
}

/** Publishes the request: req → op → hint. */
void connect_ask(struct session *s, const struct abi_endpoint *remote, uint8_t kind) {
  struct abi_request *rq = &s->a->req;
  memset(rq, 0, sizeof *rq);
  rq->id = 1;
  rq->proto = s->proto;
  rq->v6only = s->v6only;
  rq->reuse = (uint8_t)(s->reuse | (app_state.cfg.scope_global ? 0u : ABI_REQ_LOCAL));
  rq->kind = kind;
  rq->vrf = s->opt.vrf;
  rq->local = s->local; /* bound, or a wish (SET_LCL_ADDR), or of no family */
  rq->remote = *remote;
  s->domain = remote->family;
  FAULT_POINT("vcl.connect");
  __atomic_store_n(&s->a->op, (uint32_t)ABI_OP_CONNECT, __ATOMIC_RELEASE);
  stage_set(s, SESSION_CONNECT);
  session_hint(s);
}

/** How a connect that was begun stands: 0 connected, -EINPROGRESS, -errno. */
static int connect_result(struct session *s) {
  session_settle(s);
  if (s->life == SESSION_CONNECT)
    return -EINPROGRESS;
  if (s->life == SESSION_DEFER)
    return 0;
  int err = s->failed || s->broken != 0 ? ready_take_error(s) : 0;
  if (err != 0)
    return -err;
  if (s->failed)
    return -ECONNABORTED; /* as Linux: the error was taken by SO_ERROR */
  s->told = 1;
  return 0;
}

static int connect_wait(struct session *s) {
  double limit = app_state.cfg.session_timeout_s;
  int rc = ready_wait(s, EPOLLOUT | EPOLLIN, limit > 0 ? (int64_t)(limit * 1e6) : -1);
  return rc < 0 ? rc : connect_result(s);
}

/** Before a connect: may there be one? 1 yes, 0 one is under way, -errno. A failed one is cleared away. */
static int connect_may(struct session *s) {
  session_settle(s);
  if (s->life == SESSION_CONNECT)
    return s->nonblock ? -EALREADY : 0;
  if (s->life == SESSION_OPEN && !s->told) {
    if (!s->failed || !s->err_taken) {
      int rc = connect_result(s);
      return rc < 0 ? rc : CONNECT_DONE;
    }
    int rc = session_renew(s);
    if (rc < 0)
      return rc;
  } else if (s->life == SESSION_OPEN || s->life == SESSION_LISTEN || s->life == SESSION_DEFER) {
    return -EISCONN;
  }
  return s->home->detached ? -ENETDOWN : 1;
}

static int connect_session(struct session *s, const vppcom_endpt_t *ep) {
  struct abi_endpoint remote;
  int rc = connect_endpoint(ep, &remote);
  if (rc == 0)
    rc = connect_may(s);
  if (rc < 0 || rc == CONNECT_DONE)
    return rc < 0 ? rc : 0;
  if (rc > 0) {
    rc = cut_dest_connect(s, &remote);
    if (rc == -EADDRNOTAVAIL)
      return rc;
    if (rc == 0) {
      if (!s->nonblock)
        return connect_result(s);
    } else {
      fastopen_flag(s, s->fast_connect);
      rc = s->fast_connect ? fastopen_begin(s, &remote) : -EOPNOTSUPP;
      if (rc == -EOPNOTSUPP)
        connect_ask(s, &remote, 0);
      else if (rc != -EINPROGRESS)
        return rc;
    }
    home_flush(s->home);
  }
  return s->nonblock ? -EINPROGRESS : connect_wait(s);
}

int connect_fast(struct session *s, const vppcom_endpt_t *ep) {
  struct abi_endpoint remote;
  int rc = connect_endpoint(ep, &remote);
  if (rc == 0)
    rc = connect_may(s);
  if (rc == 0 || rc == -EALREADY)
    return -EALREADY;
  if (rc != 1)
    return rc < 0 ? rc : -EISCONN;
  rc = cut_dest_connect(s, &remote);
  if (rc == 0) {
    home_flush(s->home);
    return connect_result(s);
  }
  if (rc == -EADDRNOTAVAIL)
    return rc;
  return fastopen_begin(s, &remote);
}

/** MSG_FASTOPEN, a call of its own: connects and sends. Bytes or -errno. */
int connect_send(struct session *s, const struct iovec *iov, int n_iov, int flags, const vppcom_endpt_t *ep) {
  int block = !s->nonblock && (flags & MSG_DONTWAIT) == 0;
  int rc = connect_fast(s, ep), sent = 0;
  if (rc == 0 && s->life == SESSION_DEFER) {
    sent = rw_write(s, iov, n_iov, flags | MSG_DONTWAIT);
    rc = sent == -EAGAIN ? -EINPROGRESS : sent < 0 ? sent : 0;
    sent = sent > 0 ? sent : 0;
    if (rc == 0 && block)
      rc = -EINPROGRESS;
  }
  if (rc == -EINPROGRESS && block)
    rc = connect_wait(s);
  if (rc < 0)
    return rc;
  if (sent > 0)
    return sent;
  return rw_write(s, iov, n_iov, flags);
}

/** Datagrams: only the peer's address is noted, by the engine, too. */
static int connect_dgram(struct session *s, const vppcom_endpt_t *ep) {
  struct abi_endpoint remote;
  struct vcl_dgram peer = {.family = 0};
  int rc = connect_endpoint(ep, &remote);
  if (rc < 0)
    return rc;
  memcpy(peer.ip, remote.ip, sizeof peer.ip);
  peer.port = remote.port.raw;
  peer.family = remote.family;
  return peer.port != 0 ? dgram_connect(s, &peer) : -EINVAL;
}

int vppcom_session_connect(uint32_t session_handle_in, vppcom_endpt_t *server_ep) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  int rc = session_is_dgram(s)         ? connect_dgram(s, server_ep)
           : s->kind == SESSION_STREAM ? connect_session(s, server_ep)
                                       : VPPCOM_EINVAL;
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}

int vppcom_session_stream_connect(uint32_t session_handle_in, uint32_t parent_session_handle) {
  (void)session_handle_in;
  (void)parent_session_handle;
  return -EOPNOTSUPP; /* no transport here has streams inside a connection */
}
