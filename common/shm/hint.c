/*
 * Hint rings: push with de-duplication, take in bursts, arm (shm/hint.h, abi/ring.h).
 *
 * Called by the engine workers and the library, each as producer of one ring and consumer of the other. Hot path.
 *
 * Why a fact is never missed. Producer: fact → [entry → tail] → fence → armed. Consumer: head → fence → fact. When the
 * producer leaves an entry out because one about the same session is pending, it has fenced after the fact and then
 * seen that the head had not passed that entry: the consumer's head store, its fence and its look at the session all
 * come later, so that look finds the fact.
 */
#include "shm/hint.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/fault.h"
#include "shm/fence.h"

#ifdef HS_FENCE_TSAN
uint32_t shm_fence_word;
#endif

void hint_prod_init(struct hint_prod *p, struct abi_ring_prod *mine, const struct abi_ring_cons *peer,
                    uint32_t *entries, uint32_t cap) {
  p->mine = mine;
  p->peer = peer;
  p->entries = entries;
  p->cap = cap;
  p->tail = __atomic_load_n(&mine->tail, __ATOMIC_RELAXED);
  p->rung_tail = p->tail;
  p->rung = 0;
}

void hint_cons_init(struct hint_cons *c, struct abi_ring_cons *mine, const struct abi_ring_prod *peer,
                    const uint32_t *entries, uint32_t cap) {
  c->mine = mine;
  c->peer = peer;
  c->entries = entries;
  c->cap = cap;
  c->head = __atomic_load_n(&mine->head, __ATOMIC_RELAXED);
}

/**
 * Whether an entry about `slot` at `pos` has not been taken, by this value of the consumer's head. Both the range and
 * the entry (own memory) are looked at, so a stale position, of another ring or of 2^32 hints ago, can't pass.
 */
static inline int hint_is_pending(const struct hint_prod *p, uint32_t head, uint32_t slot, uint32_t pos) {
  uint32_t filled = p->tail - head;
  uint32_t back = p->tail - pos; /* 1 = the newest entry */
  return back - 1 < filled && filled <= p->cap &&
         __atomic_load_n(&p->entries[pos & (p->cap - 1)], __ATOMIC_RELAXED) == slot;
}

int hint_push(struct hint_prod *p, uint32_t slot, uint32_t *hint_pos, int *ring) {
  uint32_t pos = __atomic_load_n(hint_pos, __ATOMIC_RELAXED);
  uint32_t head = __atomic_load_n(&p->peer->head, __ATOMIC_ACQUIRE);
  /* An old head only makes more look pending, so "no" is final and costs no fence. */
  if (hint_is_pending(p, head, slot, pos)) {
    shm_fence();
    head = __atomic_load_n(&p->peer->head, __ATOMIC_ACQUIRE);
    if (hint_is_pending(p, head, slot, pos)) {
      /* A predecessor of ours may have died between its tail and its bell: so look at armed here too. */
      *ring |= __atomic_load_n(&p->peer->armed, __ATOMIC_RELAXED) != 0;
      return 1;
    }
  }
  if (HS_UNLIKELY(p->tail - head >= p->cap)) {
    shm_fence();
    *ring |= __atomic_load_n(&p->peer->armed, __ATOMIC_RELAXED) != 0;
    return 0;
  }
  __atomic_store_n(&p->entries[p->tail & (p->cap - 1)], slot, __ATOMIC_RELAXED);
  FAULT_POINT("hint.entry");
  __atomic_store_n(hint_pos, p->tail, __ATOMIC_RELAXED); /* before the tail: a death in between can't double it */
  FAULT_POINT("hint.tail");
  __atomic_store_n(&p->mine->tail, ++p->tail, __ATOMIC_RELEASE);
  FAULT_POINT("hint.ring");
  shm_fence();
  *ring |= __atomic_load_n(&p->peer->armed, __ATOMIC_RELAXED) != 0;
  return 1;
}

/* By the tail that was rung for, not by the head that was seen then: the consumer may have taken the entry between its
 * push and a look at the head, and an unmoved head would say "yet to look" for ever. */
int hint_ring_due(struct hint_prod *p) {
  uint32_t head = __atomic_load_n(&p->peer->head, __ATOMIC_RELAXED);
  if (p->rung && p->rung_tail - head - 1 < p->tail - head)
    return 0;
  p->rung = 1;
  p->rung_tail = p->tail;
  return 1;
}

int hint_take(struct hint_cons *c, uint32_t *slots, uint32_t n) {
  uint32_t tail = __atomic_load_n(&c->peer->tail, __ATOMIC_ACQUIRE);
  uint32_t filled = tail - c->head;
  if (HS_UNLIKELY(filled > c->cap))
    return -EPROTO;
  n = HS_MIN(n, filled);
  if (n == 0)
    return 0;
  for (uint32_t i = 0; i < n; i++)
    slots[i] = __atomic_load_n(&c->entries[(c->head + i) & (c->cap - 1)], __ATOMIC_RELAXED);
  c->head += n;
  FAULT_POINT("hint.head");
  __atomic_store_n(&c->mine->head, c->head, __ATOMIC_RELEASE);
  shm_fence(); /* head before the look at the sessions: see the top of this file */
  return (int)n;
}

int hint_arm(struct hint_cons *c) {
  __atomic_store_n(&c->mine->armed, 1u, __ATOMIC_RELAXED);
  shm_fence();
  return !hint_pending(c);
}

void hint_disarm(struct hint_cons *c) {
  __atomic_store_n(&c->mine->armed, 0u, __ATOMIC_RELAXED);
}
