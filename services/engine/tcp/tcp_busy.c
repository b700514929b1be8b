/*
 * What only a busy connection needs (struct tcp_busy): lent when a segment comes, the app writes or a timer is due, and
 * given back when the connection has been silent for a while and nothing in it is worth remembering. So an idle
 * connection is a durable record and 208 bytes. What it forgets: the round in which the congestion control was (a
 * silence ends CUBIC's epoch and HyStart++'s round anyway, RFC 9438 5.8; W_max is kept), the least round trip's age,
 * what RACK saw last, when it answered strays. BBR keeps its model for as long as its filters do, ten seconds.
 *
 * There is a block for every connection that can exist (tcp_env_busy), so that there is always one to be had.
 * Called by the public calls of this room, worker's thread.
 */
#include "tcp_int.h"

#define REST_AFTER     4000000u  /* µs of silence */
#define REST_AFTER_BBR 10000000u /* draft-cardwell-iccrg-bbr-congestion-control-00 4.1.2.3: RTpropFilterLen */

void tcp_env_busy(struct tcp_env *e, void *mem, uint32_t n) {
  e->busy_free = NULL;
  e->busy_mem = mem;
  e->busy_left = n;
  e->busy_out = 0;
}

static struct tcp_busy *busy_get(struct tcp_env *e) {
  struct tcp_busy *b = e->busy_free;
  if (b != NULL) {
    e->busy_free = b->next;
  } else {
    BUG_ON(e->busy_left == 0); /* more connections than the env's owner said there could be */
    b = (struct tcp_busy *)(void *)e->busy_mem;
    e->busy_mem += TCP_BUSY_SIZE;
    e->busy_left--;
  }
  e->busy_out++;
  return b;
}

/** A fresh block for `c`, whose other words are set. */
void tcp_busy_wake(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  struct tcp_busy *b = busy_get(e);
  memset(b, 0, sizeof *b);
  c->b = b;
  b->ecn_until = b->full_end = c->snd_una - 1;
  tcp_cc_round(c);
  if (c->ordered != UINT64_MAX) /* at rest it is the keep-alive's; too early, it finds out */
    b->due[TCP_T_KEEP] = c->ordered;
  b->due[TCP_T_REST] = now + REST_AFTER;
}

/** The block goes home. */
void tcp_busy_release(struct tcp_env *e, struct tcp_conn *c) {
  struct tcp_busy *b = c->b;
  if (b == NULL)
    return;
  tcp_sent_release(e, c);
  tcp_ooo_release(e, c);
  c->b = NULL;
  b->next = e->busy_free;
  e->busy_free = b;
  e->busy_out--;
}

const struct tcp_conn *tcp_busy_look(const struct tcp_conn *c, struct tcp_conn *room) {
  static struct tcp_busy none; /* only ever read */
  if (c->b != NULL)
    return c;
  *room = *c;
  room->b = &none;
  return room;
}

void tcp_release(struct tcp_env *e, struct tcp_conn *c) {
  tcp_busy_release(e, c);
}

/* Nothing is out, expected, owed or held back. */
static int busy_quiet(struct tcp_env *e, const struct tcp_conn *c, usec_t now) {
  const struct tcp_busy *b = c->b;
  uint32_t state = tcp_state(c);
  if (state != ABI_TCP_ESTABLISHED && state != ABI_TCP_CLOSE_WAIT)
    return 0;
  for (unsigned i = 0; i < TCP_T_N; i++)
    if (b->due[i] != 0 && i != TCP_T_KEEP)
      return 0;
  if (c->snd_una != c->d->snd_max || c->n_sent > 0 || b->board.n > 0 || c->recovery != TCP_OPEN || c->tail ||
      (c->undo && now < b->undo_until))
    return 0;
  if (c->ack_now || c->blocked || c->peer_fin || c->mtu_probe != 0 || b->dsack.l != b->dsack.r || !tcp_ooo_empty(c))
    return 0;
  return e->ops->tx_used(e->ctx, (struct tcp_conn *)(uintptr_t)c) == 0;
}

/** TCP_T_REST is due: back to rest, or look again later. */
void tcp_busy_rest(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  usec_t after = c->cc == &tcp_cc_bbr ? REST_AFTER_BBR : REST_AFTER, last = HS_MAX(c->last_rx, c->last_tx);
  usec_t keep = c->b->due[TCP_T_KEEP];
  if (last + after > now || !busy_quiet(e, c, now)) {
    tcp_timer_arm(c, TCP_T_REST, HS_MAX(last + after, now + after / 2));
    return;
  }
  c->undo = TCP_UNDO_NONE;
  c->rack = c->reo_round_set = 0;
  tcp_busy_release(e, c);
  TCP_COUNT(e, rests);
  if (keep == 0)
    return; /* nothing is ordered: the order that stood has come */
  c->ordered = keep;
  e->ops->timer(e->ctx, c, keep);
}
