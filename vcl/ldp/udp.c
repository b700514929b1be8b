/*
 * Datagrams of shimmed sockets (udp.h). Called by calls.c, rw.c, msg.c, opt.c; any thread.
 *
 * Which addresses are the kernel's: loopback, and those that the stack has no way to. Which these are shows at
 * connect() or at the first sendto(); a socket that has not spoken to the stack by then becomes a kernel socket, bound
 * as it was. udp(7), ip(7), ipv6(7) for options and errno values.
 */
#include "udp.h"

#include "addr.h"
#include "app.h"
#include "cork.h"
#include "real.h"
#include "stamp.h"
#include "vcl_dgram.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define UDP_JOINED_IOV   16     /* buffers that it fills */
#define UDP_JOINED_MAX   64u    /* datagrams that UDP_GRO joins at most, and */
#define UDP_JOINED_BYTES 65507u /* bytes, as Linux does (RFC 768 over IPv4) */

/* sock.dgram.want: ancillary data that the program asked for */
#define WANT_PKTINFO 1u
#define WANT_TTL     2u
#define WANT_TOS     4u

static void udp_from_ep(struct vcl_dgram *d, const struct addr_ep *e) {
  d->family = e->ep.is_ip4 ? 4 : 6;
  d->port = e->ep.port;
  if (e->ep.is_ip4) {
    d->ip[10] = d->ip[11] = 0xff;
    memcpy(d->ip + 12, e->ip, 4);
  } else {
    memcpy(d->ip, e->ip, 16);
  }
}

static void udp_to_ep(const struct vcl_dgram *d, struct addr_ep *e) {
  addr_ep_init(e);
  e->ep.is_ip4 = d->family != 6;
  e->ep.port = d->port;
  if (e->ep.is_ip4)
    memcpy(e->ip, d->ip + 12, 4);
  else
    memcpy(e->ip, d->ip, 16);
}

/* --- to the kernel --- */

static bool udp_is_fresh(struct sock *s) {
  return !(sock_flags(s) & (SOCK_F_SPOKEN | SOCK_F_CONNECTED));
}

/* The socket becomes the kernel's, bound as it was. */
static int udp_to_kernel(struct sock *s, int fd, const char *why) {
  bool bound = sock_flags(s) & SOCK_F_BOUND;
  int rc = sock_move_to_kernel(s);
  if (rc < 0)
    return rc;
  app_say(2, "fd %d: %s, so it is a kernel socket", fd, why);
  if (bound && real.bind(fd, (struct sockaddr *)&s->dgram.bound, s->dgram.bound_len) < 0)
    return -errno;
  return 0;
}

int udp_bind(struct sock *s, int fd, const struct sockaddr *sa, socklen_t len) {
  struct addr_ep e;
  int rc = addr_from_sockaddr(&e, s->domain, sa, len);
  if (rc < 0)
    return rc;
  if (sock_flags(s) & (SOCK_F_BOUND | SOCK_F_CONNECTED | SOCK_F_OPEN))
    return -EINVAL;
  uint32_t blocking = 0, nonblock = 04000, n = sizeof(blocking);
  rc = -EADDRNOTAVAIL;
  if (!addr_is_loopback(&e) || app_env.loopback) {
    (void)vppcom_session_attr(s->h, VPPCOM_ATTR_SET_FLAGS, &blocking, &n); /* the broker is waited for */
    rc = vppcom_session_bind(s->h, &e.ep);
    (void)vppcom_session_attr(s->h, VPPCOM_ATTR_SET_FLAGS, &nonblock, &n);
  }
  if (rc == -EADDRNOTAVAIL) {
    rc = udp_to_kernel(s, fd, "bound to an address that is not the stack's");
    return rc < 0 ? rc : real.bind(fd, sa, len) < 0 ? -errno : 0;
  }
  if (rc < 0)
    return rc;
  memcpy(&s->dgram.bound, sa, len < sizeof(s->dgram.bound) ? len : sizeof(s->dgram.bound));
  s->dgram.bound_len = len < sizeof(s->dgram.bound) ? len : (socklen_t)sizeof(s->dgram.bound);
  sock_raise(s, SOCK_F_BOUND | SOCK_F_OPEN);
  return 0;
}

