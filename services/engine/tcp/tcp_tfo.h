/*
 * TCP Fast Open (RFC 7413): data in the SYN, both sides. A server gives cookies that prove an address, and takes data
 * from whoever shows one; a client keeps the cookies it was given. Worker's thread.
 */
#ifndef HS_ENGINE_TCP_TFO_H
#define HS_ENGINE_TCP_TFO_H

#include "tcp.h"

#define TCP_TFO_SLOTS 256u /* servers whose cookies are kept; two that share a slot push each other out */

/* tcp_config.fastopen */
#define TCP_TFO_CLIENT 1u
#define TCP_TFO_SERVER 2u

/* What a SYN may have, tcp_passive_fast. */
#define TCP_TFO_COOKIE 1u /* a cookie in the SYN-ACK: it asked, or showed a wrong one */
#define TCP_TFO_DATA   2u /* its data is taken now: the cookie is good */
/* … and of either side's connection, later */
#define TCP_TFO_OWN   8u /* the cookie is made with the listener's own key */
#define TCP_TFO_TAKEN 4u /* data of the SYN was acknowledged by the SYN-ACK */

/** A server as a client knows it, RFC 7413 4.1.3. */
struct tcp_tfo_entry {
  uint8_t remote[16];
  uint8_t cookie[TCP_TFO_MAX];
  uint8_t len; /* of the cookie, 0 = none known */
  uint8_t pad;
  uint16_t mss;
  uint32_t vrf;
  usec_t bad_until; /* a SYN with the option got no answer: without it until then (RFC 7413 4.1.3.1) */
};

struct tcp_tfo {
  struct tcp_tfo_entry e[TCP_TFO_SLOTS];
};

/** What a SYN for a listener with Fast Open may have: TCP_TFO_* bits. Of d, remote and vrf are set. */
unsigned tcp_tfo_check(struct tcp_env *e, const struct abi_tcb *d, const struct tcp_seg_in *seg);

/** Bytes that a SYN to `remote` may carry; 0: its cookie is not known, or such SYNs get lost on the way. -EOPNOTSUPP:
 * clients do without by configuration. `mtu`: of the path. */
int tcp_tfo_room(const struct tcp_env *e, const struct abi_endpoint *remote, uint32_t vrf, uint32_t mtu, usec_t now);
/** The same of a SYN that shows no cookie (TCP_FASTOPEN_NO_COOKIE), to a server that wants none. */
int tcp_tfo_room_bare(const struct tcp_env *e, const struct abi_endpoint *remote, uint32_t vrf, uint32_t mtu,
                      usec_t now);

#endif
