/*
 * What router advertisements taught us: default routers and on-link prefixes (RFC 4861 6.3.4); addresses made of
 * prefixes are struct ip_local. Who calls what is in ip_stack.h. All of it is bounded, since anybody on the link can
 * advertise.
 */
#ifndef HS_ENGINE_IP_RA_H
#define HS_ENGINE_IP_RA_H

#include "base/timer.h"
#include "wire/addr.h"

#define RA_ROUTERS  8u
#define RA_PREFIXES 16u
#define RA_ADDRS    8u         /* addresses by autoconfiguration per port */
#define RA_RS_US    4000000ull /* RFC 7559 2: IRT, doubled up to MRT until somebody answers */
#define RA_RS_MAX   3600000000ull
#define RA_TWO_H    7200000000ull /* RFC 4862 5.5.3 e */

struct ra_router {
  struct ip_addr addr;
  usec_t until; /* 0: the record is free */
  uint8_t port;
  uint8_t silent; /* it stopped answering: another one is preferred (RFC 4861 6.3.6) */
};

struct ra_prefix {
  struct ip_addr prefix;
  usec_t until; /* 0: free; TIMER_NEVER */
  uint8_t len, port;
};

struct ra_port {
  uint8_t on;
  uint8_t due; /* to be solicited by the next ip_timer */
  usec_t wait; /* between the last solicitation and the next */
  struct timer_ent timer;
};

struct ra_table {
  struct ra_router router[RA_ROUTERS];
  struct ra_prefix prefix[RA_PREFIXES];
  struct timer_ent timer; /* the next thing that expires */
};

#endif
