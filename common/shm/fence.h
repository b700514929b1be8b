/*
 * The full fence of the sleep protocol: "store mine; fence; load yours" on both sides, so that one of the two always
 * sees the other (C11 7.17.4, Dekker). Used by the rings here and by whoever stores a word and then looks at `armed` or
 * at a peer's epoch: engine, nicio and the library. Any thread; a few nanoseconds.
 *
 * ThreadSanitizer knows no fences; there a sequentially consistent exchange on one word of the program orders the same
 * accesses in a way that it understands.
 */
#ifndef HS_SHM_FENCE_H
#define HS_SHM_FENCE_H

#include <stdint.h>

#if defined(__SANITIZE_THREAD__)
#define HS_FENCE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HS_FENCE_TSAN 1
#endif
#endif

/** Everything before is visible to every process before anything after is loaded. */
static inline void shm_fence(void) {
#ifdef HS_FENCE_TSAN
  extern uint32_t shm_fence_word;
  (void)__atomic_fetch_add(&shm_fence_word, 1, __ATOMIC_SEQ_CST);
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/** What was loaded before is not older than what is loaded after (relaxed atomics on both sides). Free on x86. */
static inline void shm_fence_load(void) {
#ifndef HS_FENCE_TSAN
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

#endif
