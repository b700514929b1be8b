/*
 * The neighbour table of both families: the life of an entry as RFC 4861 7.3.2 and appendix C tell it, also for ARP
 * (RFC 1122 2.3.2). Called by ip_output.c (need, use, queue), arp.c and nd.c (heard), the stack's clock; worker thread.
 *
 * An entry that goes STALE raises the stack's generation, so that the next packet of every connection passes through
 * ip_output's slow way and starts the probing; a connection whose TCP confirms never gets there.
 */
#include "base/hash.h"
#include "ip/ip_stack.h"

#define NEIGH_EVICT_TRIES 16u /* entries in use lately that get a second chance */

static uint32_t neigh_bucket(const struct neigh_table *t, uint32_t port, const struct ip_addr *a) {
  uint8_t key[17];
  memcpy(key, a->b, 16);
  key[16] = (uint8_t)port;
  return (uint32_t)hash_siphash24(t->key, key, sizeof key) & (NEIGH_BUCKETS - 1);
}

void neigh_init(struct neigh_table *t, struct neigh *n, uint32_t *bucket) {
  t->n = n;
  t->bucket = bucket;
  t->free = NEIGH_NONE;
  list_init(&t->fresh);
  list_init(&t->known);
  list_init(&t->waiting);
  for (uint32_t i = 0; i < NEIGH_BUCKETS; i++)
    bucket[i] = NEIGH_NONE;
  for (uint32_t i = 0; i < NEIGH_QUEUED_MAX; i++)
    t->frame[i].next = i + 1 < NEIGH_QUEUED_MAX ? i + 1 : NEIGH_NONE;
  t->frame_free = 0;
}

struct neigh *neigh_find(struct ip_stack *s, uint32_t port, const struct ip_addr *a) {
  const struct neigh_table *t = &s->neigh;
  for (uint32_t i = t->bucket[neigh_bucket(t, port, a)]; i != NEIGH_NONE; i = t->n[i].next) {
    if (t->n[i].port == port && ip_addr_eq(&t->n[i].addr, a))
      return &t->n[i];
  }
  return NULL;
}

static uint32_t neigh_is_fresh(unsigned state) {
  return state == NEIGH_INCOMPLETE || state == NEIGH_FAILED;
}

/* The only writer of an entry's state; puts it at the young end of the list of its kind. */
static void neigh_state_set(struct ip_stack *s, struct neigh *e, enum neigh_state to, usec_t when, usec_t now) {
  struct neigh_table *t = &s->neigh;
  t->n_fresh -= neigh_is_fresh(e->state);
  t->n_fresh += neigh_is_fresh(to);
  if (to == NEIGH_STALE && (e->state == NEIGH_REACHABLE || e->state == NEIGH_DELAY || e->state == NEIGH_PROBE))
    stack_changed(s);
  e->state = (uint8_t)to;
  list_del(&e->age);
  list_add_tail(neigh_is_fresh(to) ? &t->fresh : &t->known, &e->age);
  if (when == 0)
    timer_cancel(&s->wheel, &e->timer);
  else
    stack_arm(s, &e->timer, STACK_TIMER_NEIGH, (uint32_t)(e - t->n), when, now);
}

static void neigh_frame_out(const struct neigh *e, const struct neigh_frame *f, struct txf *t) {
  t->slot = f->slot;
  t->data = f->data;
  t->len = f->len;
  t->slot_off = f->slot_off;
  t->slot_base = f->slot_base;
  t->n_fifo = t->fifo_len = 0;
  t->flags = f->flags;
  t->gso_size = f->gso_size;
  t->csum_start = f->csum_start;
  t->csum_off = f->csum_off;
  t->port = e->port;
}

