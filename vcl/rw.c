/*
 * Reading and writing: between the caller's memory and the fifos.
 *
 * Called by the program's threads under the worker's mutex; a blocking call releases it while it sleeps. Facts are
 * loaded before the fifo is looked at: whatever the engine published before it said FIN, reset or closed is read first.
 */
#include "base/bits.h"
#include "base/clock.h"
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_dgram.h"
#include "vcl_parts.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define RW_HINT_MAX (256u * 1024u) /* bytes read at most before the engine is told */
#define RW_IO_MAX   ((size_t)INT_MAX)
#define RW_SEGMENTS (int)ABI_FIFO_CHUNKS

/** What a read that finds nothing returns; -EAGAIN: more may come. */
static int rw_empty(struct session *s, const struct session_facts *f) {
  if ((f->flags & ABI_SE_PEER_FIN) != 0 && s->broken == 0)
    return 0; /* as Linux: the end of the stream, whatever came after it; an error stays for others to see */
  int err = ready_take_error(s);
  if (err != 0)
    return -err;
  if (s->broken != 0 || s->shut_rd || f->state == ABI_SESS_CLOSED || (f->flags & (ABI_SE_PEER_FIN | ABI_SE_RESET)) != 0)
    return 0;
  return -EAGAIN;
}

/** Whether reading makes sense at all: 1 yes, 0 or -errno the answer. */
static int rw_readable(struct session *s) {
  if (s->kind != SESSION_STREAM)
    return -EBADFD;
  session_settle(s);
  if (s->life == SESSION_OPEN)
    return s->fifos_open ? 1 : rw_empty(s, &(struct session_facts){.state = ABI_SESS_CLOSED});
  return s->life == SESSION_CONNECT || s->life == SESSION_DEFER ? -EAGAIN : -ENOTCONN;
}

/** Freed room matters to the peer's window: tell the engine now and then (a quarter of what it advertised). */
static void rw_consumed(struct session *s) {
  if (s->cut != NULL) {
    cut_sess_consumed(s);
    return;
  }
  uint32_t window = s->e->figures.rcv_wnd;
  uint32_t since = s->rx.head - s->rx_hinted;
  if (since < HS_MIN(window / 4, RW_HINT_MAX))
    return;
  s->rx_hinted = s->rx.head;
  session_hint(s);
}

static int rw_lied(struct session *s) {
  if (s->broken == 0)
    s->broken = ECONNRESET;
  return -ready_take_error(s);
}

/** One look: bytes, 0 at the end, -EAGAIN. */
static int rw_read_once(struct session *s, void *buf, size_t n, int flags) {
  int rc = rw_readable(s);
  if (rc <= 0)
    return rc;
  struct session_facts f = session_facts(s);
  uint32_t len = (uint32_t)HS_MIN(n, RW_IO_MAX), skip;
  int64_t got;
  session_lock(s);
  len = urgent_limit(s, len, flags, &skip);
  if ((flags & MSG_TRUNC) != 0) { /* as Linux for TCP: bytes are thrown away */
    got = fifo_cons_used(&s->rx) - (int64_t)skip;
    if (got > (int64_t)len)
      got = (int64_t)len;
    if (got > 0 && (flags & MSG_PEEK) == 0)
      fifo_cons_consume(&s->rx, (uint32_t)got);
  } else if ((flags & MSG_PEEK) != 0) {
    got = fifo_cons_peek(&s->rx, skip, buf, len);
  } else {
    got = fifo_cons_read(&s->rx, buf, len);
  }
  if (got > 0 && (flags & MSG_PEEK) == 0)
    s->handed -= HS_MIN(s->handed, (uint32_t)got);
  session_unlock(s);
  if (got < 0)
    return rw_lied(s);
  if (got == 0)
    return rw_empty(s, &f);
  if ((flags & MSG_PEEK) == 0)
    rw_consumed(s);
  return (int)got;
}

/** Bytes that a blocking read waits for. */
static int rw_enough(const struct session *s, size_t n, int flags) {
  size_t want = (flags & MSG_WAITALL) != 0 ? n : HS_MIN((size_t)HS_MAX(s->lowat, 1u), n);
  return (int)HS_MIN(want, RW_IO_MAX);
}

