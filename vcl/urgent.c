/*
 * Urgent data as Linux has it (RFC 6093; tcp_stdurg 0): one urgent byte at a time, the last one written with MSG_OOB.
 * It stays in the stream; reading stops before it, then leaves it out, unless SO_OOBINLINE is set. MSG_OOB reads it,
 * also ahead of what lies before it. deviates from Linux: it is read out of line only once all before it has arrived.
 *
 * The mark of what comes is a word of the engine's half (over a pair: of the other app's); what was read of it are
 * words of ours in the app half, so that forked processes agree. Called by rw.c, ready.c, attr.c and opt.c under the
 * worker's mutex.
 */
#include "base/bits.h"
#include "base/fault.h"
#include "vcl_cut.h"

#include <sys/socket.h>

#define URGENT_FAR (ABI_FIFO_MAX + 65536u) /* no mark is further ahead: what is, was passed long ago */

/** Position behind the last urgent byte that was announced. 0 or 1: there is one. */
static int urgent_told(const struct session *s, uint32_t *behind) {
  if (s->cut != NULL) {
    const struct cut *c = s->cut;
    if ((c->client && !c->accepted) || __atomic_load_n(&c->peer->gen, __ATOMIC_ACQUIRE) != s->gen ||
        !(__atomic_load_n(&c->peer->want, __ATOMIC_ACQUIRE) & ABI_WANT_URGENT))
      return 0;
    *behind = __atomic_load_n(&c->peer->tx_urg, __ATOMIC_ACQUIRE);
    return 1;
  }
  if (!(__atomic_load_n(&s->e->flags, __ATOMIC_ACQUIRE) & ABI_SE_URGENT) ||
      __atomic_load_n(&s->e->gen, __ATOMIC_ACQUIRE) != s->gen)
    return 0;
  *behind = __atomic_load_n(&s->e->urg_pos, __ATOMIC_ACQUIRE);
  return 1;
}

/** A newer mark while reading stands at an older one: that byte was urgent, and is left out for good (as Linux). */
static void urgent_replaced(struct session *s, struct session_local *mine) {
  if (!mine->urg_known || mine->urg_passed || mine->urg_pos - 1 != s->rx.head || (s->opt.flags & ABI_OPT_OOBINLINE) ||
      fifo_cons_used(&s->rx) <= 0)
    return;
  fifo_cons_consume(&s->rx, 1);
}

int urgent_mark(struct session *s, uint32_t *ahead) {
  uint32_t behind;
  struct session_local *mine = session_local(s);
  if (s->kind != SESSION_STREAM || s->life != SESSION_OPEN || !s->fifos_open || !urgent_told(s, &behind))
    return URGENT_NONE;
  if (!mine->urg_known || mine->urg_pos != behind) {
    urgent_replaced(s, mine);
    mine->urg_pos = behind;
    mine->urg_known = 1;
    mine->urg_passed = mine->urg_read = 0;
  }
  uint32_t far = behind - s->rx.head - 1;
  if (mine->urg_passed || far > URGENT_FAR) {
    mine->urg_passed = 1; /* the word stays; the stream goes on, and may come to this number again */
    return URGENT_NONE;
  }
  *ahead = far;
  if (mine->urg_read)
    return URGENT_READ;
  return fifo_cons_used(&s->rx) > (int64_t)far ? URGENT_HERE : URGENT_COMING;
}

int urgent_at_mark(struct session *s) {
  uint32_t ahead;
  session_lock(s);
  int at = urgent_mark(s, &ahead) != URGENT_NONE && ahead == 0;
  session_unlock(s);
  return at;
}

int64_t urgent_readable(struct session *s) {
  uint32_t ahead;
  session_lock(s);
  int64_t used = fifo_cons_used(&s->rx);
  if (used > 0 && urgent_mark(s, &ahead) != URGENT_NONE && !(s->opt.flags & ABI_OPT_OOBINLINE))
    used = HS_MIN(used, (int64_t)ahead);
  session_unlock(s);
  return used;
}

uint32_t urgent_limit(struct session *s, uint32_t len, int flags, uint32_t *skip) {
  uint32_t ahead;
  int64_t used = fifo_cons_used(&s->rx); /* first: whatever lies in the stream was announced before */
  *skip = 0;
  if (used < 0)
    return len; /* the read itself will find out */
  len = (uint32_t)HS_MIN((int64_t)len, used);
  if (len == 0 || urgent_mark(s, &ahead) == URGENT_NONE)
    return len;
  if (ahead > 0)
    return HS_MIN(len, ahead);
  if (s->opt.flags & ABI_OPT_OOBINLINE)
    return len;
  *skip = (flags & MSG_PEEK) != 0;
  if (*skip == 0)
    fifo_cons_consume(&s->rx, 1);
  return (uint32_t)HS_MIN((int64_t)len, used - 1);
}

/** recv with MSG_OOB; never waits. */
int urgent_recv(struct session *s, void *buf, size_t n, int flags) {
  uint32_t ahead;
  session_settle(s);
  session_lock(s);
  int mark = urgent_mark(s, &ahead);
  int rc = 1;
  if (mark == URGENT_NONE || mark == URGENT_READ || (s->opt.flags & ABI_OPT_OOBINLINE)) {
    rc = -EINVAL;
  } else if (mark == URGENT_COMING) {
    struct session_facts f = session_facts(s);
    rc = s->shut_rd || s->broken != 0 || f.state == ABI_SESS_CLOSED || (f.flags & ABI_SE_PEER_FIN) ? 0 : -EAGAIN;
  } else {
    uint8_t byte = 0;
    if (fifo_cons_peek(&s->rx, ahead, &byte, 1) != 1)
      rc = -EAGAIN;
    else if (!(flags & MSG_PEEK))
      session_local(s)->urg_read = 1;
    if (rc > 0 && n == 0)
      rc = 0;
    else if (rc > 0 && buf != NULL && !(flags & MSG_TRUNC))
      *(uint8_t *)buf = byte;
  }
  session_unlock(s);
  if (rc >= 0)
    session_touch(s); /* EPOLLPRI is over */
  return rc;
}

/** The next byte is urgent. The word as it was, to be given to urgent_unmark if nothing could be written. */
static uint32_t urgent_set(struct session *s) {
  uint32_t before = s->a->tx_urg;
  __atomic_store_n(&s->a->tx_urg, s->tx.tail + 1, __ATOMIC_RELAXED);
  FAULT_POINT("vcl.urgent"); /* a mark behind the tail: nothing yet */
  if (!(s->a->want & ABI_WANT_URGENT))
    (void)__atomic_or_fetch(&s->a->want, ABI_WANT_URGENT, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.urgent_want");
  return before;
}

int64_t urgent_put(struct session *s, const uint8_t *byte) {
  int64_t room = ready_tx_room(s);
  if (room <= 0)
    return room;
  session_lock(s);
  uint32_t before = urgent_set(s);
  held_note(s);
  int64_t put = fifo_prod_write(&s->tx, byte, 1);
  if (put != 1)
    __atomic_store_n(&s->a->tx_urg, before, __ATOMIC_RELAXED);
  session_unlock(s);
  if (put == 0 && !s->home->forked) /* the arena is short: idle sessions may hold some, for the next try */
    worker_trim(s->w);
  return put;
}
