/*
 * Listeners: private copies of the broker's policy entries, chained by port. Worker thread.
 */
#include "worker.h"

#include "gate.h"
#include "life.h"

#include <errno.h>
#include <stdlib.h>

static uint32_t listen_bucket(uint16_t port) {
  return (port * 2654435761u) % LISTEN_BUCKETS;
}

static int listen_alloc(struct listen_table *t) {
  t->l = calloc(t->geom.n_listen, sizeof *t->l);
  list_init(&t->changed);
  list_init(&t->proxies);
  for (uint64_t i = 0; t->l && i < t->geom.n_listen; i++) {
    list_init(&t->l[i].waiting);
    list_init(&t->l[i].proxy);
    t->l[i].news = &t->changed;
    t->l[i].total = &t->total[i];
    t->l[i].n_fast = &t->n_fast[i];
  }
  return t->l ? 0 : -ENOMEM;
}

int listen_open(struct listen_table *t, int fd) {
  const char *why = "";
  int rc = seg_attach(&t->seg, fd, ABI_SEG_POLICY, SEG_RDONLY, &why);
  if (rc)
    return rc;
  memcpy(&t->geom, t->seg.geom, sizeof t->geom);
  uint64_t bytes = t->geom.n_listen * sizeof(struct abi_listen_entry);
  t->policy = seg_at(&t->seg, t->geom.block_off, sizeof *t->policy);
  t->entries = t->geom.n_listen <= 1u << 20 ? seg_at(&t->seg, t->geom.listen_off, bytes) : NULL;
  t->total = t->entries ? calloc(t->geom.n_listen, sizeof *t->total) : NULL;
  t->n_fast = t->entries ? calloc(t->geom.n_listen, sizeof *t->n_fast) : NULL;
  if (t->policy && t->total && t->n_fast && listen_alloc(t) == 0)
    return 0;
  listen_close(t);
  return -EPROTO;
}

int listen_borrow(struct listen_table *t, const struct listen_table *of) {
  *t = *of;
  t->borrowed = 1;
  return listen_alloc(t);
}

void listen_close(struct listen_table *t) {
  free(t->l);
  if (!t->borrowed) {
    free(t->total);
    free(t->n_fast);
    seg_detach(&t->seg);
  }
  *t = (struct listen_table){.seg = {.fd = -1}};
}

static void listen_unlink(struct listen_table *t, uint32_t i) {
  uint32_t *at = &t->bucket[listen_bucket(be16_get(t->l[i].entry.addr.port))];
  while (*at && *at != i + 1)
    at = &t->l[*at - 1].next;
  if (*at)
    *at = t->l[i].next;
  t->l[i].next = 0;
  list_del(&t->l[i].proxy);
}

static void listen_link(struct listen_table *t, uint32_t i) {
  uint32_t *head = &t->bucket[listen_bucket(be16_get(t->l[i].entry.addr.port))];
  t->l[i].next = *head;
  *head = i + 1;
  if (t->l[i].entry.flags & ABI_LISTEN_PROXY)
    list_add_tail(&t->proxies, &t->l[i].proxy);
}

/* Whether the app half of the listener's slot says that its process takes offers. */
static uint8_t listen_is_armed(struct worker *w, const struct abi_listen_entry *e) {
  for (uint32_t i = 0; i < w->n_apps; i++) {
    if (w->app[i]->id != e->worker_id || w->app[i]->life != APP_LIVE)
      continue;
    const struct abi_sess_app *a = worker_view_app(&w->app[i]->v, e->slot);
    return a && __atomic_load_n(&a->gen, __ATOMIC_ACQUIRE) == e->slot_gen &&
           __atomic_load_n(&a->listen_armed, __ATOMIC_ACQUIRE) == 1;
  }
  return 0;
}

/* Tell the app that its listener is served; state LISTENING is what listen() of the library may look at. */
static void listen_publish(struct worker *w, const struct abi_listen_entry *e) {
  for (uint32_t i = 0; i < w->n_apps; i++) {
    if (w->app[i]->id != e->worker_id || w->app[i]->life != APP_LIVE || e->slot >= w->app[i]->v.ge.n_slots_app ||
        app_owner(w->app[i], e->slot) != w->index)
      continue;
    struct abi_sess_engine *half = worker_view_engine(&w->app[i]->v, e->slot);
    if (!half || w->app[i]->by_slot[e->slot] != APP_NO_SESSION)
      return; /* the app has closed the listener and uses the slot for a connection already */
    __atomic_store_n(&half->gen, e->slot_gen, __ATOMIC_RELAXED);
    life_set(half, e->live ? ABI_SESS_LISTENING : ABI_SESS_CLOSED);
    app_hint(w->app[i], e->slot);
  }
}