static bool udp_no_way(int rc) {
  return rc == -ENETUNREACH || rc == -EHOSTUNREACH || rc == -EADDRNOTAVAIL;
}

int udp_connect(struct sock *s, int fd, const struct sockaddr *sa, socklen_t len) {
  struct vcl_dgram peer = {.family = 0};
  struct addr_ep e;
  if (sa->sa_family == AF_UNSPEC) { /* dissolves the association, connect(2) */
    int rc = sock_flags(s) & SOCK_F_OPEN ? vcl_dgram_connect(s->h, &peer) : 0;
    if (rc == 0)
      sock_clear(s, sock_flags(s) & SOCK_F_BOUND ? SOCK_F_CONNECTED : SOCK_F_CONNECTED | SOCK_F_NAMED);
    return rc;
  }
  int rc = addr_from_sockaddr(&e, s->domain, sa, len);
  if (rc < 0)
    return rc;
  bool local = addr_is_loopback(&e) || addr_is_any(&e);
  udp_from_ep(&peer, &e);
  rc = local && !app_env.loopback ? -ENETUNREACH : peer.port == 0 ? -EINVAL : vcl_dgram_connect(s->h, &peer);
  if (udp_no_way(rc) && udp_is_fresh(s)) {
    rc = udp_to_kernel(s, fd, "connects to an address that is the kernel's");
    return rc < 0 ? rc : real.connect(fd, sa, len) < 0 ? -errno : 0;
  }
  if (rc == 0)
    sock_raise(s, SOCK_F_CONNECTED | SOCK_F_OPEN | SOCK_F_NAMED);
  return rc;
}

/* --- ancillary data --- */

void udp_put_cmsg(struct msghdr *m, size_t *used, int level, int type, const void *data, size_t len) {
  size_t room = m->msg_controllen > *used ? m->msg_controllen - *used : 0;
  if (!m->msg_control || room < CMSG_LEN(len)) {
    m->msg_flags |= MSG_CTRUNC;
    return;
  }
  struct cmsghdr *c = (struct cmsghdr *)((char *)m->msg_control + *used);
  c->cmsg_len = CMSG_LEN(len);
  c->cmsg_level = level;
  c->cmsg_type = type;
  memcpy(CMSG_DATA(c), data, len);
  size_t step = CMSG_SPACE(len);
  *used += step < room ? step : room;
}

