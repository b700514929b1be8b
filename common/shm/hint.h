/*
 * Hint rings: "look at session N" between an app worker and an engine worker (abi/ring.h).
 *
 * The producer keeps its tail private and trusts only its own words; the consumer copies the peer's tail once per burst
 * and rejects a distance beyond the capacity. Hot path: no call out, no lock.
 */
#ifndef HS_SHM_HINT_H
#define HS_SHM_HINT_H

#include "abi/ring.h"

/** Producer's private handle. */
struct hint_prod {
  struct abi_ring_prod *mine; /* own segment */
  const struct abi_ring_cons *peer;
  uint32_t *entries; /* own segment, cap of them */
  uint32_t cap;      /* power of two */
  uint32_t tail;
  uint32_t rung_tail; /* tail when hint_ring_due last said yes */
  int rung;           /* it did, since the consumer is this one */
};
/** Consumer's private handle. */
struct hint_cons {
  struct abi_ring_cons *mine;
  const struct abi_ring_prod *peer;
  const uint32_t *entries;
  uint32_t cap;
  uint32_t head;
};

/** Resume at the words that the own segment holds; the entries in between are not lost, only hints. */
void hint_prod_init(struct hint_prod *p, struct abi_ring_prod *mine, const struct abi_ring_cons *peer,
                    uint32_t *entries, uint32_t cap);
void hint_cons_init(struct hint_cons *c, struct abi_ring_cons *mine, const struct abi_ring_prod *peer,
                    const uint32_t *entries, uint32_t cap);

/**
 * Say "look at session `slot`", unless it is in the ring already. `hint_pos` is that session's word in the producer's
 * own half. The fact must have been stored before. Returns 1 if pushed or pending, and *ring set to 1 if the consumer
 * asked to be woken (the caller rings once per burst); 0 if the ring is full, which only a lying consumer can cause:
 * treat as pushed, rescan heals.
 */
int hint_push(struct hint_prod *p, uint32_t slot, uint32_t *hint_pos, int *ring);
/**
 * After hint_push set *ring: whether the bell must be rung now. 0 when it was rung for entries that the consumer has
 * not all taken: it has yet to look, and looks again before it sleeps. Not for producers that share a ring over a fork:
 * each sees only its own bells. With a new consumer set `rung` to 0.
 */
int hint_ring_due(struct hint_prod *p);
/** Take up to n slots. Returns the number taken, or -EPROTO when the peer's tail lies beyond the capacity. The own head
 * is published before the entries' sessions may be looked at (full fence inside). */
int hint_take(struct hint_cons *c, uint32_t *slots, uint32_t n);
/** Ask to be woken: armed = 1, fence. Returns 1 if the ring is still empty (sleep is safe), 0 if there is work. */
int hint_arm(struct hint_cons *c);
void hint_disarm(struct hint_cons *c);
static inline int hint_pending(const struct hint_cons *c) {
  return __atomic_load_n(&c->peer->tail, __ATOMIC_ACQUIRE) != c->head;
}

#endif