/* Takes the oldest queued frame out. 0 if there is none. */
static int neigh_unqueue(struct ip_stack *s, struct neigh *e, struct txf *t) {
  struct neigh_table *nt = &s->neigh;
  if (e->n_queued == 0)
    return 0;
  uint32_t idx = e->first;
  struct neigh_frame *f = &nt->frame[idx];
  neigh_frame_out(e, f, t);
  e->first = f->next;
  f->next = nt->frame_free;
  nt->frame_free = idx;
  e->n_queued--;
  nt->n_queued--;
  if (e->n_queued == 0)
    list_del(&e->waiting);
  return 1;
}

static void neigh_drop_oldest(struct ip_stack *s, struct neigh *e) {
  struct txf t;
  if (neigh_unqueue(s, e, &t)) {
    stack_count(s, IPC_NEIGH_Q_DROP);
    s->ops.frame_drop(s->ctx, &t);
  }
}

void ip_drop_queued(struct ip_stack *s) {
  struct list *first;
  while ((first = list_first(&s->neigh.waiting)) != NULL)
    neigh_drop_oldest(s, list_entry(first, struct neigh, waiting));
}

static void neigh_free(struct ip_stack *s, struct neigh *e) {
  struct neigh_table *t = &s->neigh;
  uint32_t idx = (uint32_t)(e - t->n), *link = &t->bucket[neigh_bucket(t, e->port, &e->addr)];
  while (e->n_queued != 0)
    neigh_drop_oldest(s, e);
  while (*link != idx)
    link = &t->n[*link].next;
  *link = e->next;
  timer_cancel(&s->wheel, &e->timer);
  list_del(&e->age);
  if (neigh_is_fresh(e->state))
    t->n_fresh--;
  else
    stack_changed(s); /* no path names a fresh entry, so a scan voids nobody's path */
  t->n_used--;
  e->state = NEIGH_FREE;
  e->next = t->free;
  t->free = idx;
}

/* Makes room: first one who never answered, else the one not used for longest. */
static void neigh_evict(struct ip_stack *s, usec_t now) {
  struct neigh_table *t = &s->neigh;
  struct list *link = list_first(&t->fresh);
  if (link == NULL) {
    for (unsigned i = 0; i < NEIGH_EVICT_TRIES; i++) {
      link = list_first(&t->known);
      const struct neigh *e = list_entry(link, struct neigh, age);
      if (now - e->confirmed > NEIGH_RETRANS_US)
        break;
      list_del(link);
      list_add_tail(&t->known, link);
    }
    link = list_first(&t->known);
  }
  stack_count(s, IPC_NEIGH_EVICTED);
  neigh_free(s, list_entry(link, struct neigh, age));
}

static struct neigh *neigh_make(struct ip_stack *s, uint32_t port, const struct ip_addr *a, usec_t now) {
  struct neigh_table *t = &s->neigh;
  if (t->n_fresh >= NEIGH_NEW_MAX || (t->free == NEIGH_NONE && t->n_made == NEIGH_MAX))
    neigh_evict(s, now);
  uint32_t idx = t->free;
  if (idx != NEIGH_NONE)
    t->free = t->n[idx].next;
  else
    idx = t->n_made++;
  struct neigh *e = &t->n[idx];
  uint32_t *head = &t->bucket[neigh_bucket(t, port, a)];
  memset(e, 0, sizeof *e);
  e->addr = *a;
  e->port = (uint8_t)port;
  e->next = *head;
  *head = idx;
  t->n_used++;
  return e;
}

static void neigh_ask(struct ip_stack *s, struct neigh *e, const uint8_t *mac) {
  e->probes++; /* for want of a frame it counts too: the timer asks again */
  if (ip_addr_is4(&e->addr))
    (void)arp_ask(s, e->port, &e->addr, mac);
  else
    (void)nd_ask(s, e->port, &e->addr, mac);
}

static void neigh_resolve(struct ip_stack *s, struct neigh *e, usec_t now) {
  e->probes = 0;
  neigh_state_set(s, e, NEIGH_INCOMPLETE, now + NEIGH_RETRANS_US, now);
  neigh_ask(s, e, NULL);
}

