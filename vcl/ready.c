/*
 * What a session has for its program: events, room to write, the pending error; and waiting for an event.
 *
 * Called by read, write, poll, sets and attributes, under the worker's mutex. Nothing is kept here: each answer is made
 * of the engine's half (session_facts), the fifos and what the session says of itself. To answer "not writable" arms
 * the tx fifo, so that the engine announces room.
 */
#include "vcl_branch.h"

#include "abi/dgram.h"
#include "base/bits.h"
#include "base/clock.h"
#include "shm/fence.h"
#include "vcl_peers.h"
#include "vcl_vep.h"

#include <sys/epoll.h>

/** Datagrams: errors come again and again, each is reported once. */
static uint32_t ready_soft_error(const struct session *s) {
  if (s->life != SESSION_OPEN || !s->fifos_open || __atomic_load_n(&s->e->gen, __ATOMIC_ACQUIRE) != s->gen)
    return s->soft_seen;
  return __atomic_load_n(&s->e->soft_error, __ATOMIC_ACQUIRE);
}

/** As ready_error, of facts that the caller has looked at: what it says of the session it says of one moment. */
static int ready_error_of(const struct session *s, const struct session_facts *f) {
  if (session_is_dgram(s) && s->broken == 0) {
    uint32_t word = ready_soft_error(s);
    return word != s->soft_seen ? (int)(word & 0xfffu) : 0;
  }
  if (s->err_taken || s->kind != SESSION_STREAM)
    return 0;
  if (s->broken != 0)
    return s->broken;
  if (s->life != SESSION_OPEN)
    return 0;
  if (f->error != 0)
    return f->error < 4096 ? (int)f->error : EPROTO;
  return (f->flags & ABI_SE_RESET) != 0 ? ECONNRESET : 0;
}

int ready_error(const struct session *s) {
  struct session_facts f = {0, 0, 0};
  if (s->life == SESSION_OPEN && s->broken == 0)
    f = session_facts(s);
  return ready_error_of(s, &f);
}

int ready_take_error(struct session *s) {
  session_settle(s);
  int err = ready_error(s);
  if (session_is_dgram(s) && s->broken == 0)
    s->soft_seen = ready_soft_error(s);
  else if (err != 0)
    s->err_taken = 1;
  return err;
}

int ready_take_soft_error(struct session *s) {
  if (s->kind != SESSION_STREAM || s->broken != 0 || s->cut != NULL)
    return 0;
  uint32_t word = ready_soft_error(s);
  int err = word != s->soft_seen ? (int)(word & 0xfffu) : 0;
  s->soft_seen = word;
  return err;
}

int64_t ready_tx_room(struct session *s) {
  uint32_t limit = __atomic_load_n(&s->e->tx_limit, __ATOMIC_RELAXED);
  if (s->opt.sndbuf != 0 && limit > s->opt.sndbuf)
    limit = HS_MAX(s->opt.sndbuf, SESSION_TX_LEAST);
  if (session_is_dgram(s)) /* a third of it takes the longest datagram, whatever was asked for */
    limit = HS_MAX(limit, ABI_DGRAM_FIFO);
  limit = HS_MIN(limit, ABI_FIFO_MAX);
  if (limit != s->tx.size)
    fifo_prod_size_set(&s->tx, limit);
  session_lock(s);
  int64_t room = fifo_prod_room(&s->tx);
  session_unlock(s);
  if (room < 0 && s->broken == 0)
    s->broken = ECONNRESET;
  return room;
}

/** A third of the fifo is free: as Linux, a writer is not woken for less. */
static int ready_room_matters(const struct session *s, int64_t room) {
  return room > 0 && room * 3 >= (int64_t)s->tx.size;
}

int64_t ready_unsent_room(const struct session *s) {
  uint32_t lowat = s->opt.notsent_lowat;
  if (lowat == 0 || lowat > ABI_FIFO_MAX || s->cut != NULL)
    return INT64_MAX;
  uint32_t sent = __atomic_load_n(&s->e->tx_sent, __ATOMIC_RELAXED);
  uint32_t head = __atomic_load_n(&s->e->tx_head, __ATOMIC_ACQUIRE);
  int32_t unsent = HS_MIN((int32_t)(s->tx.tail - sent), (int32_t)(s->tx.tail - head));
  return (int64_t)lowat - HS_MAX(unsent, 0);
}

/** As Linux: a writer is woken when less than half of TCP_NOTSENT_LOWAT is unsent. */
static int ready_sent_enough(const struct session *s) {
  int64_t room = ready_unsent_room(s);
  return room == INT64_MAX || 2 * room > (int64_t)s->opt.notsent_lowat;
}

