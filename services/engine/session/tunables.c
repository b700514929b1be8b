/*
 * Tunables: configuration below, what was set at run time above. See tunables.h. Control thread writes, workers read.
 */
#include "tunables.h"

#include "base/bits.h"
#include "base/fault.h"
#include "worker.h"

#include <errno.h>

/* Configuration, with the values of `t` whose bit is in `set`. */
static void tunables_merge(struct tcp_config *out, const struct config *cfg, const struct abi_tunables *t,
                           uint64_t set) {
  tcp_config_defaults(out);
  int keys = config_fastopen_keys(cfg->fastopen_key, out->fastopen_key);
  out->fastopen_keys = keys > 0 ? (uint8_t)keys : 0;
  uint32_t run_time = __atomic_load_n(&t->fastopen_keys, __ATOMIC_ACQUIRE);
  if (run_time) {
    memcpy(out->fastopen_key, t->fastopen_key, sizeof out->fastopen_key);
    out->fastopen_keys = run_time == 2 ? 2 : 1;
  }
  for (uint32_t i = 0; i < ABI_TUNE_N; i++) {
    (void)tcp_tunable_put(out, i, config_tunable_value(cfg, i));
    if (set >> i & 1)
      (void)tcp_tunable_put(out, i, __atomic_load_n(&t->value[i], __ATOMIC_RELAXED));
  }
}

void tunables_read(struct tcp_config *out, const struct config *cfg, const struct abi_tunables *t) {
  uint32_t lower, higher;
  tunables_merge(out, cfg, t, __atomic_load_n(&t->set, __ATOMIC_ACQUIRE));
  if (tcp_tunable_order(out, &lower, &higher)) /* the configuration was changed under what had been set */
    tunables_merge(out, cfg, t, 0);
  uint32_t *rx[] = {&out->rcv_buf_min, &out->rcv_buf, &out->rcv_buf_max};
  uint32_t *tx[] = {&out->snd_buf_min, &out->snd_buf, &out->snd_buf_max};
  for (unsigned i = 0; i < ARRAY_LEN(rx); i++) { /* no fifo holds more */
    *rx[i] = HS_MIN(*rx[i], cfg->rx_fifo_max);
    *tx[i] = HS_MIN(*tx[i], cfg->tx_fifo_max);
  }
}

void tunables_apply(struct worker *w) {
  tunables_read(&w->tcp.cfg, w->cfg, &w->tcbs.block->tune);
}

int tunables_set(struct abi_tunables *t, const struct config *cfg, uint32_t id, uint32_t value, uint32_t *lower,
                 uint32_t *higher) {
  struct tcp_config try;
  tunables_merge(&try, cfg, t, t->set);
  int rc = tcp_tunable_put(&try, id, value);
  if (rc)
    return rc;
  if (tcp_tunable_order(&try, lower, higher))
    return -ERANGE;
  __atomic_store_n(&t->value[id], value, __ATOMIC_RELEASE);
  FAULT_POINT("tunables.value"); /* prefix: a value that does not count yet, or counts already if it was set before */
  __atomic_store_n(&t->set, t->set | 1ull << id, __ATOMIC_RELEASE);
  return 0;
}

int tunables_clear(struct abi_tunables *t, const struct config *cfg, uint32_t id, uint32_t *lower, uint32_t *higher) {
  struct tcp_config try;
  if (id >= ABI_TUNE_N)
    return -ENOENT;
  uint64_t set = t->set & ~(1ull << id);
  tunables_merge(&try, cfg, t, set);
  if (tcp_tunable_order(&try, lower, higher))
    return -ERANGE;
  __atomic_store_n(&t->set, set, __ATOMIC_RELEASE);
  return 0;
}

void tunables_set_keys(struct abi_tunables *t, const uint8_t key[32], uint32_t n) {
  __atomic_store_n(&t->fastopen_keys, 0, __ATOMIC_RELEASE);
  FAULT_POINT("tunables.key"); /* prefix: the configured or drawn key counts; cookies of another one are refused */
  if (n == 0)
    return;
  memcpy(t->fastopen_key, key, sizeof t->fastopen_key);
  FAULT_POINT("tunables.key.bytes");
  __atomic_store_n(&t->fastopen_keys, n, __ATOMIC_RELEASE);
}