int rw_read(struct session *s, void *buf, size_t n, int flags) {
  int block = !s->nonblock && (flags & MSG_DONTWAIT) == 0;
  int done = 0, rc;
  if (session_is_dgram(s)) {
    struct iovec iov = {.iov_base = buf, .iov_len = n};
    return dgram_recv(s, &iov, 1, flags, NULL);
  }
  if ((flags & MSG_OOB) != 0)
    return s->kind == SESSION_STREAM ? urgent_recv(s, buf, n, flags) : -EBADFD;
  if (n == 0)
    return s->kind == SESSION_STREAM ? 0 : -EBADFD;
  for (;;) {
    uint8_t *to = buf != NULL ? (uint8_t *)buf + done : NULL;
    rc = rw_read_once(s, to, n - (size_t)done, flags);
    if (rc > 0 && (flags & MSG_PEEK) != 0)
      return rc;
    if (rc > 0)
      done += rc;
    if (rc != -EAGAIN && (rc <= 0 || done >= rw_enough(s, n, flags) || urgent_at_mark(s)))
      break;
    if (!block)
      break;
    home_flush(s->home);
    int waited = ready_wait(s, EPOLLIN | EPOLLRDHUP, -1);
    if (waited < 0)
      return done > 0 ? done : waited;
  }
  return done > 0 ? done : rc;
}

/** Whether writing makes sense: 1 yes, -errno no. */
static int rw_writable(struct session *s) {
  if (s->kind != SESSION_STREAM)
    return -EBADFD;
  session_settle(s);
  if (s->life == SESSION_CONNECT)
    return -EAGAIN;
  if (s->life != SESSION_OPEN)
    return -EPIPE; /* as Linux for a stream that was never connected */
  int err = ready_take_error(s);
  if (err != 0)
    return -err;
  struct session_facts f = session_facts(s);
  if (s->broken != 0 || s->shut_wr || !s->fifos_open || f.state == ABI_SESS_CLOSED || f.state == ABI_SESS_CLOSING ||
      (f.flags & ABI_SE_RESET) != 0)
    return -EPIPE;
  return 1;
}

/** Copies as much as there is room for. Bytes, 0 when full, -errno. */
static int64_t rw_put(struct session *s, const uint8_t *from, size_t len) {
  int64_t room = ready_tx_room(s);
  if (room > 0)
    room = HS_MAX(HS_MIN(room, ready_unsent_room(s)), (int64_t)0);
  if (room <= 0)
    return room;
  uint32_t n = (uint32_t)HS_MIN(len, (size_t)room);
  session_lock(s);
  int64_t put = fifo_prod_write(&s->tx, from, n);
  session_unlock(s);
  held_note(s);
  if (put < 0)
    return put;
  if (put < (int64_t)n && !s->home->forked) { /* the arena is short: idle sessions may hold some */
    worker_trim(s->w);
    int64_t more = fifo_prod_write(&s->tx, from + put, n - (uint32_t)put);
    put = more < 0 ? more : put + more;
    if (put == 0)
      parts_starve(s);
  }
  parts_note(s);
  return put;
}

/** The same of what ends with an urgent byte. */
static int64_t rw_put_urgent(struct session *s, const uint8_t *from, size_t len) {
  int64_t put = len > 1 ? rw_put(s, from, len - 1) : 0;
  if (put < 0 || (size_t)put < len - 1)
    return put;
  int64_t more = urgent_put(s, from + put);
  return more < 0 ? more : put + more;
}

/** One look over the caller's pieces from byte `skip` on. Bytes, -EAGAIN, -errno. */
static int rw_write_once(struct session *s, const struct iovec *iov, int n_iov, size_t skip, int urgent) {
  if (s->life == SESSION_DEFER)
    return fastopen_write(s, iov, n_iov, skip);
  int rc = rw_writable(s);
  int64_t done = 0;
  if (rc > 0 && s->write_msg) { /* the last message has left: corked again */
    s->write_msg = 0;
    session_publish_options(s);
  }
  if (rc > 0 && s->cut != NULL && cut_sess_swallow(s)) {
    size_t total = 0;
    for (int i = 0; i < n_iov; i++)
      total += HS_MIN(iov[i].iov_len, RW_IO_MAX - total);
    return (int)(total - HS_MIN(skip, total));
  }
  for (int i = 0; i < n_iov && rc > 0; i++) {
    if (skip >= iov[i].iov_len) {
      skip -= iov[i].iov_len;
      continue;
    }
    size_t len = iov[i].iov_len - skip;
    int last = urgent && i == n_iov - 1;
    int64_t put = last ? rw_put_urgent(s, (const uint8_t *)iov[i].iov_base + skip, len)
                       : rw_put(s, (const uint8_t *)iov[i].iov_base + skip, len);
    skip = 0;
    if (put < 0)
      return done > 0 ? (int)done : rw_lied(s);
    done += put;
    if ((size_t)put < len)
      break;
  }
  if (rc < 0)
    return rc;
  if (done == 0)
    return -EAGAIN;
  session_hint(s);
  return (int)done;
}