static void udp_put_control(struct sock *s, struct msghdr *m, const struct vcl_dgram *d, int joined) {
  size_t used = 0;
  uint32_t want = s->dgram.want;
  int ttl = d->ttl, tos = d->tos;
  stamp_put(s, m, &used, d);
  if (joined)
    udp_put_cmsg(m, &used, IPPROTO_UDP, UDP_GRO, &joined, sizeof(joined));
  if (s->domain == AF_INET) {
    if (want & WANT_PKTINFO) {
      struct in_pktinfo pi = {.ipi_ifindex = (int)d->ifindex};
      memcpy(&pi.ipi_addr, d->local + 12, 4);
      pi.ipi_spec_dst = pi.ipi_addr;
      udp_put_cmsg(m, &used, IPPROTO_IP, IP_PKTINFO, &pi, sizeof(pi));
    }
    if (want & WANT_TTL)
      udp_put_cmsg(m, &used, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
    if (want & WANT_TOS)
      udp_put_cmsg(m, &used, IPPROTO_IP, IP_TOS, &d->tos, sizeof(d->tos));
  } else {
    if (want & WANT_PKTINFO) {
      struct in6_pktinfo pi = {.ipi6_ifindex = d->ifindex};
      memcpy(&pi.ipi6_addr, d->local, 16);
      udp_put_cmsg(m, &used, IPPROTO_IPV6, IPV6_PKTINFO, &pi, sizeof(pi));
    }
    if (want & WANT_TTL)
      udp_put_cmsg(m, &used, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof(ttl));
    if (want & WANT_TOS)
      udp_put_cmsg(m, &used, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
  }
  m->msg_controllen = used;
}

static int udp_cmsg_int(const struct cmsghdr *c, int *v) {
  if (c->cmsg_len < CMSG_LEN(sizeof(*v)))
    return -EINVAL;
  memcpy(v, CMSG_DATA(c), sizeof(*v));
  return 0;
}

static int udp_take_ip(const struct cmsghdr *c, struct vcl_dgram *d) {
  int v = 0, rc = 0;
  switch (c->cmsg_type) {
  case IP_PKTINFO: {
    struct in_pktinfo pi;
    static const uint8_t zero[4];
    if (c->cmsg_len < CMSG_LEN(sizeof(pi)))
      return -EINVAL;
    memcpy(&pi, CMSG_DATA(c), sizeof(pi));
    if (memcmp(&pi.ipi_spec_dst, zero, sizeof(zero)) != 0) {
      d->local[10] = d->local[11] = 0xff;
      memcpy(d->local + 12, &pi.ipi_spec_dst, 4);
    }
    return 0;
  }
  case IP_TTL:
    rc = udp_cmsg_int(c, &v);
    d->ttl = (uint8_t)v;
    return rc < 0 || v < 1 || v > 255 ? -EINVAL : 0;
  case IP_TOS:
    if (c->cmsg_len == CMSG_LEN(1))
      v = *CMSG_DATA(c);
    else
      rc = udp_cmsg_int(c, &v);
    d->tos = (uint8_t)v;
    return rc < 0 || v < 0 || v > 255 ? -EINVAL : 0;
  default:
    return -EINVAL;
  }
}

static int udp_take_ip6(const struct cmsghdr *c, struct vcl_dgram *d) {
  int v = 0, rc;
  switch (c->cmsg_type) {
  case IPV6_PKTINFO: {
    struct in6_pktinfo pi;
    if (c->cmsg_len < CMSG_LEN(sizeof(pi)))
      return -EINVAL;
    memcpy(&pi, CMSG_DATA(c), sizeof(pi));
    memcpy(d->local, &pi.ipi6_addr, 16);
    return 0;
  }
  case IPV6_HOPLIMIT:
    rc = udp_cmsg_int(c, &v);
    d->ttl = v < 0 ? 0 : (uint8_t)v;
    return rc < 0 || v < -1 || v > 255 ? -EINVAL : 0;
  case IPV6_TCLASS:
    rc = udp_cmsg_int(c, &v);
    d->tos = v < 0 ? 0 : (uint8_t)v;
    return rc < 0 || v < -1 || v > 255 ? -EINVAL : 0;
  default:
    return -EINVAL;
  }
}

static int udp_take_control(const struct msghdr *m, struct vcl_dgram *d) {
  struct msghdr copy = *m;
  if (!m->msg_control)
    return 0;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c; c = CMSG_NXTHDR(&copy, c)) {
    int rc = -EINVAL;
    if (c->cmsg_level == IPPROTO_IP)
      rc = udp_take_ip(c, d);
    else if (c->cmsg_level == IPPROTO_IPV6)
      rc = udp_take_ip6(c, d);
    else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT && c->cmsg_len >= CMSG_LEN(sizeof(d->seg))) {
      memcpy(&d->seg, CMSG_DATA(c), sizeof(d->seg));
      rc = 0;
    }
    if (rc < 0)
      return rc;
  }
  return 0;
}

/* --- receive --- */

static bool udp_nonblock(struct sock *s, int flags) {
  return (flags & MSG_DONTWAIT) || (sock_flags(s) & SOCK_F_NONBLOCK);
}

static ssize_t udp_error(ssize_t rc) {
  return rc == -EBADFD ? -EBADF : rc;
}

/* The buffers from byte `at` on. Number of them. */
static int udp_iov_behind(const struct iovec *iov, size_t n, size_t at, struct iovec *to) {
  int k = 0;
  for (size_t i = 0; i < n; i++) {
    size_t skip = at < iov[i].iov_len ? at : iov[i].iov_len;
    at -= skip;
    if (iov[i].iov_len > skip && k < UDP_JOINED_IOV)
      to[k++] = (struct iovec){(char *)iov[i].iov_base + skip, iov[i].iov_len - skip};
  }
  return k;
}

