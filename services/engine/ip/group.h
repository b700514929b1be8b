/*
 * Multicast groups that sessions of datagrams have joined (group.c). One table per stack; soft: an app says its groups
 * again to a new engine.
 */
#ifndef HS_ENGINE_IP_GROUP_H
#define HS_ENGINE_IP_GROUP_H

#include "wire/addr.h"

#define GROUPS_MAX 64u

/** One group on one interface. */
struct ip_group {
  struct ip_addr addr;
  uint32_t refs; /* sessions that joined; 0: free */
  uint8_t port;
  uint8_t again; /* reports that are still to be repeated (robustness, RFC 3376 8.1) */
};

#endif