/** Waits until a write makes sense. There may be room in the fifo but no memory in the arena: then a moment. */
static int rw_wait_room(struct session *s) {
  struct worker *w = s->w;
  home_flush(s->home);
  if (s->life == SESSION_OPEN && ready_tx_room(s) > 0 && (ready_events(s) & EPOLLOUT) != 0) {
    s->pins++;
    worker_unlock(w);
    (void)poll(NULL, 0, 1);
    worker_lock(w);
    int gone = s->life == SESSION_ZOMBIE;
    session_unpin(s);
    return gone ? -EBADF : 0;
  }
  return ready_wait(s, EPOLLOUT, -1);
}

/** MSG_MORE: what is written is held back, as TCP_CORK does (200 ms at most, full segments go), until a call without
 * it; never by one that finds no room. Between two apps of the stack there is nothing to hold back for. */
static void rw_more(struct session *s, int more) {
  if (s->more == more || s->life != SESSION_OPEN || s->cut != NULL)
    return;
  s->more = (uint8_t)more;
  session_publish_options(s);
}

int rw_write(struct session *s, const struct iovec *iov, int n_iov, int flags) {
  int block = !s->nonblock && (flags & MSG_DONTWAIT) == 0;
  size_t total = 0, done = 0;
  int rc;
  if (session_is_dgram(s))
    return dgram_send(s, iov, n_iov, flags, NULL);
  for (int i = 0; i < n_iov; i++)
    total += HS_MIN(iov[i].iov_len, RW_IO_MAX - total);
  int urgent = (flags & MSG_OOB) != 0 && s->life == SESSION_OPEN;
  while (urgent && n_iov > 0 && iov[n_iov - 1].iov_len == 0)
    n_iov--;
  if (total == 0) {
    rc = rw_writable(s);
    return rc > 0 ? 0 : rc;
  }
  if ((flags & MSG_MORE) != 0)
    rw_more(s, 1);
  for (;;) {
    rc = rw_write_once(s, iov, n_iov, done, urgent);
    if (rc > 0)
      done += (size_t)rc;
    if ((flags & MSG_MORE) == 0 || done < total)
      rw_more(s, 0);
    if (done == total || (rc < 0 && rc != -EAGAIN))
      break;
    if (!block) {
      if (s->life == SESSION_OPEN)
        (void)ready_events(s); /* full: arms, so that room is announced */
      break;
    }
    int waited = rw_wait_room(s);
    if (waited < 0)
      return done > 0 ? (int)done : waited;
  }
  return done > 0 ? (int)done : rc;
}

int vppcom_session_read(uint32_t session_handle_in, void *buf, size_t n) {
  return vppcom_session_recvfrom(session_handle_in, buf, (uint32_t)HS_MIN(n, RW_IO_MAX), 0, NULL);
}

/** What stands behind an endpoint: how to cut a send, and from which address. */
static void rw_tlv_take(const vppcom_endpt_t *ep, struct vcl_dgram *d) {
  const uint8_t *at = (const uint8_t *)ep->app_tlvs, *end = at != NULL ? at + ep->app_tlv_len : NULL;
  vppcom_endpt_tlv_t t;
  for (; at != NULL && (size_t)(end - at) >= sizeof t; at += sizeof t + t.data_len) {
    memcpy(&t, at, sizeof t);
    if (t.data_len > (size_t)(end - at) - sizeof t)
      return;
    const uint8_t *v = at + sizeof t;
    if (t.data_type == VCL_UDP_SEGMENT && t.data_len >= sizeof d->seg)
      memcpy(&d->seg, v, sizeof d->seg);
    if (t.data_type == VCL_IP_PKTINFO && t.data_len == 4) {
      d->local[10] = d->local[11] = 0xff;
      memcpy(d->local + 12, v, 4);
    } else if (t.data_type == VCL_IP_PKTINFO && t.data_len == 16) {
      memcpy(d->local, v, 16);
    }
  }
}

/** SET_IP_PKTINFO: where a datagram was sent to, into the room that the caller gives. */
static void rw_tlv_fill(vppcom_endpt_t *ep, const struct vcl_dgram *d) {
  uint32_t n = d->family == 4 ? 4 : 16;
  vppcom_endpt_tlv_t t = {.data_type = VCL_IP_PKTINFO, .data_len = n};
  if (ep->app_tlvs == NULL || ep->app_tlv_len < sizeof t + n)
    return;
  memcpy(ep->app_tlvs, &t, sizeof t);
  memcpy((uint8_t *)ep->app_tlvs + sizeof t, d->local + 16 - n, n);
  ep->app_tlv_len = (uint32_t)sizeof t + n;
}