struct neigh *neigh_need(struct ip_stack *s, uint32_t port, const struct ip_addr *a, usec_t now) {
  struct neigh *e = neigh_find(s, port, a);
  if (e != NULL)
    return e;
  e = neigh_make(s, port, a, now);
  neigh_resolve(s, e, now);
  return e;
}

void neigh_used(struct ip_stack *s, struct neigh *e, usec_t now) {
  if (e->state == NEIGH_STALE) {
    neigh_state_set(s, e, NEIGH_DELAY, now + NEIGH_DELAY_US, now);
    return;
  }
  list_del(&e->age);
  list_add_tail(&s->neigh.known, &e->age);
}

void neigh_queue(struct ip_stack *s, struct neigh *e, struct txf *t) {
  struct neigh_table *nt = &s->neigh;
  if (e->n_queued == NEIGH_QUEUE)
    neigh_drop_oldest(s, e); /* RFC 4861 7.2.2 */
  else if (nt->n_queued >= NEIGH_QUEUED_MAX)
    neigh_drop_oldest(s, list_entry(list_first(&nt->waiting), struct neigh, waiting));
  if (e->n_queued == 0)
    list_add_tail(&nt->waiting, &e->waiting);
  uint32_t idx = nt->frame_free;
  nt->frame_free = nt->frame[idx].next;
  if (e->n_queued == 0)
    e->first = idx;
  else
    nt->frame[e->last].next = idx;
  e->last = idx;
  e->n_queued++;
  nt->n_queued++;
  stack_count(s, IPC_NEIGH_QUEUED);
  nt->frame[idx] = (struct neigh_frame){.next = NEIGH_NONE,
                                        .data = t->data,
                                        .slot_base = t->slot_base,
                                        .slot_off = t->slot_off,
                                        .slot = t->slot,
                                        .len = t->len,
                                        .flags = t->flags,
                                        .gso_size = t->gso_size,
                                        .csum_start = t->csum_start,
                                        .csum_off = t->csum_off};
}

/* The MAC is known: what waited goes out. */
static void neigh_flush(struct ip_stack *s, struct neigh *e) {
  struct txf t;
  uint8_t mac[6];
  uint16_t type = ip_addr_is4(&e->addr) ? ETH_TYPE_IP4 : ETH_TYPE_IP6;
  memcpy(mac, e->mac, 6);
  while (neigh_unqueue(s, e, &t)) {
    stack_count(s, IPC_TX_PACKETS);
    eth_output(s, &t, mac, type);
  }
}

static void neigh_reached(struct ip_stack *s, struct neigh *e, usec_t now) {
  e->confirmed = now;
  e->probes = 0;
  ra_silent(s, e->port, &e->addr, 0); /* once per confirmation that was due, not per packet */
  neigh_state_set(s, e, NEIGH_REACHABLE, now + s->neigh.reachable, now);
}

void neigh_heard(struct ip_stack *s, struct neigh *e, const uint8_t *mac, unsigned what, usec_t now) {
  int differs = mac != NULL && memcmp(mac, e->mac, 6) != 0;
  if (neigh_is_fresh(e->state)) { /* RFC 4861 7.2.5: record it, send what waited */
    if (mac == NULL)
      return;
    memcpy(e->mac, mac, 6);
    if (what & NEIGH_SAID_SOLICITED)
      neigh_reached(s, e, now);
    else
      neigh_state_set(s, e, NEIGH_STALE, 0, now);
    if (e->n_queued != 0)
      neigh_used(s, e, now);
    neigh_flush(s, e);
    return;
  }
  if (differs && !(what & NEIGH_SAID_OVERRIDE)) {
    if (e->state == NEIGH_REACHABLE)
      neigh_state_set(s, e, NEIGH_STALE, 0, now);
    return;
  }
  if (differs) {
    memcpy(e->mac, mac, 6);
    stack_count(s, IPC_NEIGH_MOVED);
    stack_changed(s);
  }
  if (what & NEIGH_SAID_SOLICITED)
    neigh_reached(s, e, now);
  else if (differs)
    neigh_state_set(s, e, NEIGH_STALE, 0, now);
}