/** Whether a write makes sense now; if not, the engine will say when. */
static int ready_is_writable(struct session *s) {
  if (list_linked(&s->starved)) /* told when there is memory again */
    return 0;
  int64_t room = ready_tx_room(s);
  if (room < 0 || (ready_room_matters(s, room) && ready_sent_enough(s))) {
    if (s->tx_armed)
      __atomic_store_n(&s->a->tx_armed, 0u, __ATOMIC_RELAXED);
    s->tx_armed = 0;
    return 1;
  }
  uint32_t used_then = s->tx.size - (s->tx.size + 2) / 3;
  __atomic_store_n(&s->a->tx_wake, s->tx.tail - used_then, __ATOMIC_RELAXED);
  __atomic_store_n(&s->a->tx_armed, 1u, __ATOMIC_RELEASE);
  s->tx_armed = 1;
  shm_fence();
  room = ready_tx_room(s);
  return room < 0 || (ready_room_matters(s, room) && ready_sent_enough(s));
}

/** Events of a session that is or was connected. */
static uint32_t ready_open_events(struct session *s) {
  if (!s->fifos_open) /* a connect whose stack is gone */
    return EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLHUP | EPOLLOUT | EPOLLWRNORM |
           (ready_error(s) != 0 ? (uint32_t)EPOLLERR : 0u);
  if (s->cut != NULL)
    s->cut->seen = 1;
  struct session_facts f = session_facts(s);
  int over = s->broken != 0 || f.state == ABI_SESS_CLOSED;
  int rd_shut = over || s->shut_rd || (f.flags & (ABI_SE_PEER_FIN | ABI_SE_RESET)) != 0;
  int wr_shut = over || s->shut_wr || f.state == ABI_SESS_CLOSING || (f.flags & ABI_SE_RESET) != 0;
  session_lock(s);
  int64_t used = fifo_cons_used(&s->rx);
  uint32_t ev = 0, ahead, least = HS_MAX(s->lowat, 1u);
  int mark = session_is_dgram(s) ? URGENT_NONE : urgent_mark(s, &ahead);
  if (mark != URGENT_NONE) {
    ev |= mark == URGENT_HERE ? (uint32_t)EPOLLPRI : 0u;
    least += ahead == 0 && !(s->opt.flags & ABI_OPT_OOBINLINE); /* which a read leaves out */
  }
  session_unlock(s);
  if (used < 0 && s->broken == 0)
    s->broken = ECONNRESET;
  if (session_is_dgram(s))
    branch_arm(s);
  if (used < 0 || rd_shut || used >= (int64_t)least + s->handed || branch_pending(s) || peers_pending(s))
    ev |= EPOLLIN | EPOLLRDNORM;
  if (rd_shut)
    ev |= EPOLLRDHUP;
  if (rd_shut && wr_shut)
    ev |= EPOLLHUP;
  if (wr_shut || ready_is_writable(s))
    ev |= EPOLLOUT | EPOLLWRNORM;
  if (ready_error_of(s, &f) != 0)
    ev |= EPOLLERR;
  return ev;
}

uint32_t ready_events(struct session *s) {
  if (s->kind == SESSION_SET)
    return vep_is_ready(s->vep) ? EPOLLIN | EPOLLRDNORM : 0;
  session_settle(s);
  switch (s->life) {
  case SESSION_NEW:
  case SESSION_BOUND:
    if (session_is_dgram(s))
      return EPOLLOUT | EPOLLWRNORM;
    return EPOLLOUT | EPOLLWRNORM | EPOLLHUP | (ready_error(s) != 0 ? (uint32_t)EPOLLERR : 0u);
  case SESSION_LISTEN:
    if (s->listen_shut || s->broken != 0)
      return EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLHUP;
    return s->n_offers != 0 ? EPOLLIN | EPOLLRDNORM : 0;
  case SESSION_OPEN:
    return ready_open_events(s);
  case SESSION_DEFER: /* as Linux: a write makes the SYN */
    return EPOLLOUT | EPOLLWRNORM;
  default:
    return 0;
  }
}

int ready_wait(struct session *s, uint32_t events, int64_t timeout_us) {
  struct worker *w = s->w;
  usec_t deadline = timeout_us < 0 ? 0 : clock_now_us() + (usec_t)timeout_us;
  struct waiter *wt = waiter_get(w);
  int rc = wt == NULL ? -ENOMEM : waiter_watch(wt, s->kind == SESSION_SET ? &s->vep->watchers : &s->watchers);
  s->pins++;
  events |= EPOLLERR | EPOLLHUP;
  while (rc == 0 || rc == -ETIMEDOUT) {
    if (s->life == SESSION_ZOMBIE)
      rc = -EBADF;
    else if ((ready_events(s) & events) != 0)
      rc = 1;
    else if (rc == 0)
      rc = waiter_wait(wt, deadline);
    else
      break;
  }
  if (wt != NULL)
    waiter_put(wt);
  if (s->life == SESSION_ZOMBIE)
    rc = -EBADF;
  session_unpin(s);
  return rc > 0 ? 0 : rc;
}
