/*
 * TCP's tunables of a running engine: the configuration's values, overridden by what hsctl set and the TCB segment
 * keeps (abi/tunables.h).
 */
#ifndef HS_ENGINE_TUNABLES_H
#define HS_ENGINE_TUNABLES_H

#include "abi/tunables.h"
#include "tcp/tcp.h"

struct worker;
struct config;

/** What counts now: `cfg`, overridden by `t`. Values of `t` that are out of range or out of order (another version's)
 * are left out. Any thread that may read `t`. */
void tunables_read(struct tcp_config *out, const struct config *cfg, const struct abi_tunables *t);
/** The worker takes it. At its start and after a change; worker thread. */
void tunables_apply(struct worker *w);
/** Keep a value for this engine and its successors. 0, -EINVAL out of range, -ENOENT, -ERANGE: it does not fit to
 * another one (*lower must not be above *higher). Control thread, the one writer. */
int tunables_set(struct abi_tunables *t, const struct config *cfg, uint32_t id, uint32_t value, uint32_t *lower,
                 uint32_t *higher);
/** The configuration's value counts again. As tunables_set. */
int tunables_clear(struct abi_tunables *t, const struct config *cfg, uint32_t id, uint32_t *lower, uint32_t *higher);
/** Other keys of Fast Open cookies, 1 or 2 of 16 bytes each: a second one's cookies are good still; 0: what the
 * configuration says counts again. */
void tunables_set_keys(struct abi_tunables *t, const uint8_t key[32], uint32_t n);

#endif