/* Else its session says by itself how it is (transport_ops.open). */
static int listen_is_stream(const struct worker *w, const struct abi_listen_entry *e) {
  return transport_is_stream(transport_of(w, e->proto));
}

/* Shares of one listening socket, or of one SO_REUSEPORT group. */
static int listen_is_share(const struct abi_listen_entry *a, const struct abi_listen_entry *b) {
  return a->proto == b->proto && a->ns == b->ns && a->vrf == b->vrf && a->addr.port.raw == b->addr.port.raw &&
         memcmp(a->addr.ip, b->addr.ip, 16) == 0;
}

/* Takes offers from now on: also what others of its shares, that take none any more, have not taken. */
static void listen_armed(struct worker *w, struct listener *l) {
  struct listen_table *t = &w->listeners;
  w->offers_due = 1; /* at the end of the turn, so that an app that toggles it costs one look per turn */
  for (uint32_t at = t->bucket[listen_bucket(be16_get(l->entry.addr.port))]; at; at = t->l[at - 1].next) {
    struct listener *o = &t->l[at - 1];
    if (o->live && !o->armed && !list_empty(&o->waiting) && listen_is_share(&o->entry, &l->entry))
      offer_disarmed(w, o);
  }
}

static void listen_take_entry(struct worker *w, uint32_t i) {
  struct listen_table *t = &w->listeners;
  const struct abi_listen_entry *shared = &t->entries[i];
  struct listener *l = &t->l[i];
  uint32_t gen = __atomic_load_n(&shared->gen, __ATOMIC_ACQUIRE);
  if (gen == l->seen_gen || (gen & 1u))
    return;
  struct abi_listen_entry copy = *shared;
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  if (__atomic_load_n(&shared->gen, __ATOMIC_RELAXED) != gen)
    return; /* being written: the broker announces another policy_gen after it */
  if (l->live)
    listen_unlink(t, i);
  int same = l->live && l->entry.worker_id == copy.worker_id && l->entry.slot == copy.slot &&
             l->entry.slot_gen == copy.slot_gen;
  same &= copy.live == 1;
  struct abi_listen_entry old = l->entry;
  struct list heirless;
  list_init(&heirless);
  if (!same) {
    l->session = 0;
    list_splice_tail(&heirless, &l->waiting);
    list_init(&l->waiting);
    listen_count(l, -(int)l->pending, -(int)l->half);
    const struct transport_ops *ops = transport_of(w, l->entry.proto);
    if (l->seen_gen != 0 && ops && ops->unlisten) /* the entry was somebody's, of that transport */
      ops->unlisten(w, i);
  }
  l->seen_gen = gen;
  l->live = copy.live == 1;
  l->entry = copy;
  l->armed = l->live && (l->session ? l->armed : listen_is_armed(w, &copy));
  if (l->live)
    listen_link(t, i);
  if (listen_is_stream(w, &copy))
    listen_publish(w, &copy);
  offer_inherit(w, &heirless, &old);
  if (l->armed)
    listen_armed(w, l);
}

uint32_t listen_refresh(struct worker *w) {
  struct listen_table *t = &w->listeners;
  if (!t->policy)
    return 0;
  uint32_t gen = __atomic_load_n(&t->policy->policy_gen, __ATOMIC_ACQUIRE);
  (void)rules_take(&w->rules); /* at least those that were announced with gen */
  uint32_t high = __atomic_load_n(&t->policy->listen_high, __ATOMIC_ACQUIRE);
  t->high = high < t->geom.n_listen ? high : (uint32_t)t->geom.n_listen;
  for (uint32_t i = 0; i < t->high; i++)
    listen_take_entry(w, i);
  return gen;
}

/* 0 = does not take this destination, 1 = wildcard of the other family, 2 = wildcard, 3 = this very address. */
static int listen_fit(const struct abi_listen_entry *e, const struct ip_addr *dst) {
  struct ip_addr addr;
  memcpy(&addr, e->addr.ip, sizeof addr);
  int dst4 = ip_addr_is4(dst);
  if (ip_addr_eq(&addr, dst))
    return 3;
  if (!ip_addr_is_any(&addr))
    return 0;
  if (e->addr.family == 4)
    return dst4 ? 2 : 0;
  if (!dst4)
    return 2;
  return (e->flags & ABI_LISTEN_V6ONLY) ? 0 : 1;
}

int listen_takes(const struct listener *l, const struct ip_addr *dst) {
  return listen_fit(&l->entry, dst) > 0;
}