static int rw_send_dgram(struct session *s, const struct iovec *iov, int flags, const vppcom_endpt_t *ep) {
  struct vcl_dgram d = {.family = 0};
  struct abi_endpoint to;
  if (ep == NULL)
    return dgram_send(s, iov, 1, flags, NULL);
  rw_tlv_take(ep, &d);
  if (ep->ip != NULL) {
    int rc = connect_endpoint(ep, &to);
    if (rc < 0)
      return rc;
    memcpy(d.ip, to.ip, sizeof d.ip);
    d.port = to.port.raw;
    d.family = to.family;
  }
  return dgram_send(s, iov, 1, flags, &d);
}

/** A datagram, its sender, and on request where it was sent to (VCL_IP_PKTINFO in the endpoint's extras). */
static int rw_recv_dgram(struct session *s, void *buf, uint32_t len, int flags, vppcom_endpt_t *ep) {
  struct iovec iov = {.iov_base = buf, .iov_len = len};
  struct vcl_dgram d;
  int rc = dgram_recv(s, &iov, 1, flags, &d);
  if (rc < 0 || ep == NULL || d.family == 0)
    return rc;
  struct abi_endpoint from = {.family = d.family, .port.raw = d.port};
  memcpy(from.ip, d.ip, sizeof from.ip);
  connect_fill(&from, ep);
  rw_tlv_fill(ep, &d);
  return rc;
}

int vppcom_session_recvfrom(uint32_t session_handle_in, void *buffer, uint32_t buflen, int flags, vppcom_endpt_t *ep) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  int rc = session_is_dgram(s) ? rw_recv_dgram(s, buffer, buflen, flags, ep) : rw_read(s, buffer, buflen, flags);
  if (rc >= 0 && !session_is_dgram(s) && ep != NULL && session_find(w, session_handle_in) == s && s->e != NULL) {
    struct abi_endpoint remote = s->e->remote;
    connect_fill(&remote, ep);
  }
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}

static int rw_write_entered(uint32_t handle, const struct iovec *iov, int n_iov, int flags, int push) {
  struct session *s = session_enter(handle);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  int rc = rw_write(s, iov, n_iov, flags);
  if (rc > 0 && push && session_find(w, handle) == s &&
      (s->opt.flags & ABI_OPT_CORK) != 0) { /* uncork and cork again: what is held back goes out */
    s->opt.flags &= ~ABI_OPT_CORK;
    session_publish_options(s);
    home_flush(s->home);
    s->opt.flags |= ABI_OPT_CORK;
    s->write_msg = 1;
  }
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}

int vppcom_session_write(uint32_t session_handle_in, void *buf, size_t n) {
  struct iovec iov = {.iov_base = buf, .iov_len = n};
  return rw_write_entered(session_handle_in, &iov, 1, 0, 0);
}

int vppcom_session_write_msg(uint32_t session_handle_in, void *buf, size_t n) {
  struct iovec iov = {.iov_base = buf, .iov_len = n};
  return rw_write_entered(session_handle_in, &iov, 1, 0, 1);
}

int vppcom_session_sendto(uint32_t session_handle_in, void *buffer, uint32_t buflen, int flags, vppcom_endpt_t *ep) {
  struct iovec iov = {.iov_base = buffer, .iov_len = buflen};
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  if (session_is_dgram(s)) {
    struct worker *w = s->w;
    int rc = rw_send_dgram(s, &iov, flags, ep);
    worker_leave(w);
    return rc == -EBADF ? VPPCOM_EBADFD : rc;
  }
  if ((flags & MSG_FASTOPEN) != 0) {
    struct worker *w = s->w;
    int rc = s->kind == SESSION_STREAM ? connect_send(s, &iov, 1, flags & ~MSG_FASTOPEN, ep) : -EBADFD;
    worker_leave(w);
    return rc == -EBADF ? VPPCOM_EBADFD : rc;
  }
  worker_leave(s->w);
  /* as Linux: a connected stream ignores ep */
  return rw_write_entered(session_handle_in, &iov, 1, flags, 0);
}

