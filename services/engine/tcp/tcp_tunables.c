/*
 * Tunables by number: range, unit and place of each in struct tcp_config, from the one list in abi/tunables.h. Called
 * by the session layer at start and when hsctl changes one, worker's thread; never per segment.
 */
#include "tcp_int.h"

enum tunable_kind { TUNABLE_BOOL, TUNABLE_NUM, TUNABLE_MS, TUNABLE_SEC, TUNABLE_SIZE, TUNABLE_CHOICE };

struct tunable {
  uint16_t off;
  uint8_t size;
  uint8_t kind; /* enum tunable_kind */
  uint32_t lo, hi, def;
};

#define ROW(field, name, kind, unit, lo, hi, def, text, reach, words, help)                                            \
  {offsetof(struct tcp_config, field), sizeof(((struct tcp_config *)0)->field), TUNABLE_##kind, lo, hi, def},
static const struct tunable tunables[ABI_TUNE_N] = {ABI_TUNABLES(ROW)};
#undef ROW

/* The field counts µs, the tunable ms or s. */
static uint64_t tunable_scale(const struct tunable *t) {
  return t->kind == TUNABLE_MS ? 1000u : t->kind == TUNABLE_SEC ? 1000000u : 1u;
}

static void tunable_store(struct tcp_config *cfg, const struct tunable *t, uint32_t value) {
  uint8_t *field = (uint8_t *)cfg + t->off;
  uint64_t v = value * tunable_scale(t);
  if (t->size == 1) {
    *field = (uint8_t)v;
  } else if (t->size == 4) {
    uint32_t small = (uint32_t)v;
    memcpy(field, &small, 4);
  } else {
    memcpy(field, &v, 8);
  }
}

void tcp_config_defaults(struct tcp_config *cfg) {
  memset(cfg, 0, sizeof *cfg);
  for (uint32_t i = 0; i < ABI_TUNE_N; i++)
    tunable_store(cfg, &tunables[i], tunables[i].def);
}

uint32_t tcp_tunable_get(const struct tcp_config *cfg, uint32_t id) {
  if (id >= ABI_TUNE_N)
    return 0;
  const struct tunable *t = &tunables[id];
  const uint8_t *field = (const uint8_t *)cfg + t->off;
  uint32_t small = *field;
  uint64_t v;
  if (t->size == 1)
    return small;
  memcpy(&small, field, 4);
  if (t->size == 4)
    return small;
  memcpy(&v, field, 8);
  return (uint32_t)(v / tunable_scale(t));
}

int tcp_tunable_put(struct tcp_config *cfg, uint32_t id, uint32_t value) {
  if (id >= ABI_TUNE_N)
    return -ENOENT;
  if (value < tunables[id].lo || value > tunables[id].hi)
    return -EINVAL;
  tunable_store(cfg, &tunables[id], value);
  return 0;
}

int tcp_tunable_order(const struct tcp_config *cfg, uint32_t *lower, uint32_t *higher) {
#define PAIR(a, b) {ABI_TUNE_##a, ABI_TUNE_##b},
  static const uint8_t pairs[][2] = {ABI_TUNE_ORDER(PAIR)};
#undef PAIR
  for (uint32_t i = 0; i < ARRAY_LEN(pairs); i++) {
    *lower = pairs[i][0];
    *higher = pairs[i][1];
    if (tcp_tunable_get(cfg, *lower) > tcp_tunable_get(cfg, *higher))
      return -EINVAL;
  }
  return 0;
}
