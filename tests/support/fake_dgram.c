/*
 * The fake engine's sessions of datagrams: opened, connected, and what is sent goes to whoever is bound to the port.
 *
 * Called by fake_sess.c on the fake's thread, under the fake's lock. No namespaces, no groups, one address; a datagram
 * to a port that nobody has is a proxy's (ABI_OPT_STRAYS), else an error of its sender, as ICMP makes it.
 */
#include "fake_sess.h"

#include "abi/dgram.h"

#include <errno.h>
#include <string.h>

/** The fake's one address. */
static const struct abi_endpoint here = {.ip = {[10] = 0xff, 0xff, 10, 0, 0, 1}, .family = 4};

/** Its near end: the address only once it is connected, or bound to it. */
static void fake_dgram_local(struct fake *f, struct fake_session *s, const struct abi_request *rq, int connects) {
  if (s->e->local.family == 0) {
    s->e->local = here;
    s->e->local.port = rq->local.port.raw != 0 ? rq->local.port : be16_from(f->next_port++);
    if (memcmp(rq->local.ip, here.ip, sizeof here.ip) != 0)
      memset(s->e->local.ip + 12, 0, 4);
  }
  if (connects)
    memcpy(s->e->local.ip, here.ip, sizeof here.ip);
}

void fake_dgram_request(struct fake *f, struct fake_session *s) {
  uint32_t seq = LOAD(&s->a->req_seq);
  struct abi_request rq = s->a->req;
  int connects = rq.kind == ABI_REQ_CONNECT && rq.remote.family != 0;
  if (seq == s->e->req_seen)
    return;
  if (f->hold_open && connects) {
    f->n_held++;
    return;
  }
  if (f->open_error != 0 && connects) {
    STORE(&s->e->req_seen, seq);
    STORE(&s->e->error, (uint32_t)f->open_error);
    STORE(&s->e->state, (uint32_t)ABI_SESS_CLOSED);
    f->open_error = 0;
    s->gone = 1;
    fake_sess_hint(s);
    return;
  }
  fake_dgram_local(f, s, &rq, connects);
  if (rq.kind == ABI_REQ_CONNECT)
    s->e->remote = rq.remote;
  s->e->req_error = 0;
  STORE(&s->e->req_seen, seq);
  STORE(&s->e->state, (uint32_t)ABI_SESS_READY);
  fake_sess_hint(s);
}

/** Whoever gets what `from` sends to a port: the one that is connected to it, else one that is connected to nobody. */
static struct fake_session *fake_dgram_goal(struct fake *f, const struct fake_session *from, be16_t port) {
  struct fake_session *best = NULL;
  for (int i = 0; i < FAKE_SESSIONS; i++) {
    struct fake_session *s = &f->session[i];
    if (!s->used || !s->dgram || s->gone || s->e->local.port.raw != port.raw)
      continue;
    if (s->e->remote.family != 0 && s->e->remote.port.raw != from->e->local.port.raw)
      continue;
    if (best == NULL || s->e->remote.family != 0)
      best = s;
  }
  return best;
}

/** Who takes what is sent to ports that nobody has. */
static struct fake_session *fake_dgram_proxy(struct fake *f) {
  for (int i = 0; i < FAKE_SESSIONS; i++) {
    struct fake_session *s = &f->session[i];
    if (s->used && s->dgram && !s->gone && s->e->remote.family == 0 && (s->a->opt.flags & ABI_OPT_STRAYS) != 0)
      return s;
  }
  return NULL;
}

static void fake_dgram_deliver(struct fake *f, struct fake_session *s, struct abi_dgram *d, const uint8_t *bytes) {
  be16_t port = d->family != 0 ? d->port : s->e->remote.port;
  struct fake_session *to = fake_dgram_goal(f, s, port);
  f->n_dgrams++;
  d->flags = 0;
  if (to == NULL && (to = fake_dgram_proxy(f)) != NULL) {
    d->flags = ABI_DGRAM_STRAY;
    d->seg = be16_get(port);
  }
  if (to == NULL) {
    uint32_t told = s->e->soft_error >> 16;
    if (s->e->remote.family != 0)
      STORE(&s->e->soft_error, (told + 1) << 16 | ECONNREFUSED);
    fake_sess_hint(s);
    return;
  }
  memcpy(d->ip, here.ip, sizeof d->ip);
  memcpy(d->local, here.ip, sizeof d->local);
  d->port = s->e->local.port;
  d->family = 4;
  uint32_t need = (uint32_t)sizeof *d + d->len;
  if (fifo_prod_room(&to->rx) < (int64_t)need || fifo_prod_place(&to->rx, 0, d, sizeof *d) != (int64_t)sizeof *d ||
      fifo_prod_place(&to->rx, sizeof *d, bytes, d->len) != (int64_t)d->len)
    return;
  fifo_prod_publish(&to->rx, need);
  fake_sess_hint(to);
}

int fake_dgram_step(struct fake *f, struct fake_session *s) {
  static uint8_t bytes[ABI_DGRAM_MAX];
  struct abi_dgram d;
  int moved = 0;
  fake_dgram_request(f, s);
  while (!f->hold && fifo_cons_used(&s->tx) >= (int64_t)sizeof d &&
         fifo_cons_read(&s->tx, &d, sizeof d) == (int64_t)sizeof d && d.len <= sizeof bytes &&
         fifo_cons_read(&s->tx, bytes, d.len) == (int64_t)d.len) {
    fake_dgram_deliver(f, s, &d, bytes);
    moved = 1;
  }
  return moved;
}
