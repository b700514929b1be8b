/*
 * Address conversion for the shim (addr.h). Errors are those that Linux' inet_bind and tcp_v4/v6_connect give.
 */
#include "addr.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

/* The shortest sockaddr_in6 that Linux takes: without the scope id (RFC 2133). */
#define ADDR_SIN6_MIN offsetof(struct sockaddr_in6, sin6_scope_id)

static const uint8_t addr_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

void addr_ep_init(struct addr_ep *e) {
  memset(e, 0, sizeof(*e));
  e->ep.is_ip4 = VPPCOM_IS_IP4;
  e->ep.ip = e->ip;
}

static void addr_from_in(struct addr_ep *e, const struct sockaddr *sa) {
  struct sockaddr_in in;
  memcpy(&in, sa, sizeof(in));
  e->ep.is_ip4 = VPPCOM_IS_IP4;
  e->ep.port = in.sin_port;
  memcpy(e->ip, &in.sin_addr, 4);
}

int addr_from_sockaddr(struct addr_ep *e, int domain, const struct sockaddr *sa, socklen_t len) {
  addr_ep_init(e);
  if (!sa)
    return -EFAULT;
  if (len < sizeof(sa_family_t))
    return -EINVAL;
  if (domain == AF_INET) {
    if (len < sizeof(struct sockaddr_in))
      return -EINVAL;
    if (sa->sa_family != AF_INET)
      return -EAFNOSUPPORT;
    addr_from_in(e, sa);
    return 0;
  }
  if (len < ADDR_SIN6_MIN)
    return -EINVAL;
  if (sa->sa_family != AF_INET6)
    return -EAFNOSUPPORT;
  struct sockaddr_in6 in6 = {0};
  memcpy(&in6, sa, len < sizeof(in6) ? len : sizeof(in6));
  e->ep.port = in6.sin6_port;
  if (memcmp(&in6.sin6_addr, addr_mapped, sizeof(addr_mapped)) == 0) {
    memcpy(e->ip, (const uint8_t *)&in6.sin6_addr + sizeof(addr_mapped), 4);
    return 0;
  }
  e->ep.is_ip4 = VPPCOM_IS_IP6;
  memcpy(e->ip, &in6.sin6_addr, 16);
  return 0;
}

int addr_to_sockaddr(const struct addr_ep *e, int domain, struct sockaddr *sa, socklen_t *len) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = e->ep.port};
  struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = e->ep.port};
  const void *from = &in;
  socklen_t full = sizeof(in);
  if (!len)
    return -EFAULT;
  if ((int)*len < 0)
    return -EINVAL;
  if (domain == AF_INET) {
    memcpy(&in.sin_addr, e->ip, 4);
  } else {
    static const uint8_t zero[4];
    from = &in6;
    full = sizeof(in6);
    if (!e->ep.is_ip4) {
      memcpy(&in6.sin6_addr, e->ip, 16);
    } else if (memcmp(e->ip, zero, 4) != 0) { /* an unbound IPv6 socket reads as :: */
      memcpy(&in6.sin6_addr, addr_mapped, sizeof(addr_mapped));
      memcpy((uint8_t *)&in6.sin6_addr + sizeof(addr_mapped), e->ip, 4);
    }
  }
  if (*len > 0 && !sa)
    return -EFAULT;
  if (*len > 0)
    memcpy(sa, from, *len < full ? *len : full);
  *len = full;
  return 0;
}

bool addr_is_loopback(const struct addr_ep *e) {
  static const uint8_t one[16] = {[15] = 1};
  return e->ep.is_ip4 ? e->ip[0] == 127 : memcmp(e->ip, one, sizeof(one)) == 0;
}

bool addr_is_any(const struct addr_ep *e) {
  static const uint8_t zero[16];
  return memcmp(e->ip, zero, e->ep.is_ip4 ? 4 : 16) == 0;
}
