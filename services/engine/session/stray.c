/*
 * Strays: who takes datagrams to ports that nobody has (stray.h). Hot path of what comes for such ports.
 *
 * The policy entry says that the app is a proxy, the app's half of the session that it accepts peers there: a socket of
 * the same app that is bound and no more gets what is sent to its own port alone. Both are read anew each time, so
 * there is nothing that a restart could forget.
 */
#include "stray.h"

#include "base/bits.h"
#include "gate.h"
#include "listen.h"
#include "transport_udp.h"

/* Whether the session behind a proxy's entry takes strays. Any worker, whoever owns the session. */
static int stray_is_wanted(struct worker *w, const struct listener *l) {
  const struct app_worker *a = worker_app(w, l->entry.worker_id);
  const struct abi_sess_app *half =
      a && a->life == APP_LIVE && l->entry.slot < a->v.ga.n_slots_app ? worker_view_app(&a->v, l->entry.slot) : NULL;
  return half && __atomic_load_n(&half->gen, __ATOMIC_ACQUIRE) == l->entry.slot_gen &&
         __atomic_load_n(&half->op, __ATOMIC_RELAXED) == ABI_OP_OPEN &&
         (__atomic_load_n(&half->opt.flags, __ATOMIC_RELAXED) & ABI_OPT_STRAYS);
}

/* The next proxy of datagrams to `dst` behind `at`, NULL at the end. */
static struct listener *stray_next(struct worker *w, uint32_t vrf, const struct ip_addr *dst, struct list **at) {
  struct list *head = &w->listeners.proxies;
  for (*at = (*at)->next; *at != head; *at = (*at)->next) {
    struct listener *l = container_of(*at, struct listener, proxy);
    if (l->entry.proto == transport_udp.proto && l->entry.vrf == vrf && listen_takes(l, dst) &&
        gate_may_use(w, l->entry.ns, dst) && stray_is_wanted(w, l))
      return l;
  }
  return NULL;
}

struct listener *stray_listener(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint32_t hash) {
  struct list *at = &w->listeners.proxies;
  struct listener *l, *first = NULL, *best = NULL;
  uint32_t equals = 0;
  while ((l = stray_next(w, vrf, dst, &at)) != NULL)
    if (!first || l->entry.listener_id < first->entry.listener_id)
      first = l;
  at = &w->listeners.proxies;
  while (first && (l = stray_next(w, vrf, dst, &at)) != NULL) {
    if (l->entry.addr.port.raw != first->entry.addr.port.raw || l->entry.ns != first->entry.ns)
      continue;
    equals++; /* reservoir by hash, as listen_best */
    if (equals == 1 || hash_mix64(((uint64_t)hash << 32) | equals) % equals == 0)
      best = l;
  }
  return best;
}

int stray_may_use(struct worker *w, const struct app_worker *a, const struct ip_addr *local, uint16_t port) {
  if (HS_LIKELY(list_empty(&w->listeners.proxies)) || listen_find(w, a->sh->vrf, transport_udp.proto, local, port, 0) ||
      udp_auto(w, a->sh->vrf, local, port))
    return 0;
  struct list *at = &w->listeners.proxies;
  const struct listener *l;
  while ((l = stray_next(w, a->sh->vrf, local, &at)) != NULL)
    if (l->entry.worker_id == a->id)
      return 1;
  return 0;
}
