/*
 * Fast Open (RFC 7413) as a client: a connect whose SYN may carry the first bytes.
 *
 * Only the engine knows the servers' cookies, so it is asked first (ABI_REQ_FAST). Either it has none: then a connect
 * like others is under way, whose SYN asks for one; or it says how many bytes a SYN may carry, and the session is
 * *deferred*: it connects with the first bytes that are written, which lie in the tx fifo before the request is
 * published. Called by connect.c, rw.c and the preload shim's calls, under the worker's mutex.
 */
#include "base/bits.h"
#include "base/clock.h"
#include "vcl_app.h"
#include "vcl_opt.h"
#include "vcl_session.h"

#include <errno.h>
#include <sys/uio.h>

#define FASTOPEN_WAIT_US 200000u /* an engine that is away answers later: the connect then goes on without data */

static const uint32_t fastopen_no_head; /* the engine's word is the slot's former life's until it has seen us */

void fastopen_flag(struct session *s, int on) {
  uint32_t flags = on ? s->opt.flags | ABI_OPT_FASTOPEN : s->opt.flags & ~ABI_OPT_FASTOPEN;
  if (flags == s->opt.flags)
    return;
  s->opt.flags = flags;
  session_publish_options(s);
}

int fastopen_answer(struct session *s, const struct session_facts *f) {
  if (!s->fast_asked || f->state != ABI_SESS_CLOSED || (f->error != ENODATA && f->error != EOPNOTSUPP))
    return 0;
  uint32_t room = s->e->mss;
  struct abi_endpoint remote = s->a->req.remote;
  int wanted = s->fast_asked == FASTOPEN_ASKED;
  s->fast_asked = 0;
  int rc = session_renew(s);
  if (rc < 0) {
    s->broken = -rc;
  } else if (f->error == EOPNOTSUPP) {
    s->fast_off = 1;
  } else if (wanted) {
    s->fast_room = room;
    s->deferred = remote;
    s->domain = remote.family;
    stage_set(s, SESSION_DEFER);
  }
  if (rc == 0 && s->life == SESSION_NEW && !wanted) /* who asked has been told that it connects */
    connect_ask(s, &remote, 0);
  return 1;
}

/** Until the engine has answered, or for a while. 0, -EBADF when closed meanwhile. */
static int fastopen_wait(struct session *s) {
  usec_t deadline = clock_now_us() + FASTOPEN_WAIT_US;
  struct waiter *wt = waiter_get(s->w);
  int rc = wt == NULL ? -ENOMEM : waiter_watch(wt, &s->watchers);
  s->pins++;
  home_flush(s->home);
  while (rc == 0 && s->life != SESSION_ZOMBIE) {
    session_settle(s);
    if (s->life != SESSION_CONNECT || session_facts(s).state >= ABI_SESS_CONNECTING)
      break;
    rc = waiter_wait(wt, deadline);
  }
  if (wt != NULL)
    waiter_put(wt);
  int gone = s->life == SESSION_ZOMBIE;
  session_unpin(s);
  return gone ? -EBADF : 0;
}

int fastopen_begin(struct session *s, const struct abi_endpoint *remote) {
  s->fast_off = 0;
  s->fast_asked = FASTOPEN_ASKED;
  fastopen_flag(s, 1);
  connect_ask(s, remote, ABI_REQ_FAST);
  int rc = fastopen_wait(s);
  if (rc < 0)
    return rc;
  if (s->fast_asked)
    s->fast_asked = s->life == SESSION_CONNECT && session_facts(s).state == ABI_SESS_FREE ? FASTOPEN_GIVEN_UP : 0;
  if (s->life == SESSION_DEFER)
    return 0;
  return s->fast_off ? -EOPNOTSUPP : -EINPROGRESS;
}

int fastopen_write(struct session *s, const struct iovec *iov, int n_iov, size_t skip) {
  struct worker_view *v = &s->home->view;
  int64_t done = 0;
  if (s->home->detached)
    return -ENETDOWN;
  session_lock(s);
  fifo_prod_init(&s->tx, &s->a->tx, s->a->tx_chunk, &fastopen_no_head, v->seg_a.base, s->home->arena, s->fast_room);
  s->tx_early = 1;
  for (int i = 0; i < n_iov; i++) {
    if (skip >= iov[i].iov_len) {
      skip -= iov[i].iov_len;
      continue;
    }
    size_t len = HS_MIN(iov[i].iov_len - skip, (size_t)(s->fast_room - (uint32_t)done));
    int64_t put = fifo_prod_write(&s->tx, (const uint8_t *)iov[i].iov_base + skip, (uint32_t)len);
    skip = 0;
    if (put <= 0)
      break;
    done += put;
  }
  session_unlock(s);
  struct abi_endpoint remote = s->deferred;
  connect_ask(s, &remote, 0);
  home_flush(s->home);
  return done > 0 ? (int)done : -EAGAIN;
}

int vcl_fastopen(uint32_t h, vppcom_endpt_t *ep) {
  struct session *s = session_enter(h);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  int rc = s->kind != SESSION_STREAM || session_is_dgram(s) ? -EOPNOTSUPP : connect_fast(s, ep);
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}