/* UDP_GRO: what waits behind d and is like it joins it, up to one that is shorter. Bytes behind it. */
static size_t udp_join(struct sock *s, const struct iovec *iov, size_t n, const struct vcl_dgram *d) {
  struct iovec rest[UDP_JOINED_IOV];
  size_t at = d->len;
  for (unsigned joined = 1; joined < UDP_JOINED_MAX && at + d->len <= UDP_JOINED_BYTES; joined++) {
    int k = udp_iov_behind(iov, n, at, rest);
    int got = k > 0 ? vcl_dgram_recv_like(s->h, rest, k, d) : -EAGAIN;
    at += got > 0 ? (size_t)got : 0;
    if (got < (int)d->len)
      break;
  }
  return at - d->len;
}

static ssize_t udp_recv_wait(struct sock *s, const struct iovec *iov, size_t n, int flags, struct vcl_dgram *d) {
  int pass = (flags & (MSG_PEEK | MSG_TRUNC)) | MSG_DONTWAIT;
  if (n > IOV_MAX)
    return -EMSGSIZE;
  if (flags & MSG_ERRQUEUE)
    return -EAGAIN;
  if (flags & MSG_OOB)
    return -EOPNOTSUPP;
  for (;;) {
    ssize_t rc = vcl_dgram_recv(s->h, iov, (int)n, pass, d);
    if (rc != -EAGAIN || udp_nonblock(s, flags)) {
      if (rc >= 0 && !(sock_flags(s) & SOCK_F_SPOKEN))
        sock_raise(s, SOCK_F_SPOKEN);
      if (rc > 0 && s->dgram.gro && !(flags & MSG_PEEK) && rc == (ssize_t)d->len)
        rc += (ssize_t)udp_join(s, iov, n, d);
      return udp_error(rc);
    }
    rc = sock_wait(s, EPOLLIN | EPOLLRDHUP, s->rcvtimeo_us, false);
    if (rc < 0)
      return udp_error(rc);
  }
}

ssize_t udp_recv(struct sock *s, const struct iovec *iov, size_t n, int flags) {
  struct vcl_dgram d;
  return udp_recv_wait(s, iov, n, flags, &d);
}

ssize_t udp_recvmsg(struct sock *s, struct msghdr *m, int flags) {
  struct vcl_dgram d = {.family = 0};
  struct addr_ep from;
  size_t room = 0;
  if (m->msg_iovlen > IOV_MAX)
    return -EMSGSIZE;
  for (size_t i = 0; i < m->msg_iovlen; i++)
    room += m->msg_iov[i].iov_len;
  ssize_t rc = udp_recv_wait(s, m->msg_iov, m->msg_iovlen, flags, &d);
  if (rc < 0)
    return rc;
  m->msg_flags = 0;
  if (d.family == 0) { /* shut down: nothing */
    m->msg_namelen = 0;
    m->msg_controllen = 0;
    return rc;
  }
  if (d.len > room)
    m->msg_flags |= MSG_TRUNC;
  if (m->msg_name) {
    udp_to_ep(&d, &from);
    (void)addr_to_sockaddr(&from, s->domain, m->msg_name, &m->msg_namelen);
  }
  udp_put_control(s, m, &d, rc > (ssize_t)d.len ? (int)d.len : 0);
  return rc;
}

/* --- send --- */

/* Where to and how. 0 or -errno. */
static int udp_aim(struct sock *s, const struct msghdr *m, struct vcl_dgram *d, struct addr_ep *e) {
  addr_ep_init(e);
  if (m->msg_name && m->msg_namelen > 0) {
    struct sockaddr_in in;
    const struct sockaddr *sa = m->msg_name;
    if (s->domain == AF_INET && m->msg_namelen >= sizeof(in) && sa->sa_family == AF_UNSPEC) {
      memcpy(&in, sa, sizeof(in)); /* udp_sendmsg of Linux takes AF_UNSPEC for AF_INET */
      in.sin_family = AF_INET;
      sa = (const struct sockaddr *)&in;
    }
    int rc = addr_from_sockaddr(e, s->domain, sa, m->msg_namelen);
    if (rc < 0)
      return rc;
    if (e->ep.port == 0)
      return -EINVAL;
    udp_from_ep(d, e);
    bool group = e->ep.is_ip4 ? (e->ip[0] & 0xf0) == 0xe0 : e->ip[0] == 0xff;
    if (group) {
      d->ttl = s->dgram.mc_ttl;
      d->flags |= s->dgram.mc_no_loop ? VCL_DGRAM_NO_LOOP : 0;
      memcpy(d->local, s->dgram.mc_if, sizeof(d->local));
    }
  }
  d->seg = s->dgram.segment;
  d->flags |= s->dgram.uncut ? VCL_DGRAM_UNCUT : 0;
  return udp_take_control(m, d);
}