/* For one that a rule leads here: also bound to another address of the family. */
static int listen_fit_app(const struct abi_listen_entry *e, const struct ip_addr *dst) {
  struct ip_addr addr;
  memcpy(&addr, e->addr.ip, sizeof addr);
  return ip_addr_is_any(&addr) ? listen_fit(e, dst) : ip_addr_is4(&addr) == ip_addr_is4(dst) ? 3 : 0;
}

/* tag != 0: listeners of the app of that name alone. */
static struct listener *listen_best(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst,
                                    uint16_t port, uint32_t hash, int armed_only, uint64_t tag) {
  struct listen_table *t = &w->listeners;
  struct listener *best = NULL;
  int best_fit = 0;
  uint32_t equals = 0;
  for (uint32_t at = t->bucket[listen_bucket(port)]; at; at = t->l[at - 1].next) {
    struct listener *l = &t->l[at - 1];
    if (l->entry.proto != proto || be16_get(l->entry.addr.port) != port || l->entry.vrf != vrf)
      continue;
    if (tag ? l->entry.app_tag != tag : !gate_may_use(w, l->entry.ns, dst))
      continue; /* a rule may lead anywhere */
    int fit = (tag ? listen_fit_app(&l->entry, dst) : listen_fit(&l->entry, dst)) * 2 + l->armed;
    if (fit < 2 || fit < best_fit || (armed_only && !l->armed))
      continue;
    equals = fit == best_fit ? equals + 1 : 1;
    /* reservoir by hash: the k-th equal candidate replaces the best with probability 1/k, the same for each flow */
    if (equals == 1 || hash_mix64(((uint64_t)hash << 32) | equals) % equals == 0)
      best = l;
    best_fit = fit;
  }
  return best;
}

struct listener *listen_find(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst, uint16_t port,
                             uint32_t hash) {
  return listen_best(w, vrf, proto, dst, port, hash, 0, 0);
}

struct listener *listen_find_app(struct worker *w, uint32_t vrf, uint8_t proto, uint64_t tag, const struct ip_addr *dst,
                                 uint16_t port, uint32_t hash) {
  return listen_best(w, vrf, proto, dst, port, hash, 0, tag);
}

/* The first listener of a proxy that is there for `dst`, or a share of it by `hash`. */
static struct listener *listen_find_proxy(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst,
                                          uint32_t hash) {
  const struct listener *first = NULL;
  struct list *pos;
  list_for_each(pos, &w->listeners.proxies) {
    const struct listener *l = container_of(pos, struct listener, proxy);
    if (l->entry.proto == proto && l->entry.vrf == vrf && listen_fit(&l->entry, dst) > 0 &&
        gate_may_use(w, l->entry.ns, dst) && (!first || l->entry.listener_id < first->entry.listener_id))
      first = l;
  }
  return first ? listen_find(w, vrf, proto, dst, be16_get(first->entry.addr.port), hash) : NULL;
}

struct listener *listen_taker(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst, uint16_t port,
                              uint32_t hash) {
  struct listener *l = listen_find(w, vrf, proto, dst, port, hash);
  return l ? l : listen_find_proxy(w, vrf, proto, dst, hash);
}

struct listener *listen_find_armed(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst,
                                   uint16_t port, uint32_t hash) {
  return listen_best(w, vrf, proto, dst, port, hash, 1, 0);
}

struct listener *listen_next(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst, uint16_t port,
                             const struct listener *after) {
  struct listen_table *t = &w->listeners;
  for (uint32_t at = after ? after->next : t->bucket[listen_bucket(port)]; at; at = t->l[at - 1].next) {
    struct listener *l = &t->l[at - 1];
    if (l->entry.proto == proto && be16_get(l->entry.addr.port) == port && l->entry.vrf == vrf &&
        listen_fit(&l->entry, dst) > 0)
      return l;
  }
  return NULL;
}

struct listener *listen_share(struct worker *w, struct listener *l, uint32_t hash) {
  if (l->live && l->armed)
    return l;
  struct ip_addr addr;
  memcpy(&addr, l->entry.addr.ip, sizeof addr);
  struct listen_table *t = &w->listeners;
  struct listener *best = NULL;
  uint32_t equals = 0;
  for (uint32_t at = t->bucket[listen_bucket(be16_get(l->entry.addr.port))]; at; at = t->l[at - 1].next) {
    struct listener *o = &t->l[at - 1];
    if (!o->armed || !o->live || !listen_is_share(&o->entry, &l->entry))
      continue;
    equals++;
    if (equals == 1 || hash_mix64(((uint64_t)hash << 32) | equals) % equals == 0)
      best = o;
  }
  return best;
}

