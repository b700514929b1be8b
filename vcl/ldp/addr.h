/*
 * sockaddr ↔ vppcom endpoint, and which addresses belong to the kernel. Pure functions, any thread.
 */
#ifndef HS_LDP_ADDR_H
#define HS_LDP_ADDR_H

#include "vppcom.h"

#include <stdbool.h>
#include <sys/socket.h>

struct addr_ep {
  vppcom_endpt_t ep; /* ep.ip points at `ip` below: do not copy the struct */
  uint8_t ip[16];
};

/** Ready to be filled by the library. */
void addr_ep_init(struct addr_ep *e);
/** From a program's sockaddr for a socket of `domain`. A v4-mapped address becomes IPv4. 0, -EINVAL (length),
 * -EAFNOSUPPORT, -EFAULT. */
int addr_from_sockaddr(struct addr_ep *e, int domain, const struct sockaddr *sa, socklen_t len);
/** Into the program's buffer, cut to *len as Linux does; *len becomes the full length. IPv4 in an AF_INET6 socket comes
 * out v4-mapped. 0, -EINVAL, -EFAULT. */
int addr_to_sockaddr(const struct addr_ep *e, int domain, struct sockaddr *sa, socklen_t *len);
/** 127/8, ::1, ::ffff:127/8. */
bool addr_is_loopback(const struct addr_ep *e);
/** 0.0.0.0 or ::, which connect() takes for loopback. */
bool addr_is_any(const struct addr_ep *e);

#endif
