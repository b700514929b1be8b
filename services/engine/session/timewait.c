/*
 * The TIME_WAIT table, see timewait.h. A record costs 64 durable bytes and, in a full table, 26 soft ones: links, its
 * place among the free ones, hash cells.
 *
 * Records lie in lists by the half second in which they end, so that neither a timer per record nor a sort at adoption
 * is needed; free ones are used again last in first out, so that the memory touched follows the number in use.
 *
 * Order of stores when a connection becomes a record: record words → life = USED → session record CLOSED → TCB free. A
 * crash between leaves both: the successor finds the record first and lets the TCB go (adopt.c). The end: life = FREE,
 * one store.
 */
#include "timewait.h"

#include "transport_tcp.h"

#include "base/bits.h"
#include "base/fault.h"
#include "tcp/tcp_tw.h"
#include "wire/flow.h"

#include <errno.h>
#include <stdlib.h>

#define TIMEWAIT_SHIFT 19u  /* µs of a bucket, log 2 */
#define TIMEWAIT_BATCH 512u /* records ended per turn */

struct timewait_key {
  const struct timewait *t;
  const struct ip_addr *local, *remote;
  uint16_t lport, rport;
  uint32_t vrf;
};

int timewait_open(struct worker *w) {
  struct timewait *t = &w->timewait;
  const struct abi_tcb_geom *g = &w->tcbs.geom;
  memset(t, 0, sizeof *t);
  if (g->n_tw == 0) /* made by a broker that knows of none */
    return 0;
  if (g->n_tw > 1u << 24)
    return -EPROTO;
  t->tw = seg_at(&w->tcbs.seg, g->tw_off, g->n_tw * sizeof *t->tw);
  if (!t->tw)
    return -EPROTO;
  t->n = (uint32_t)g->n_tw;
  t->link = calloc(t->n, sizeof *t->link); /* touched as records are used */
  t->free = malloc(sizeof *t->free + t->n * sizeof *t->free->next);
  if (!t->link || !t->free)
    return -ENOMEM;
  freelist_init(t->free, (uint32_t *)(t->free + 1));
  return hash_tab_init(&t->index, 1024);
}

int timewait_borrow(struct worker *w, const struct timewait *of) {
  struct timewait *t = &w->timewait;
  memset(t, 0, sizeof *t);
  t->tw = of->tw;
  t->n = of->n;
  t->link = of->link;
  t->free = of->free;
  t->borrowed = 1;
  return t->tw ? hash_tab_init(&t->index, 1024) : 0;
}

void timewait_close(struct timewait *t) {
  if (!t->borrowed) {
    free(t->link);
    free(t->free);
  }
  hash_tab_fini(&t->index);
  memset(t, 0, sizeof *t);
}

static uint32_t *timewait_head(struct timewait *t, const struct abi_tw *tw) {
  return &t->bucket[(tw->end >> TIMEWAIT_SHIFT) % TIMEWAIT_BUCKETS];
}

static void timewait_link_in(struct timewait *t, uint32_t i) {
  uint32_t *head = timewait_head(t, &t->tw[i]);
  t->link[i] = (struct timewait_link){.next = *head};
  if (*head)
    t->link[*head - 1].prev = i + 1;
  *head = i + 1;
}

static void timewait_link_out(struct timewait *t, uint32_t i) {
  struct timewait_link *l = &t->link[i];
  if (l->prev)
    t->link[l->prev - 1].next = l->next;
  else
    *timewait_head(t, &t->tw[i]) = l->next;
  if (l->next)
    t->link[l->next - 1].prev = l->prev;
}

static uint32_t timewait_hash(const struct worker *w, const struct abi_tw *tw) {
  struct ip_addr local, remote;
  memcpy(&local, tw->local, sizeof local);
  memcpy(&remote, tw->remote, sizeof remote);
  return flow_hash(w, abi_tw_vrf(tw), &local, tw->lport, &remote, tw->rport);
}