void ip_confirm(struct ip_stack *s, const struct ip_path *path, usec_t now) {
  if (path->gen != s->gen || !path->resolved || path->neigh >= s->neigh.n_made)
    return;
  struct neigh *e = &s->neigh.n[path->neigh];
  e->confirmed = now; /* the timer looks at it, so that nothing needs to be re-armed per packet */
  if (HS_UNLIKELY(e->state != NEIGH_REACHABLE))
    neigh_reached(s, e, now);
}

/* Nobody answers: what waited is given up, and its senders are told (RFC 1122 2.3.2.2, RFC 4861 7.2.2). */
static void neigh_fail(struct ip_stack *s, struct neigh *e, usec_t now) {
  static const struct icmp_verdict verdict = {.kind = 0, .err = EHOSTUNREACH};
  struct txf t[NEIGH_QUEUE];
  unsigned n = 0;
  while (n < NEIGH_QUEUE && neigh_unqueue(s, e, &t[n]))
    n++;
  stack_count(s, IPC_NEIGH_FAILED);
  redirect_silent(s, e->port, &e->addr);
  ra_silent(s, e->port, &e->addr, 1);
  neigh_state_set(s, e, NEIGH_FAILED, now + NEIGH_FAILED_US, now);
  for (unsigned i = 0; i < n; i++) {
    icmp_error_tell(s, t[i].data, t[i].len, &verdict, now);
    s->ops.frame_drop(s->ctx, &t[i]);
  }
}

void neigh_timer(struct ip_stack *s, struct neigh *e, usec_t now) {
  switch ((enum neigh_state)e->state) {
  case NEIGH_INCOMPLETE:
    if (e->probes >= NEIGH_PROBES) {
      neigh_fail(s, e, now);
      return;
    }
    stack_arm(s, &e->timer, STACK_TIMER_NEIGH, e->timer.user, now + NEIGH_RETRANS_US, now);
    neigh_ask(s, e, NULL);
    return;
  case NEIGH_REACHABLE:
    if (now - e->confirmed < s->neigh.reachable)
      stack_arm(s, &e->timer, STACK_TIMER_NEIGH, e->timer.user, e->confirmed + s->neigh.reachable, now);
    else
      neigh_state_set(s, e, NEIGH_STALE, 0, now);
    return;
  case NEIGH_DELAY:
    e->probes = 0;
    neigh_state_set(s, e, NEIGH_PROBE, now + NEIGH_RETRANS_US, now);
    neigh_ask(s, e, e->mac);
    return;
  case NEIGH_PROBE:
    if (e->probes >= NEIGH_PROBES) { /* RFC 4861 7.3.3: forgotten, so that the next packet asks everybody */
      stack_count(s, IPC_NEIGH_FAILED);
      redirect_silent(s, e->port, &e->addr);
      ra_silent(s, e->port, &e->addr, 1);
      neigh_free(s, e);
      return;
    }
    stack_arm(s, &e->timer, STACK_TIMER_NEIGH, e->timer.user, now + NEIGH_RETRANS_US, now);
    neigh_ask(s, e, e->mac);
    return;
  case NEIGH_FAILED:
    neigh_free(s, e);
    return;
  case NEIGH_FREE:
  case NEIGH_STALE:
    return;
  }
}

void neigh_flush_port(struct ip_stack *s, uint32_t port) {
  for (uint32_t i = 0; i < s->neigh.n_made; i++) {
    if (s->neigh.n[i].state != NEIGH_FREE && s->neigh.n[i].port == port)
      neigh_free(s, &s->neigh.n[i]);
  }
}