static bool udp_is_kernels(const struct addr_ep *e) {
  return !app_env.loopback && (addr_is_loopback(e) || addr_is_any(e));
}

ssize_t udp_sendmsg(struct sock *s, int fd, const struct msghdr *m, int flags) {
  return cork_takes(s, flags) ? cork_sendmsg(s, fd, m, flags) : udp_sendmsg_whole(s, fd, m, flags);
}

ssize_t udp_sendmsg_whole(struct sock *s, int fd, const struct msghdr *m, int flags) {
  struct vcl_dgram d = {.family = 0};
  struct addr_ep to;
  if (m->msg_iovlen > IOV_MAX)
    return -EMSGSIZE;
  if (flags & MSG_OOB)
    return -EOPNOTSUPP;
  ssize_t rc = udp_aim(s, m, &d, &to);
  if (rc < 0)
    return rc;
  while (rc == 0) {
    bool kernels = d.family != 0 && udp_is_kernels(&to);
    rc = kernels ? -ENETUNREACH
                 : vcl_dgram_send(s->h, m->msg_iov, (int)m->msg_iovlen, MSG_DONTWAIT,
                                  d.family || d.seg || d.flags || d.ttl || d.tos || m->msg_control ? &d : NULL);
    if (rc >= 0) {
      if (!(sock_flags(s) & SOCK_F_SPOKEN))
        sock_raise(s, SOCK_F_SPOKEN | SOCK_F_OPEN | SOCK_F_NAMED);
      return rc;
    }
    if (d.family != 0 && udp_no_way((int)rc) && udp_is_fresh(s) && fd >= 0) {
      rc = udp_to_kernel(s, fd, "sends to an address that is the kernel's");
      if (rc < 0)
        return rc;
      rc = real.sendmsg(fd, m, flags);
      return rc < 0 ? -errno : rc;
    }
    if (rc != -EAGAIN || udp_nonblock(s, flags))
      return udp_error(rc);
    rc = sock_wait(s, EPOLLOUT, s->sndtimeo_us, false);
  }
  return udp_error(rc);
}

ssize_t udp_send(struct sock *s, const struct iovec *iov, size_t n, int flags) {
  struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
  return udp_sendmsg(s, -1, &m, flags);
}

/* --- options --- */

/* IP_ADD_MEMBERSHIP and its kin: the group, and an interface by its address. */
static int udp_membership4(struct sock *s, const void *val, socklen_t len, bool join) {
  struct ip_mreqn r = {.imr_ifindex = 0};
  struct vcl_dgram d = {.family = 4};
  if (len < sizeof(struct ip_mreq))
    return -EINVAL;
  memcpy(&r, val, len < sizeof(r) ? sizeof(struct ip_mreq) : sizeof(r));
  d.ip[10] = d.ip[11] = 0xff;
  memcpy(d.ip + 12, &r.imr_multiaddr, 4);
  if ((d.ip[12] & 0xf0) != 0xe0)
    return -EINVAL;
  if (r.imr_address.s_addr != INADDR_ANY) {
    d.local[10] = d.local[11] = 0xff;
    memcpy(d.local + 12, &r.imr_address, 4);
  }
  int rc = vcl_dgram_group(s->h, &d, join);
  if (rc == 0)
    sock_raise(s, SOCK_F_SPOKEN | SOCK_F_OPEN);
  return rc;
}

