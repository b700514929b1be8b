/*
 * Pending Fast Opens, see fast.h. RFC 7413 5.1: whoever has a good cookie, perhaps a stolen one, could send SYNs with
 * data and reset each at once, as fast as he likes; so a request that was reset keeps its place in the limit for 60 s
 * (as on Linux), and when places are out the listener goes on without Fast Open.
 */
#include "fast.h"

#include "base/bits.h"
#include "worker.h"

#include "transport_tcp.h"

#define FAST_HOLD 60000000ull /* µs */

static void fast_leave(struct worker *w, uint32_t entry) {
  (void)__atomic_sub_fetch(w->listeners.l[entry].n_fast, 1, __ATOMIC_RELAXED);
}

void fast_begin(struct worker *w, struct session *s, struct listener *l) {
  s->fast = (uint16_t)(l - w->listeners.l + 1);
  (void)__atomic_add_fetch(l->n_fast, 1, __ATOMIC_RELAXED);
}

void fast_done(struct worker *w, struct session *s) {
  if (s->fast == 0)
    return;
  fast_leave(w, s->fast - 1u);
  s->fast = 0;
}

static void fast_pop(struct worker *w) {
  struct fast_gate *g = &w->fast;
  uint32_t listener = g->held[g->first].listener;
  if (listener != 0)
    fast_leave(w, listener - 1);
  g->first = (g->first + 1) % FAST_HELD;
  g->n--;
}

static void fast_hold(struct worker *w, uint32_t listener, usec_t now) {
  struct fast_gate *g = &w->fast;
  if (g->n == FAST_HELD)
    fast_pop(w);
  g->held[(g->first + g->n) % FAST_HELD] = (struct fast_held){.until = now + FAST_HOLD, .listener = listener};
  g->n++;
  worker_count(w, EC_FAST_HELD, 1);
}

void fast_input(struct worker *w, struct session *s, const struct tcp_seg_in *seg, usec_t now) {
  uint16_t place = s->fast;
  if (seg->hdr.flags & TCP_RST)
    s->fast = 0; /* its end gives nothing back */
  tcp_input(&w->tcp, tcp_of(s), seg, now);
  if (s->dead || !s->ops) {
    if (seg->hdr.flags & TCP_RST)
      fast_hold(w, place, now);
    return;
  }
  s->fast = place;
  if (tcp_state(tcp_of(s)) != ABI_TCP_SYN_RECEIVED)
    fast_done(w, s);
}

void fast_expire(struct worker *w) {
  struct fast_gate *g = &w->fast;
  while (HS_UNLIKELY(g->n > 0) && g->held[g->first].until <= w->now)
    fast_pop(w);
}

void fast_forget(struct worker *w, uint32_t entry) {
  struct fast_gate *g = &w->fast;
  for (uint32_t i = 0; i < g->n; i++) {
    struct fast_held *h = &g->held[(g->first + i) % FAST_HELD];
    if (h->listener != entry + 1)
      continue;
    h->listener = 0;
    fast_leave(w, entry);
  }
}