static int timewait_equal(uint32_t value, const void *ctx) {
  const struct timewait_key *k = ctx;
  const struct abi_tw *tw = &k->t->tw[value];
  return tw->lport == k->lport && tw->rport == k->rport && abi_tw_vrf(tw) == k->vrf &&
         memcmp(tw->remote, k->remote, 16) == 0 && memcmp(tw->local, k->local, 16) == 0;
}

uint32_t timewait_find(struct worker *w, uint32_t vrf, const struct ip_addr *local, uint16_t lport,
                       const struct ip_addr *remote, uint16_t rport) {
  struct timewait *t = &w->timewait;
  if (t->used == 0)
    return TIMEWAIT_NONE;
  struct timewait_key k = {.t = t, .local = local, .remote = remote, .lport = lport, .rport = rport, .vrf = vrf};
  return hash_tab_find(&t->index, flow_hash(w, vrf, local, lport, remote, rport), timewait_equal, &k);
}

/* The soft half of a record that is in use. 0 or -ENOMEM. */
static int timewait_enter(struct worker *w, uint32_t i) {
  struct timewait *t = &w->timewait;
  int rc = hash_tab_insert(&t->index, timewait_hash(w, &t->tw[i]), i);
  if (rc)
    return rc;
  timewait_link_in(t, i);
  t->used++;
  tcp_tw_count(&w->tcp, 1);
  return 0;
}

static void timewait_free(struct timewait *t, uint32_t i) {
  freelist_put(t->free, i);
}

void timewait_end(struct worker *w, uint32_t i) {
  struct timewait *t = &w->timewait;
  (void)hash_tab_remove(&t->index, timewait_hash(w, &t->tw[i]), i);
  timewait_link_out(t, i);
  t->used--;
  tcp_tw_count(&w->tcp, -1);
  __atomic_store_n(&t->tw[i].life, ABI_TW_FREE, __ATOMIC_RELEASE);
  timewait_free(t, i);
}

/* Full: the one of our records that ends first goes. */
static void timewait_evict(struct worker *w) {
  struct timewait *t = &w->timewait;
  for (uint32_t k = 0; k < TIMEWAIT_BUCKETS; k++) {
    uint32_t at = t->bucket[(t->swept + k) % TIMEWAIT_BUCKETS];
    if (!at)
      continue;
    worker_count(w, EC_TW_FULL, 1);
    timewait_end(w, at - 1);
    return;
  }
}

