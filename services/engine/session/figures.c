/*
 * Figures of sessions in their records, behind TCP_INFO and `hsctl show session`: refreshed at most every 10 ms while a
 * session is busy and once more when the worker has nothing to do, so that they are right when all is quiet. With the
 * same look the memory of an rx fifo that is drained goes back. Worker thread; readers look without a lock, never wait.
 */
#include "transport_tcp.h"

#define FIGURES_EVERY 10000u /* µs */

void figures_soft_error(struct session *s, int fresh) {
  if (!s->e)
    return;
  uint32_t err = tcp_of(s)->soft_error & 0xffffu, word = s->e->soft_error;
  if (!fresh && err == (word & 0xffffu))
    return;
  __atomic_store_n(&s->e->soft_error, ((word >> 16) + 1) << 16 | err, __ATOMIC_RELEASE);
}

void figures_now(struct worker *w, struct session *s) {
  list_del(&s->figures);
  s->figures_at = w->now;
  if (s->dead || !s->ops || !s->e || s->tcb == ABI_SEG_NONE)
    return;
  tcp_figures(&w->tcp, tcp_of(s), &s->e->figures);
  tcp_figures_more(&w->tcp, tcp_of(s), &s->e->more);
  figures_soft_error(s, 0); /* an ACK has shown that the way is open */
  __atomic_store_n(&s->e->cc, 1u + w->tcbs.tcb[s->tcb].cc, __ATOMIC_RELAXED);
}

void figures_due(struct worker *w, struct session *s) {
  if (w->now - s->figures_at >= FIGURES_EVERY)
    figures_now(w, s);
  else if (!list_linked(&s->figures))
    list_add_tail(&w->figures, &s->figures);
}

void figures_write(struct worker *w, int all) {
  int news = listen_has_news(&w->listeners);
  if ((list_empty(&w->figures) && !news) || (!all && w->now - w->figures_at < FIGURES_EVERY))
    return;
  w->figures_at = w->now;
  if (news)
    listen_tell(w);
  while (!list_empty(&w->figures)) {
    struct session *s = container_of(w->figures.next, struct session, figures);
    figures_now(w, s);
    if (!s->dead && s->ops)
      tcp_trim(s);
  }
}