static int udp_membership6(struct sock *s, const void *val, socklen_t len, bool join) {
  struct ipv6_mreq r;
  struct vcl_dgram d = {.family = 6};
  if (len < sizeof(r))
    return -EINVAL;
  memcpy(&r, val, sizeof(r));
  memcpy(d.ip, &r.ipv6mr_multiaddr, 16);
  if (d.ip[0] != 0xff)
    return -EINVAL;
  int rc = vcl_dgram_group(s->h, &d, join);
  if (rc == 0)
    sock_raise(s, SOCK_F_SPOKEN | SOCK_F_OPEN);
  return rc;
}

static int udp_multicast_if(struct sock *s, const void *val, socklen_t len) {
  struct in_addr a = {INADDR_ANY};
  if (len >= sizeof(struct ip_mreq)) /* ip_mreq and ip_mreqn: the address is the second word */
    memcpy(&a, (const char *)val + sizeof(a), sizeof(a));
  else if (len >= sizeof(a))
    memcpy(&a, val, sizeof(a));
  else
    return -EINVAL;
  memset(s->dgram.mc_if, 0, sizeof(s->dgram.mc_if));
  if (a.s_addr != INADDR_ANY) {
    s->dgram.mc_if[10] = s->dgram.mc_if[11] = 0xff;
    memcpy(s->dgram.mc_if + 12, &a, sizeof(a));
  }
  return 0;
}

int udp_setsockopt(struct sock *s, int level, int name, const void *val, socklen_t len) {
  if (level == IPPROTO_IP && (name == IP_ADD_MEMBERSHIP || name == IP_DROP_MEMBERSHIP))
    return udp_membership4(s, val, len, name == IP_ADD_MEMBERSHIP);
  if (level == IPPROTO_IPV6 && (name == IPV6_ADD_MEMBERSHIP || name == IPV6_DROP_MEMBERSHIP))
    return udp_membership6(s, val, len, name == IPV6_ADD_MEMBERSHIP);
  if (level == IPPROTO_IP && name == IP_MULTICAST_IF)
    return udp_multicast_if(s, val, len);
  return -ENOENT;
}

static void udp_want(struct sock *s, uint32_t bit, int value) {
  s->dgram.want = value ? s->dgram.want | bit : s->dgram.want & ~bit;
}

void udp_option(struct sock *s, int level, int name, int value) {
  if (level == IPPROTO_UDP && name == UDP_SEGMENT)
    s->dgram.segment = (uint16_t)value;
  if (level == IPPROTO_UDP && name == UDP_GRO)
    s->dgram.gro = value != 0;
  if (level == IPPROTO_UDP && name == UDP_CORK)
    cork_set(s, value != 0);
  if (level == IPPROTO_IP) {
    if (name == IP_PKTINFO)
      udp_want(s, WANT_PKTINFO, value);
    else if (name == IP_RECVTTL)
      udp_want(s, WANT_TTL, value);
    else if (name == IP_RECVTOS)
      udp_want(s, WANT_TOS, value);
    else if (name == IP_MULTICAST_TTL)
      s->dgram.mc_ttl = value < 0 ? 1 : (uint8_t)value;
    else if (name == IP_MULTICAST_LOOP)
      s->dgram.mc_no_loop = !value;
    else if (name == IP_MTU_DISCOVER)
      s->dgram.uncut = value == IP_PMTUDISC_DO || value == IP_PMTUDISC_PROBE;
  } else if (level == IPPROTO_IPV6) {
    if (name == IPV6_RECVPKTINFO)
      udp_want(s, WANT_PKTINFO, value);
    else if (name == IPV6_RECVHOPLIMIT)
      udp_want(s, WANT_TTL, value);
    else if (name == IPV6_RECVTCLASS)
      udp_want(s, WANT_TOS, value);
    else if (name == IPV6_MULTICAST_HOPS)
      s->dgram.mc_ttl = value < 0 ? 1 : (uint8_t)value;
    else if (name == IPV6_MULTICAST_LOOP)
      s->dgram.mc_no_loop = !value;
    else if (name == IPV6_MTU_DISCOVER)
      s->dgram.uncut = value == IPV6_PMTUDISC_DO || value == IPV6_PMTUDISC_PROBE;
  }
}