struct listener *listen_heir(struct worker *w, const struct abi_listen_entry *of) {
  struct listen_table *t = &w->listeners;
  struct listener *best = NULL;
  for (uint32_t at = t->bucket[listen_bucket(be16_get(of->addr.port))]; at; at = t->l[at - 1].next) {
    struct listener *o = &t->l[at - 1];
    if (!o->live || o->entry.proto != of->proto || o->entry.ns != of->ns || o->entry.vrf != of->vrf ||
        o->entry.addr.port.raw != of->addr.port.raw || memcmp(o->entry.addr.ip, of->addr.ip, 16) != 0 ||
        (best && !o->armed))
      continue;
    struct app_worker *a = worker_app(w, o->entry.worker_id);
    if (a && a->life == APP_LIVE)
      best = o;
    if (best && best->armed)
      break;
  }
  return best;
}

void listen_gone(struct worker *w, uint64_t worker_id) {
  for (uint32_t i = 0; i < w->listeners.high; i++)
    if (w->listeners.l[i].entry.worker_id == worker_id)
      w->listeners.l[i].armed = 0;
}

struct listener *listen_by_slot(struct worker *w, uint64_t worker_id, uint32_t slot, uint32_t gen) {
  for (uint32_t i = 0; i < w->listeners.high; i++) {
    struct listener *l = &w->listeners.l[i];
    if (l->live && l->entry.worker_id == worker_id && l->entry.slot == slot && l->entry.slot_gen == gen)
      return l;
  }
  return NULL;
}

static void listen_set_armed(struct worker *w, struct listener *l, uint8_t armed) {
  uint8_t was = l->armed;
  l->armed = armed;
  if (l->armed && !was)
    listen_armed(w, l);
  if (!l->armed && was)
    offer_disarmed(w, l);
}

struct listen_note {
  uint64_t worker_id;
  uint32_t slot, gen;
};

/* Another worker's hint: the word is read here, so that a later one is never undone by an earlier one's mail. */
static void mail_listen(struct worker *w, void *arg) {
  const struct listen_note *note = arg;
  struct listener *l = listen_by_slot(w, note->worker_id, note->slot, note->gen);
  if (l)
    listen_set_armed(w, l, listen_is_armed(w, &l->entry));
}

void listen_look(struct worker *w, uint64_t worker_id, uint32_t slot, uint32_t gen, uint32_t armed) {
  struct listen_note note = {.worker_id = worker_id, .slot = slot, .gen = gen};
  struct listener *l = listen_by_slot(w, worker_id, slot, gen);
  for (uint32_t i = 0; i < w->group->n; i++) /* also when it is not in our table yet: it may be in theirs */
    if (i != w->index)
      (void)mailbox_post_copy(&w->group->w[i]->mail, mail_listen, &note, sizeof note);
  if (l)
    listen_set_armed(w, l, armed == 1);
}

/* Several workers may store, each after its own change: who finds another count behind his store, stores again, so that
 * the last one stays. */
static void listen_tell_one(struct worker *w, const struct listener *l) {
  struct app_worker *a = l->live && listen_is_stream(w, &l->entry) ? worker_app(w, l->entry.worker_id) : NULL;
  if (!a || a->life != APP_LIVE || l->entry.slot >= a->v.ge.n_slots_app)
    return;
  struct abi_sess_engine *half = worker_view_engine(&a->v, l->entry.slot);
  uint32_t n = listen_ready(l);
  if (!half || __atomic_load_n(&half->gen, __ATOMIC_ACQUIRE) != l->entry.slot_gen ||
      __atomic_load_n(&half->state, __ATOMIC_ACQUIRE) != ABI_SESS_LISTENING)
    return;
  do {
    __atomic_store_n(&half->more.unacked, n, __ATOMIC_SEQ_CST);
    uint32_t again = listen_ready(l);
    if (again == n)
      return;
    n = again;
  } while (1);
}

void listen_tell(struct worker *w) {
  struct list *changed = &w->listeners.changed;
  while (!list_empty(changed)) {
    struct listener *l = container_of(changed->next, struct listener, changed);
    list_del(&l->changed);
    listen_tell_one(w, l);
  }
}

int listen_has_port(const struct worker *w, uint32_t vrf, uint8_t proto, uint16_t port) {
  const struct listen_table *t = &w->listeners;
  for (uint32_t at = t->bucket[listen_bucket(port)]; at; at = t->l[at - 1].next)
    if (t->l[at - 1].entry.proto == proto && be16_get(t->l[at - 1].entry.addr.port) == port &&
        t->l[at - 1].entry.vrf == vrf)
      return 1;
  return 0;
}
