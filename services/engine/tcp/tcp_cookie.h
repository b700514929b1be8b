/*
 * SYN cookies (RFC 4987 3.6): a SYN is answered without remembering anything; what the connection needs comes back in
 * the handshake's ACK. Used by the session layer when half-open connections are too many (session/syn.c). Worker's
 * thread.
 */
#ifndef HS_ENGINE_TCP_COOKIE_H
#define HS_ENGINE_TCP_COOKIE_H

#include "tcp.h"

#define TCP_COOKIE_LIFE (2u << 26) /* µs: no cookie is older when it comes back */

/** The SYN-ACK for a SYN. `d`: scratch outside the table, local and remote filled, all else zero. `room` = bytes of
 * receive buffer that a new connection has. 0, or -EINVAL when the segment is no acceptable SYN. */
int tcp_cookie_syn(struct tcp_env *e, struct abi_tcb *d, const struct tcp_seg_in *seg, uint32_t mtu, uint32_t room,
                   struct tcp_seg_out *out, usec_t now);
/** Whether the segment acknowledges a cookie of ours: local and remote of `d` are looked at. 1 or 0. */
int tcp_cookie_valid(struct tcp_env *e, const struct abi_tcb *d, const struct tcp_seg_in *seg, usec_t now);
/** It does: make the connection, durable in SYN_RECEIVED as if it had been remembered; the segment then goes to
 * tcp_input. `d` as in tcp_passive_open. 0 or -EINVAL. */
int tcp_cookie_open(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, const struct tcp_seg_in *seg,
                    uint32_t mtu, usec_t now);

#endif
