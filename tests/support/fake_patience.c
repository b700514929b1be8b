/*
 * The library's patience with the fake broker, longer than in the field: a connect waits 50 ms for the broker to say
 * whether it may go over a pair, and goes through the engine if no answer came by then. Tests say which way it goes,
 * and the fake is a thread that a busy machine may not run for so long.
 *
 * Linked before the library's own function (--wrap=broker_pair, tests/unit/rooms/vcl.cmake); on the caller's thread.
 */
#include "base/clock.h"
#include "vcl_broker.h"

#define PATIENCE_US (20 * CLOCK_US_PER_S)

int __real_broker_pair(struct broker *b, uint64_t worker_id, uint8_t proto, const struct abi_endpoint *to,
                       uint64_t *have, uint32_t n_have, usec_t deadline, struct broker_pair *out);
int __wrap_broker_pair(struct broker *b, uint64_t worker_id, uint8_t proto, const struct abi_endpoint *to,
                       uint64_t *have, uint32_t n_have, usec_t deadline, struct broker_pair *out);

int __wrap_broker_pair(struct broker *b, uint64_t worker_id, uint8_t proto, const struct abi_endpoint *to,
                       uint64_t *have, uint32_t n_have, usec_t deadline, struct broker_pair *out) {
  return __real_broker_pair(b, worker_id, proto, to, have, n_have, deadline + PATIENCE_US, out);
}
