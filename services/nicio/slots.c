/*
 * Stock of RX slots (slots.h). Lcore thread, hot path.
 */
#include "slots.h"

#include "base/bug.h"

#include <string.h>

void slots_init(struct slots *s, uint32_t *stack, uint32_t n_rx, uint32_t n_eth) {
  memset(s, 0, sizeof *s);
  BUG_ON(n_rx == 0 || n_eth > n_rx);
  s->stack = stack;
  s->n_rx = n_rx;
  s->n_eth = n_eth;
  for (uint32_t slot = n_rx; slot > n_eth; slot--)
    s->stack[s->n_free++] = slot - 1;
}

void slots_set_eth(struct slots *s, slots_home_fn home, void *ctx) {
  s->eth = home;
  s->eth_ctx = ctx;
}

void slots_put(struct slots *s, uint32_t slot) {
  BUG_ON(slot >= s->n_rx);
  if (slot < s->n_eth) {
    if (s->eth != NULL)
      s->eth(s->eth_ctx, slot);
    return;
  }
  BUG_ON(s->n_free >= s->n_rx - s->n_eth);
  s->stack[s->n_free++] = slot;
}
