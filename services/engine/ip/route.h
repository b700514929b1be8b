/*
 * Routes of one IP stack: longest prefix match over both families. Called by ip_output.c, addr.c and the configuration
 * door; worker thread.
 */
#ifndef HS_ENGINE_IP_ROUTE_H
#define HS_ENGINE_IP_ROUTE_H

#include "wire/addr.h"

#define ROUTE_MAX     16384u
#define ROUTE_BUCKETS 16384u /* power of two */
#define ROUTE_NONE    UINT32_MAX

struct route {
  struct ip_addr prefix; /* masked */
  struct ip_addr via;    /* next hop, if has_via */
  uint32_t next;         /* in its bucket, or in the free list */
  uint8_t bits;          /* of the 16-byte form: 96 + n for IPv4 */
  uint8_t port;
  uint8_t has_via;
  uint8_t connected; /* made by an address; goes with the last one of its net */
  uint8_t learned;   /* by router advertisement, redirect or DHCP; gives way to the user's */
};

struct route_table {
  struct route *r;          /* ROUTE_MAX, by the owner */
  uint32_t *bucket;         /* ROUTE_BUCKETS, by the owner */
  uint32_t n_made, n, free; /* records touched so far; routes; first free record */
  uint32_t per_len[129];    /* routes per prefix length */
  uint64_t lens[3];         /* bit set: some route has this length */
};

/** Starts an empty table over the owner's arrays. */
void route_init(struct route_table *t, struct route *r, uint32_t *bucket);
/** bits 0…128 of the 16-byte form. Returns the route, or NULL with *err = -EEXIST or -ENOSPC. */
struct route *route_add(struct route_table *t, const struct ip_addr *prefix, unsigned bits, int *err);
/** The route of exactly this prefix, or NULL. */
struct route *route_find(const struct route_table *t, const struct ip_addr *prefix, unsigned bits);
/** 0 or -ENOENT. */
int route_del(struct route_table *t, const struct ip_addr *prefix, unsigned bits);
/** The route with the longest prefix that covers dst, or NULL. */
const struct route *route_lookup(const struct route_table *t, const struct ip_addr *dst);

#endif
