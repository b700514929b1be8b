/*
 * Routes that were set at run time, in the TCB segment: what one engine leaves to the next. They stand above the
 * configuration's: a record for a prefix that is configured, too, takes that route's place.
 *
 * Writer: the engine's control thread; a new engine's workers read it before they adopt. A record is filled while its
 * life is FREE, then `life` is stored with release order: until then it does not exist. A changed route is a second
 * record of the same prefix and VRF with a higher `seq`, after which the older one is freed: of two the higher one
 * counts.
 */
#ifndef HS_ABI_ROUTE_H
#define HS_ABI_ROUTE_H

#include "base/bytes.h"

#define ABI_ROUTES_MAX 1024u

enum abi_route_life {
  ABI_ROUTE_FREE = 0,
  ABI_ROUTE_SET = 1,  /* the route counts */
  ABI_ROUTE_GONE = 2, /* the configured route of this prefix does not count */
};

struct abi_route {
  uint32_t life;  /* atomic: enum abi_route_life */
  uint8_t family; /* 4 or 6 */
  uint8_t prefix; /* bits, of the family */
  uint8_t has_via;
  uint8_t vrf; /* whose table */
  uint64_t seq;
  uint8_t dst[16]; /* IPv4 mapped */
  uint8_t via[16];
  char interface[32]; /* empty: found through via */
};
_Static_assert(sizeof(struct abi_route) == 80, "a route that was set at run time");

#endif
