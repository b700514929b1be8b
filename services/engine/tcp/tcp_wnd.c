/*
 * The receive window: what we promise. The right edge d->rcv_adv is stored before the segment that carries it and never
 * moves left (RFC 9293 3.8.6.2.1), whatever memory does afterwards; small openings are held back (SWS avoidance,
 * RFC 9293 3.8.6.2.2). On the wire the edge may look lower by less than one unit of the scale (RFC 7323 2.4), but we
 * accept up to what was promised before.
 */
#include "tcp_int.h"

#define WND_UPDATE_MAX (256u * 1024) /* an opening of this size is always worth an ACK */

uint8_t tcp_wnd_scale_for(uint32_t buf) {
  uint8_t s = 0;
  while (s < TCP_WSCALE_MAX && (65535u << s) < buf)
    s++;
  return s;
}

uint32_t tcp_wnd_current(const struct tcp_conn *c) {
  return seq_gt(c->d->rcv_adv, c->rcv_nxt) ? c->d->rcv_adv - c->rcv_nxt : 0;
}

/* `now` 0: the handshake, nothing to measure yet. */
static uint32_t wnd_room(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t room = e->ops->rx_room(e->ctx, c);
  if (e->ops->rx_limit != NULL)
    room = tcp_rbuf_room(e, c, room, now);
  room = HS_MIN(room, 65535u << c->d->rcv_wscale); /* more can't be told (RFC 7323 2.3): no news is no update */
  c->rx_max = HS_MAX(c->rx_max, room);
  return room;
}

uint16_t tcp_wnd_syn(struct tcp_env *e, struct tcp_conn *c) {
  return (uint16_t)HS_MIN(wnd_room(e, c, 0), 65535u); /* RFC 7323 2.2: never scaled in a SYN */
}

uint16_t tcp_wnd_select(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  struct abi_tcb *d = c->d;
  uint32_t room = wnd_room(e, c, now), cur = tcp_wnd_current(c), want = cur;
  if (room > cur && room - cur >= HS_MIN(c->rx_max / 2, c->rcv_mss))
    want = room;
  uint32_t w = HS_MIN(want >> d->rcv_wscale, 65535u);
  seq32_t edge = c->rcv_nxt + (w << d->rcv_wscale);
  if (seq_gt(edge, d->rcv_adv)) {
    d->rcv_adv = edge; /* before the promise leaves */
    FAULT_POINT("tcp.wnd.promised");
  }
  c->wnd_closed = (w << d->rcv_wscale) < c->rcv_mss;
  return (uint16_t)w;
}

void tcp_rx_consumed(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t state = tcp_state(c);
  if (state != ABI_TCP_ESTABLISHED && state != ABI_TCP_FIN_WAIT_1 && state != ABI_TCP_FIN_WAIT_2)
    return; /* the peer sends nothing more */
  if (HS_UNLIKELY(c->b == NULL)) {
    tcp_busy_wake(e, c, now);
    tcp_timer_order(e, c); /* most of what follows ends without */
  }
  uint32_t room = wnd_room(e, c, now), cur = tcp_wnd_current(c);
  if (room <= cur)
    return;
  if (c->rcv_nxt == c->d->irs + 1 && !c->wnd_closed)
    return; /* nothing came yet: the first ACK says what the SYN's unscaled window could not */
  uint32_t gain = room - cur;
  /* A nearly closed window stops the sender: open it as soon as SWS avoidance lets us. Else a quarter of the buffer. */
  uint32_t worth = c->wnd_closed ? HS_MIN(c->rx_max / 2, 2 * c->rcv_mss) : HS_MIN(c->rx_max / 4, WND_UPDATE_MAX);
  if (gain < HS_MAX(worth, 1u) || gain < HS_MIN(c->rx_max / 2, c->rcv_mss))
    return;
  if (!c->wnd_closed && cur >= c->rx_max / 2)
    return; /* the sender has room enough; its next segment's ACK carries the rest */
  TCP_COUNT(e, window_updates);
  tcp_output_ack(e, c, now);
  tcp_done(e, c);
}
