/*
 * RX slots that belong to nobody: the stock that kernel ports and the impairment stage draw from, and the way home of
 * slots that the memory pool of an ethdev owns.
 *
 * Slots [0, n_eth) are objects of the ethdev's pool, [n_eth, n_rx) lie on the stack here; last freed, first used, so
 * that memory stays warm. Private memory of nicio; lcore thread (and the control thread before the lcore starts).
 */
#ifndef NICIO_SLOTS_H
#define NICIO_SLOTS_H

#include <stdint.h>

typedef void (*slots_home_fn)(void *ctx, uint32_t slot);

struct slots {
  uint32_t n_rx;     /* all RX slots of the segment */
  uint32_t n_eth;    /* the first n_eth belong to the ethdev pool */
  uint32_t n_free;   /* on the stack */
  uint32_t *stack;   /* n_rx - n_eth entries */
  slots_home_fn eth; /* gives a slot back to the ethdev pool */
  void *eth_ctx;
};

/** All of [n_eth, n_rx) free. `stack` is memory for n_rx - n_eth numbers, the caller's. */
void slots_init(struct slots *s, uint32_t *stack, uint32_t n_rx, uint32_t n_eth);
/** Who takes slots below n_eth home. */
void slots_set_eth(struct slots *s, slots_home_fn home, void *ctx);

/** A free slot, or ABI_SEG_NONE when all are out. */
static inline uint32_t slots_get(struct slots *s) {
  return s->n_free > 0 ? s->stack[--s->n_free] : 0xffffffffu;
}
/** A slot comes home. The caller knows that it was out (link.c keeps the books). */
void slots_put(struct slots *s, uint32_t slot);

#endif
