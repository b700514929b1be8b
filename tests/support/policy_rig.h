/*
 * A broker's policy of 16 entries in a segment, and the table of listeners of an engine worker that reads it: for tests
 * of that table alone, without an engine around it.
 */
#ifndef HS_TESTS_POLICY_RIG_H
#define HS_TESTS_POLICY_RIG_H

#include "session/worker.h"
#include "test.h"

#include <unistd.h>

static inline void policy_rig_open(struct seg *policy, struct listen_table *t) {
  struct abi_policy_geom g = {.block_off = 256, .n_listen = 16, .listen_off = 4096};
  assert_int_equal(seg_create(policy, "t", ABI_SEG_POLICY, 1, 8192, (uint64_t *)&g), 0);
  t->seg.fd = -1;
  assert_int_equal(listen_open(t, dup(policy->fd)), 0);
}

static inline void policy_rig_close(struct seg *policy, struct listen_table *t) {
  listen_close(t);
  seg_detach(policy);
}

static inline struct abi_policy *policy_rig_block(const struct seg *policy) {
  return seg_at(policy, 256, sizeof(struct abi_policy));
}

static inline struct abi_listen_entry *policy_rig_entry(const struct seg *policy, uint32_t i) {
  return (struct abi_listen_entry *)seg_at(policy, 4096, 16 * sizeof(struct abi_listen_entry)) + i;
}

#endif
