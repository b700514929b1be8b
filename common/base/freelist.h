/*
 * Free list of numbers that several threads take from and give back to: the engine's workers share durable records and
 * session slots. Lock-free: one word holds the first free number and a count of changes (so that a slow thread never
 * takes a first number that was away meanwhile); a number that is taken belongs to its taker alone. Last given, first
 * taken. The array of links is the caller's. Hot path.
 */
#ifndef HS_BASE_FREELIST_H
#define HS_BASE_FREELIST_H

#include <stdint.h>

#define FREELIST_NONE UINT32_MAX

struct freelist {
  uint64_t top;   /* atomic: changes << 32 | first number + 1, 0 = none */
  uint32_t *next; /* per number: the next one + 1 */
  uint32_t n;     /* atomic: numbers in the list; exact while nobody changes it */
};

/** Empty. `next` has room for every number that will be given. One thread. */
static inline void freelist_init(struct freelist *f, uint32_t *next) {
  *f = (struct freelist){.next = next};
}

/** Any thread; `i` is in no list. */
static inline void freelist_put(struct freelist *f, uint32_t i) {
  uint64_t top = __atomic_load_n(&f->top, __ATOMIC_RELAXED), fresh;
  do {
    __atomic_store_n(&f->next[i], (uint32_t)top, __ATOMIC_RELAXED);
    fresh = (((top >> 32) + 1) << 32) | (i + 1u);
  } while (!__atomic_compare_exchange_n(&f->top, &top, fresh, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
  (void)__atomic_add_fetch(&f->n, 1, __ATOMIC_RELAXED);
}

/** Any thread. A number, or FREELIST_NONE. What its giver stored before is seen. */
static inline uint32_t freelist_get(struct freelist *f) {
  uint64_t top = __atomic_load_n(&f->top, __ATOMIC_ACQUIRE), fresh;
  do {
    if ((uint32_t)top == 0)
      return FREELIST_NONE;
    uint32_t next = __atomic_load_n(&f->next[(uint32_t)top - 1], __ATOMIC_RELAXED);
    fresh = (((top >> 32) + 1) << 32) | next;
  } while (!__atomic_compare_exchange_n(&f->top, &top, fresh, 1, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE));
  (void)__atomic_sub_fetch(&f->n, 1, __ATOMIC_RELAXED);
  return (uint32_t)top - 1;
}

/** How many are in it. */
static inline uint32_t freelist_n(const struct freelist *f) {
  return __atomic_load_n(&f->n, __ATOMIC_RELAXED);
}

#endif
