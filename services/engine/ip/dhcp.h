/*
 * DHCPv4 client of one port (RFC 2131 4.4): who calls what is in ip_stack.h.
 */
#ifndef HS_ENGINE_IP_DHCP_H
#define HS_ENGINE_IP_DHCP_H

#include "base/timer.h"
#include "wire/addr.h"

enum dhcp_state {
  DHCP_INIT = 0,   /* to ask, at once or after a pause */
  DHCP_SELECTING,  /* DISCOVER sent */
  DHCP_REQUESTING, /* an offer is taken */
  DHCP_REBOOTING,  /* asks for an address that was ours */
  DHCP_CHECKING,   /* granted; is it somebody else's? (RFC 2131 2.2, RFC 5227) */
  DHCP_BOUND,
  DHCP_RENEWING,  /* asks its server */
  DHCP_REBINDING, /* asks anybody */
};

struct dhcp_port {
  uint8_t on;
  uint8_t due;   /* to be started by the next ip_timer */
  uint8_t state; /* enum dhcp_state */
  uint8_t naks;  /* refusals in a row: the server and we do not agree, each costs twice the wait */
  uint8_t tries; /* messages sent in this state */
  uint8_t prefix;
  uint8_t held; /* addr is an address of the port now */
  uint16_t mtu; /* as granted, 0: nothing said */
  uint32_t xid;
  uint32_t addr, server, router; /* host order, 0: none */
  usec_t began;                  /* of this acquisition: `secs` */
  usec_t t1, t2, expiry;
  struct timer_ent timer;
};

#endif