/* A free record, or one that was never used; TIMEWAIT_NONE: the other workers have them all. */
static uint32_t timewait_get(struct worker *w) {
  struct timewait *t = &w->timewait;
  uint32_t *word = &w->tcbs.block->tw_high;
  uint32_t i = freelist_get(t->free), high = __atomic_load_n(word, __ATOMIC_ACQUIRE);
  if (i != FREELIST_NONE)
    return i;
  while (high < t->n)
    if (__atomic_compare_exchange_n(word, &high, high + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
      return high;
  timewait_evict(w);
  i = freelist_get(t->free);
  return i == FREELIST_NONE ? TIMEWAIT_NONE : i;
}

int timewait_take(struct worker *w, struct session *s) {
  struct timewait *t = &w->timewait;
  struct abi_tcb *d = &w->tcbs.tcb[s->tcb];
  if (!t->tw)
    return 0;
  uint32_t i = timewait_get(w);
  if (i == TIMEWAIT_NONE)
    return 0;
  struct abi_tw *tw = &t->tw[i];
  tcp_tw_make(&w->tcp, tcp_of(s), tw);
  FAULT_POINT("timewait.filled"); /* prefix: a free record, the TCB waits */
  __atomic_store_n(&tw->life, ABI_TW_USED, __ATOMIC_RELEASE);
  FAULT_POINT("timewait.durable"); /* prefix: both; the record counts */
  if (timewait_enter(w, i)) {
    __atomic_store_n(&tw->life, ABI_TW_FREE, __ATOMIC_RELEASE);
    timewait_free(t, i);
    return 0;
  }
  tcp_tw_count(&w->tcp, -1); /* the connection was counted in that state already */
  uint32_t n = s->tcb;
  tcp_release(&w->tcp, tcp_of(s));
  session_unbind_record(w, s, 0);
  session_free(w, s);
  FAULT_POINT("timewait.unbound");
  s->tcb = ABI_SEG_NONE;
  tcp_tcb_free(d);
  FAULT_POINT("timewait.tcb_free");
  tcb_put(&w->tcbs, n);
  return 1;
}

int timewait_input(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg, seq32_t *isn_floor,
                   usec_t now) {
  struct timewait *t = &w->timewait;
  uint32_t i = timewait_find(w, p->vrf, &p->ip.dst, seg->hdr.dport, &p->ip.src, seg->hdr.sport);
  if (i == TIMEWAIT_NONE)
    return 0;
  struct tcp_seg_out out;
  struct abi_tw *tw = &t->tw[i];
  usec_t end = tw->end;
  switch (tcp_tw_input(&w->tcp, tw, seg, &out, now)) {
  case TCP_TW_REUSE:
    *isn_floor = tcp_tw_isn_floor(tw);
    timewait_end(w, i);
    worker_count(w, EC_TW_REUSED, 1);
    return 0;
  case TCP_TW_AGAIN: { /* to the bucket of its new end */
    usec_t again = tw->end;
    tw->end = end;
    timewait_link_out(t, i);
    tw->end = again;
    timewait_link_in(t, i);
    transport_tcp_reply(w, p, seg, &out);
    return 1;
  }
  case TCP_TW_ACK:
    transport_tcp_reply(w, p, seg, &out);
    return 1;
  case TCP_TW_NOTHING:
    break;
  }
  return 1;
}

uint32_t timewait_expire(struct worker *w) {
  struct timewait *t = &w->timewait;
  uint64_t last = w->now >> TIMEWAIT_SHIFT; /* the buckets before it are over */
  uint32_t n = 0;
  if (t->used == 0 || last - t->swept > TIMEWAIT_BUCKETS) /* nothing, or long asleep: each bucket once is enough */
    t->swept = t->used == 0 ? last : HS_MAX(t->swept, last - TIMEWAIT_BUCKETS);
  while (t->swept < last) {
    uint32_t at = t->bucket[t->swept % TIMEWAIT_BUCKETS];
    while (at && n < TIMEWAIT_BATCH) {
      uint32_t i = at - 1;
      at = t->link[i].next;
      timewait_end(w, i);
      n++;
    }
    if (at)
      break;
    t->swept++;
  }
  return n;
}

/* The worker that segments for a record will come to. */
static struct worker *timewait_owner(struct worker *w, const struct abi_tw *tw) {
  struct ip_addr local, remote;
  memcpy(&local, tw->local, sizeof local);
  memcpy(&remote, tw->remote, sizeof remote);
  return w->group->w[flow_worker(&local, tw->lport, &remote, tw->rport, w->group->n)];
}

uint32_t timewait_adopt(struct worker *w) {
  struct timewait *t = &w->timewait;
  uint32_t n = 0;
  if (!t->tw)
    return 0;
  uint32_t high = HS_MIN(__atomic_load_n(&w->tcbs.block->tw_high, __ATOMIC_ACQUIRE), t->n);
  for (uint32_t k = 0; k < w->group->n; k++)
    w->group->w[k]->timewait.swept = w->now >> TIMEWAIT_SHIFT;
  for (uint32_t i = high; i > 0; i--) {
    struct abi_tw *tw = &t->tw[i - 1];
    int used = __atomic_load_n(&tw->life, __ATOMIC_ACQUIRE) == ABI_TW_USED;
    if (used && tw->end > w->now + w->tcp.cfg.time_wait)
      tw->end = w->now + w->tcp.cfg.time_wait; /* the setting was lowered, or the record is nonsense */
    if (used && tw->end > w->now && timewait_enter(timewait_owner(w, tw), i - 1) == 0) {
      n++;
      continue;
    }
    __atomic_store_n(&tw->life, ABI_TW_FREE, __ATOMIC_RELEASE);
    timewait_free(t, i - 1);
  }
  return n;
}
