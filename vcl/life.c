/*
 * The life of a session as the program asks for it: create, shutdown, close, terminate; and what a handle is made of.
 *
 * Called by the program's threads. Nothing here waits, except a close with SO_LINGER on a blocking session.
 */
#include "base/clock.h"
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_kin.h"
#include "vcl_wait.h"

#include <sys/socket.h>

int vppcom_session_create(uint8_t proto, uint8_t is_nonblocking) {
  int err = proto == VPPCOM_PROTO_TCP || proto == VPPCOM_PROTO_UDP ? 0 : EPROTONOSUPPORT;
  int rc = -1;
  struct worker *w = worker_enter();
  if (w == NULL) {
    errno = EINVAL;
    return -1;
  }
  struct session *s = err == 0 && worker_ready(w) == 0 ? session_new_stream(w, proto, is_nonblocking, &err) : NULL;
  if (s != NULL)
    rc = (int)session_handle(s);
  else if (err == 0)
    err = ENETDOWN;
  worker_leave(w);
  if (rc < 0)
    errno = err;
  return rc;
}

/** SO_LINGER on a blocking session: until the peer has everything, or the time is over. RFC 9293 3.6 leaves it open. */
static int life_linger(struct session *s) {
  if ((s->opt.flags & ABI_OPT_LINGER) == 0 || s->opt.linger_s == 0 || s->nonblock || session_is_dgram(s))
    return 0;
  session_settle(s);
  if (s->life != SESSION_OPEN || s->broken != 0)
    return 0;
  struct worker *w = s->w;
  usec_t deadline = clock_now_us() + s->opt.linger_s * CLOCK_US_PER_S;
  struct waiter *wt = waiter_get(w);
  int rc = wt == NULL ? -ENOMEM : waiter_watch(wt, &s->watchers);
  s->pins++;
  s->shut_wr = 1;
  session_want(s, ABI_WANT_SHUT_WR);
  while (rc == 0 && s->life != SESSION_ZOMBIE && s->broken == 0) {
    struct session_facts f = session_facts(s);
    if (f.state == ABI_SESS_CLOSED || (f.flags & (ABI_SE_FIN_ACKED | ABI_SE_RESET)) != 0)
      break;
    rc = waiter_wait(wt, deadline);
  }
  if (wt != NULL)
    waiter_put(wt);
  int gone = s->life == SESSION_ZOMBIE;
  session_unpin(s);
  return gone ? -EBADF : 0;
}

void life_settle_broker(struct worker *w) {
  if (list_empty(&w->unbinds))
    return;
  if (w->home != NULL)
    home_flush(w->home);
  worker_flush_inherited(w);
  worker_unlock(w);
  if (pthread_mutex_trylock(&w->broker.lock) == 0) { /* else whoever asks the broker now says it afterwards */
    (void)worker_flush_unbinds(w);
    pthread_mutex_unlock(&w->broker.lock);
  }
  worker_lock(w);
}

static int life_end(uint32_t handle, int abortive) {
  struct session *s = session_enter(handle);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  if (s->life == SESSION_LISTEN)
    cut_hurry(w);
  if (s->kind != SESSION_STREAM || abortive || !kin_alone(s) || life_linger(s) == 0) {
    session_close(s, abortive);
    life_settle_broker(w);
  }
  worker_leave(w);
  return 0;
}

int vppcom_session_close(uint32_t session_handle_in) {
  return life_end(session_handle_in, 0);
}

int vppcom_session_terminate(uint32_t session_handle_in) {
  return life_end(session_handle_in, 1);
}

static int life_shutdown(struct session *s, int how) {
  if (s->kind != SESSION_STREAM || how < SHUT_RD || how > SHUT_RDWR)
    return VPPCOM_EINVAL;
  session_settle(s);
  if (s->life == SESSION_LISTEN && how != SHUT_WR) {
    cut_hurry(s->w);
    s->listen_shut = 1; /* as Linux: accept fails from here on, waiters wake */
    listen_drop_offers(s);
    cut_revoke(s->w);
    __atomic_store_n(&s->a->listen_armed, 0u, __ATOMIC_RELEASE);
    session_hint(s);
    session_touch(s);
    return 0;
  }
  struct session_facts f = session_facts(s);
  if (s->life != SESSION_OPEN || s->broken != 0 || f.state == ABI_SESS_CLOSED) {
    session_touch(s); /* as Linux: refused, and still an edge for whoever polls */
    return VPPCOM_ENOTCONN;
  }
  if (session_is_dgram(s)) { /* as Linux: nothing goes to the peer, whoever waits is woken */
    if (!s->connected)
      return VPPCOM_ENOTCONN;
    s->shut_rd |= how != SHUT_WR;
    s->shut_wr |= how != SHUT_RD;
    session_touch(s);
    return 0;
  }
  uint32_t want = 0;
  if (how != SHUT_WR) {
    s->shut_rd = 1;
    want |= ABI_WANT_SHUT_RD;
  }
  if (how != SHUT_RD) {
    s->shut_wr = 1;
    want |= ABI_WANT_SHUT_WR;
  }
  session_want(s, want);
  session_touch(s);
  return 0;
}

int vppcom_session_shutdown(uint32_t session_handle_in, int how) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  int rc = life_shutdown(s, how);
  worker_leave(w);
  return rc;
}

int vppcom_session_index(vcl_session_handle_t session_handle_in) {
  return session_handle_in == INVALID_SESSION_ID ? -1 : (int)(session_handle_in & WORKER_INDEX_MASK);
}

int vppcom_session_worker(vcl_session_handle_t session_handle_in) {
  return session_handle_in == INVALID_SESSION_ID ? -1 : (int)(session_handle_in >> WORKER_INDEX_BITS);
}

int vppcom_session_is_stream(vcl_session_handle_t session_handle_in) {
  (void)session_handle_in;
  return 0; /* no transport here has streams inside a connection */
}

int vppcom_session_get_error(uint32_t session_handle_in) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  session_settle(s);
  int rc = -ready_error(s);
  worker_leave(s->w);
  return rc;
}

int vppcom_add_cert_key_pair(vppcom_cert_key_pair_t *ckpair) {
  (void)ckpair;
  return -EOPNOTSUPP; /* no TLS transport */
}

int vppcom_del_cert_key_pair(uint32_t ckpair_index) {
  (void)ckpair_index;
  return -EOPNOTSUPP;
}