int vppcom_session_write_segments(uint32_t session_handle_in, vppcom_data_segment_t *ds, uint32_t n_segments) {
  struct iovec few[64], *many = NULL; /* all of them: of a datagram nothing may be missing */
  if (ds == NULL && n_segments != 0)
    return VPPCOM_EFAULT;
  if (n_segments > INT_MAX)
    return -EMSGSIZE;
  if (n_segments > sizeof few / sizeof few[0] && (many = malloc((size_t)n_segments * sizeof *many)) == NULL)
    return VPPCOM_ENOMEM;
  struct iovec *iov = many != NULL ? many : few;
  for (uint32_t i = 0; i < n_segments; i++)
    iov[i] = (struct iovec){.iov_base = ds[i].data, .iov_len = ds[i].len};
  int rc = rw_write_entered(session_handle_in, iov, (int)n_segments, 0, 0);
  free(many);
  return rc;
}

/** How many bytes behind those that are handed out can be handed out, too; -EPROTO. */
static int64_t rw_unhanded(struct session *s, uint32_t max_bytes) {
  uint32_t skip;
  int64_t used = fifo_cons_used(&s->rx);
  if (used < 0)
    return used;
  s->handed = (uint32_t)HS_MIN((int64_t)s->handed, used); /* another process may have read them */
  uint32_t all = (uint32_t)HS_MIN(used, (int64_t)s->handed + HS_MIN(max_bytes, (uint32_t)INT_MAX));
  /* an urgent byte is left out once it is at the head; what was handed out is not to move under its reader */
  all = urgent_limit(s, all, s->handed != 0 ? MSG_PEEK : 0, &skip);
  return all > s->handed ? (int64_t)(all - s->handed) : 0;
}

/** Pieces of what can be read now and was not handed out yet. Bytes covered, 0 at the end, -EAGAIN. */
static int rw_segments(struct session *s, vppcom_data_segment_t *ds, uint32_t n_segments, uint32_t max_bytes) {
  struct fifo_piece pc[ABI_FIFO_CHUNKS];
  uint32_t got = 0;
  int n = 0, rc = session_is_dgram(s) ? -EOPNOTSUPP : rw_readable(s); /* headers lie between the datagrams */
  if (rc <= 0)
    return rc;
  struct session_facts f = session_facts(s);
  session_lock(s);
  int64_t len = rw_unhanded(s, max_bytes);
  if (len > 0)
    n = fifo_cons_pieces(&s->rx, s->handed, (uint32_t)len, pc, (int)HS_MIN(n_segments, (uint32_t)RW_SEGMENTS), &got);
  s->handed += n > 0 ? got : 0;
  session_unlock(s);
  if (len < 0 || n < 0)
    return rw_lied(s);
  if (n == 0)
    return rw_empty(s, &f);
  for (int i = 0; i < n; i++)
    ds[i] = (vppcom_data_segment_t){.data = pc[i].p, .len = pc[i].len};
  for (uint32_t i = (uint32_t)n; i < n_segments; i++)
    ds[i] = (vppcom_data_segment_t){.data = NULL, .len = 0};
  return (int)got;
}

int vppcom_session_read_segments(uint32_t session_handle_in, vppcom_data_segment_t *ds, uint32_t n_segments,
                                 uint32_t max_bytes) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  int rc = ds == NULL || n_segments == 0 || max_bytes == 0 ? VPPCOM_EFAULT : 0;
  while (rc == 0) {
    rc = rw_segments(s, ds, n_segments, max_bytes);
    if (rc != -EAGAIN || s->nonblock)
      break;
    rc = ready_wait(s, EPOLLIN | EPOLLRDHUP, -1);
  }
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}

/** Takes bytes back. The rest of the stream behind an urgent byte can be handed out only now: no bell tells of that. */
static void rw_free(struct session *s, uint32_t n_bytes) {
  session_lock(s);
  int64_t used = fifo_cons_used(&s->rx);
  s->handed = (uint32_t)HS_MIN((int64_t)s->handed, HS_MAX(used, (int64_t)0));
  uint32_t n = HS_MIN(s->handed, n_bytes), ahead;
  if (n != 0)
    fifo_cons_consume(&s->rx, n);
  s->handed -= n;
  int more = n != 0 && used > (int64_t)n && s->handed == 0 && urgent_mark(s, &ahead) != URGENT_NONE;
  session_unlock(s);
  if (n != 0)
    rw_consumed(s);
  if (more) {
    session_touch(s);
    worker_again(s->w);
  }
}

void vppcom_session_free_segments(uint32_t session_handle_in, uint32_t n_bytes) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return;
  struct worker *w = s->w;
  if (s->kind == SESSION_STREAM && !session_is_dgram(s) && s->fifos_open)
    rw_free(s, n_bytes);
  worker_leave(w);
}
