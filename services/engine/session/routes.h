/*
 * Routes of a running engine: the configuration's, changed by what hsctl set and the TCB segment keeps (abi/route.h).
 * The control thread writes the records, each worker puts what counts into its own IP stack.
 */
#ifndef HS_ENGINE_ROUTES_H
#define HS_ENGINE_ROUTES_H

#include "abi/route.h"
#include "svc/config.h"

struct worker;

/** What counts for a prefix from now on. */
struct routes_change {
  struct config_route route; /* dst, prefix, family and vrf say which one */
  uint32_t none;             /* 1 = no route of the user's */
};

/* --- worker thread --- */

/** At the worker's start, when the configured routes are in: what was set over them. One whose gateway cannot be
 * reached yet (its net is learned) is tried again by routes_again. */
void routes_start(struct worker *w);
/** Each turn while a route waits: tries again when addresses or routes have changed. */
void routes_again(struct worker *w);
/** One prefix is changed in this worker's stack. 0, -ENETUNREACH (the gateway is on no net of ours), -EINVAL (no such
 * interface of the VRF), -ENODEV (no such VRF), -EEXIST (an address's own net), -ENOSPC; then nothing has changed. */
int routes_put(struct worker *w, const struct routes_change *c);

/* --- control thread, the records' one writer --- */

/** What a predecessor left half done is put right. Before the workers start. */
void routes_settle(struct abi_route *t, uint64_t n);
/** The record that counts for a prefix, or NULL. */
const struct abi_route *routes_find(const struct abi_route *t, uint64_t n, const struct config_route *key);
/** Keep a route, life ABI_ROUTE_SET or ABI_ROUTE_GONE, for this engine and its successors. 0 or -ENOSPC. */
int routes_keep(struct abi_route *t, uint64_t n, const struct config_route *r, uint32_t life);
/** Nothing is set for the prefix any more. */
void routes_forget(struct abi_route *t, uint64_t n, const struct config_route *key);
/** The configured route of a prefix, or NULL. */
const struct config_route *routes_configured(const struct config *cfg, const struct config_route *key);

#endif
