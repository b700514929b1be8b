/*
 * Checks of datagrams: names, boundaries, errors, shutdown, many at once, options (udp(7), ip(7)).
 */
#include "conform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static struct sockaddr_in dgram_peer; /* the peer's UDP socket */

static int dgram_socket(void) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct timeval tv = {10, 0};
  need(fd >= 0, "a socket of datagrams");
  need(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0, "a time-out");
  return fd;
}

static int dgram_connected(void) {
  int fd = dgram_socket();
  need(connect(fd, (struct sockaddr *)&dgram_peer, sizeof(dgram_peer)) == 0, "connect");
  return fd;
}

static int dgram_number(int fd, int level, int name) {
  int v = -1;
  socklen_t len = sizeof(v);
  return getsockopt(fd, level, name, &v, &len) < 0 ? -errno : v;
}

static long dgram_set(int fd, int level, int name, int v) {
  return setsockopt(fd, level, name, &v, sizeof(v));
}

static void dgram_name(const char *what, int fd) {
  struct sockaddr_in a;
  socklen_t len = sizeof(a);
  memset(&a, 0, sizeof(a));
  say_rc(what, getsockname(fd, (struct sockaddr *)&a, &len));
  say_num("  its address is any", a.sin_addr.s_addr == INADDR_ANY);
  say_num("  its address is ours", a.sin_addr.s_addr == conform.my_ip.sin_addr.s_addr);
  say_num("  it has a port", a.sin_port != 0);
}

static void dgram_fresh(void) {
  struct sockaddr_in a = dgram_peer;
  struct pollfd p = {.events = POLLIN | POLLOUT | POLLRDHUP};
  socklen_t len = sizeof(a);
  char buf[8];
  int fd = p.fd = dgram_socket();
  say_num("SO_TYPE", dgram_number(fd, SOL_SOCKET, SO_TYPE));
  say_num("SO_PROTOCOL", dgram_number(fd, SOL_SOCKET, SO_PROTOCOL));
  say_num("SO_ACCEPTCONN", dgram_number(fd, SOL_SOCKET, SO_ACCEPTCONN));
  say_num("SO_ERROR", dgram_number(fd, SOL_SOCKET, SO_ERROR));
  dgram_name("getsockname", fd);
  say_rc("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
  say_num("poll of a fresh one", poll(&p, 1, 0));
  say_bits("its events", (unsigned)p.revents);
  say_rc("recv DONTWAIT", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
  say_rc("send without a peer", send(fd, "x", 1, 0));
  say_rc("write without a peer", write(fd, "x", 1));
  a = dgram_peer;
  a.sin_port = 0;
  say_rc("sendto port 0", sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)));
  say_rc("sendto a short address", sendto(fd, "x", 1, 0, (struct sockaddr *)&dgram_peer, 4));
  a = dgram_peer;
  a.sin_family = AF_INET6;
  say_rc("sendto another family", sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)));
  say_rc("connect to another family", connect(fd, (struct sockaddr *)&a, sizeof(a)));
  say_rc("shutdown unconnected", shutdown(fd, SHUT_RDWR));
  say_rc("listen", listen(fd, 5));
  say_rc("accept", accept(fd, NULL, NULL));
  say_rc("MSG_OOB", send(fd, "x", 1, MSG_OOB));
  close(fd);
}

static void dgram_bound(void) {
  struct sockaddr_in a = conform.my_ip, any = {.sin_family = AF_INET};
  socklen_t len = sizeof(a);
  int fd = dgram_socket(), other = dgram_socket();
  say_rc("bind", bind(fd, (struct sockaddr *)&a, sizeof(a)));
  dgram_name("getsockname of a bound one", fd);
  say_rc("bind again", bind(fd, (struct sockaddr *)&a, sizeof(a)));
  need(getsockname(fd, (struct sockaddr *)&a, &len) == 0, "its name");
  say_rc("bind of another to the same", bind(other, (struct sockaddr *)&a, sizeof(a)));
  any.sin_port = a.sin_port;
  say_rc("... to any address, the same port", bind(other, (struct sockaddr *)&any, sizeof(any)));
  say_rc("SO_REUSEADDR of one", dgram_set(other, SOL_SOCKET, SO_REUSEADDR, 1));
  say_rc("bind still", bind(other, (struct sockaddr *)&a, sizeof(a)));
  close(other);
  close(fd);
  fd = dgram_socket();
  other = dgram_socket();
  dgram_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  dgram_set(other, SOL_SOCKET, SO_REUSEADDR, 1);
  say_rc("bind with SO_REUSEADDR", bind(fd, (struct sockaddr *)&a, sizeof(a)));
  say_rc("bind of both", bind(other, (struct sockaddr *)&a, sizeof(a)));
  close(other);
  close(fd);
}

static void dgram_data(void) {
  struct sockaddr_in from;
  socklen_t len = sizeof(from);
  char buf[200] = {0};
  static char big[65536];
  int fd = dgram_socket(), n = -1;
  say_rc("sendto", sendto(fd, "0123456789", 10, 0, (struct sockaddr *)&dgram_peer, sizeof(dgram_peer)));
  dgram_name("getsockname after sendto", fd);
  need(peer_do(PEER_UDP_ECHO, 1) == 10, "the peer answers");
  say_num("POLLIN", subject_poll(fd, POLLIN, 20000));
  say_rc("FIONREAD", ioctl(fd, FIONREAD, &n));
  say_num("bytes of the next datagram", n);
  say_rc("PEEK 4", recv(fd, buf, 4, MSG_PEEK));
  say_rc("PEEK | TRUNC 4", recv(fd, buf, 4, MSG_PEEK | MSG_TRUNC));
  say_rc("recvfrom 4", recvfrom(fd, buf, 4, 0, (struct sockaddr *)&from, &len));
  say_num("from the peer", memcmp(&from, &dgram_peer, sizeof(from)) == 0 && len == sizeof(from));
  say_rc("what was cut off is gone", recv(fd, buf, 100, MSG_DONTWAIT));
  say_rc("sendto of nothing", sendto(fd, "", 0, 0, (struct sockaddr *)&dgram_peer, sizeof(dgram_peer)));
  need(peer_do(PEER_UDP_ECHO, 1) == 0, "the peer answers");
  say_num("POLLIN of nothing", subject_poll(fd, POLLIN, 20000));
  say_rc("recv of it", recv(fd, buf, 100, 0));
  say_rc("and no more", recv(fd, buf, 100, MSG_DONTWAIT));
  say_rc("sendto of 65507", sendto(fd, big, 65507, 0, (struct sockaddr *)&dgram_peer, sizeof(dgram_peer)));
  need(peer_do(PEER_UDP_ECHO, 1) == 65507, "the peer answers");
  say_rc("recv of it all", recv(fd, big, sizeof(big), 0));
  say_rc("sendto of 65508", sendto(fd, big, 65508, 0, (struct sockaddr *)&dgram_peer, sizeof(dgram_peer)));
  close(fd);
}

static void dgram_many(void) {
  char a[4], b[4], c[16];
  struct iovec out[2] = {{"ab", 2}, {"cde", 3}}, in[2] = {{a, 2}, {b, 2}}, third = {c, sizeof(c)};
  struct mmsghdr m[3] = {{.msg_hdr = {.msg_iov = out, .msg_iovlen = 2}},
                         {.msg_hdr = {.msg_iov = out, .msg_iovlen = 1}}};
  struct sockaddr_in from;
  int fd = dgram_connected();
  say_rc("sendmmsg", sendmmsg(fd, m, 2, 0));
  say_num("first length", m[0].msg_len);
  say_num("second length", m[1].msg_len);
  need(peer_do(PEER_UDP_ECHO, 2) == 2, "the peer answers");
  memset(m, 0, sizeof(m));
  m[0].msg_hdr = (struct msghdr){.msg_iov = in, .msg_iovlen = 2, .msg_name = &from, .msg_namelen = sizeof(from)};
  m[1].msg_hdr = (struct msghdr){.msg_iov = &third, .msg_iovlen = 1};
  m[2].msg_hdr = (struct msghdr){.msg_iov = &third, .msg_iovlen = 1};
  say_rc("recvmmsg", recvmmsg(fd, m, 2, 0, NULL));
  say_num("first length", m[0].msg_len);
  say_num("first is cut off", (m[0].msg_hdr.msg_flags & MSG_TRUNC) != 0);
  say_num("its name's length", m[0].msg_hdr.msg_namelen);
  say_num("second length", m[1].msg_len);
  say_num("second is cut off", (m[1].msg_hdr.msg_flags & MSG_TRUNC) != 0);
  say_num("bytes", memcmp(a, "ab", 2) == 0 && memcmp(b, "cd", 2) == 0 && memcmp(c, "ab", 2) == 0);
  say_rc("recvmmsg DONTWAIT", recvmmsg(fd, m, 3, MSG_DONTWAIT, NULL));
  say_rc("readv", readv(fd, NULL, 0));
  close(fd);
}

static void dgram_peers(void) {
  struct sockaddr_in a, closed = conform.peer_ip;
  struct sockaddr unspec = {.sa_family = AF_UNSPEC};
  struct pollfd p = {.events = POLLIN};
  socklen_t len = sizeof(a);
  char buf[16];
  int fd = dgram_connected();
  dgram_name("getsockname connected", fd);
  say_rc("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
  say_num("it is the peer", a.sin_port == dgram_peer.sin_port);
  say_rc("sendto besides", sendto(fd, "abc", 3, 0, (struct sockaddr *)&dgram_peer, sizeof(dgram_peer)));
  need(peer_do(PEER_UDP_ECHO, 1) == 3, "the peer answers");
  say_rc("recv", recv(fd, buf, sizeof(buf), 0));
  say_rc("bind of a connected one", bind(fd, (struct sockaddr *)&conform.my_ip, sizeof(conform.my_ip)));
  say_rc("connect elsewhere", (closed.sin_port = htons(9), connect(fd, (struct sockaddr *)&closed, sizeof(closed))));
  say_rc("send to nobody", send(fd, "x", 1, 0));
  p.fd = fd;
  say_num("poll", poll(&p, 1, 20000));
  say_bits("its events", (unsigned)p.revents);
  say_num("SO_ERROR", dgram_number(fd, SOL_SOCKET, SO_ERROR));
  say_num("SO_ERROR again", dgram_number(fd, SOL_SOCKET, SO_ERROR));
  say_rc("send again", send(fd, "x", 1, 0));
  say_rc("recv is refused", recv(fd, buf, sizeof(buf), 0));
  say_rc("recv DONTWAIT after it", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
  say_rc("connect AF_UNSPEC", connect(fd, &unspec, sizeof(unspec)));
  dgram_name("getsockname dissolved", fd);
  say_rc("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
  say_rc("send dissolved", send(fd, "x", 1, 0));
  say_rc("sendto dissolved", sendto(fd, "abcd", 4, 0, (struct sockaddr *)&dgram_peer, sizeof(dgram_peer)));
  need(peer_do(PEER_UDP_ECHO, 1) == 4, "the peer answers");
  say_rc("recv", recv(fd, buf, sizeof(buf), 0));
  close(fd);
}

static void dgram_shutdown(void) {
  char buf[16];
  struct pollfd p = {.events = POLLIN | POLLOUT | POLLRDHUP};
  int fd = dgram_connected();
  say_rc("SHUT_WR", shutdown(fd, SHUT_WR));
  say_rc("send after it", send(fd, "x", 1, 0));
  say_rc("SHUT_RD", shutdown(fd, SHUT_RD));
  say_rc("recv after it", recv(fd, buf, sizeof(buf), 0));
  p.fd = fd;
  say_num("poll", poll(&p, 1, 0));
  say_bits("its events", (unsigned)p.revents);
  close(fd);
}

static void dgram_options(void) {
  struct ip_mreq m = {.imr_interface = conform.my_ip.sin_addr};
  int fd = dgram_socket();
  static char big[3000];
  say_rc("TCP_NODELAY", dgram_set(fd, IPPROTO_TCP, TCP_NODELAY, 1));
  say_num("SO_BROADCAST", dgram_number(fd, SOL_SOCKET, SO_BROADCAST));
  say_rc("SO_BROADCAST on", dgram_set(fd, SOL_SOCKET, SO_BROADCAST, 1));
  say_num("SO_BROADCAST now", dgram_number(fd, SOL_SOCKET, SO_BROADCAST));
  say_num("IP_MULTICAST_TTL", dgram_number(fd, IPPROTO_IP, IP_MULTICAST_TTL));
  say_num("IP_MULTICAST_LOOP", dgram_number(fd, IPPROTO_IP, IP_MULTICAST_LOOP));
  say_rc("IP_MULTICAST_TTL 256", dgram_set(fd, IPPROTO_IP, IP_MULTICAST_TTL, 256));
  say_num("IP_PKTINFO", dgram_number(fd, IPPROTO_IP, IP_PKTINFO));
  say_rc("IP_PKTINFO on", dgram_set(fd, IPPROTO_IP, IP_PKTINFO, 7));
  say_num("IP_PKTINFO now", dgram_number(fd, IPPROTO_IP, IP_PKTINFO));
  say_num("IP_TOS", dgram_number(fd, IPPROTO_IP, IP_TOS));
  say_rc("IP_TOS 0x2b", dgram_set(fd, IPPROTO_IP, IP_TOS, 0x2b));
  say_num("IP_TOS now", dgram_number(fd, IPPROTO_IP, IP_TOS));
  say_num("IP_TTL", dgram_number(fd, IPPROTO_IP, IP_TTL));
  say_num("UDP_SEGMENT", dgram_number(fd, IPPROTO_UDP, UDP_SEGMENT));
  say_rc("UDP_SEGMENT 70000", dgram_set(fd, IPPROTO_UDP, UDP_SEGMENT, 70000));
  inet_pton(AF_INET, "239.7.7.7", &m.imr_multiaddr);
  say_rc("drop a group that is not ours", setsockopt(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &m, sizeof(m)));
  say_rc("join", setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)));
  say_rc("join again", setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)));
  say_rc("drop", setsockopt(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &m, sizeof(m)));
  say_rc("drop again", setsockopt(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &m, sizeof(m)));
  m.imr_multiaddr = conform.peer_ip.sin_addr;
  say_rc("join no group", setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)));
  close(fd);
  fd = dgram_connected();
  say_rc("IP_MTU_DISCOVER do", dgram_set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO));
  say_rc("send of more than the MTU", send(fd, big, sizeof(big), 0));
  say_rc("IP_MTU_DISCOVER want", dgram_set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_WANT));
  say_rc("send of more than the MTU now", send(fd, big, sizeof(big), 0));
  need(peer_do(PEER_UDP_ECHO, 1) == (int64_t)sizeof(big), "the peer answers");
  close(fd);
}

static void dgram_epoll(void) {
  struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u64 = 7};
  int fd = dgram_connected(), ep = epoll_create1(0);
  char buf[8];
  say_rc("epoll add", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
  say_num("epoll at once", epoll_wait(ep, &ev, 1, 20000));
  say_bits("its events", ev.events);
  say_num("epoll, an edge once", epoll_wait(ep, &ev, 1, 0));
  need(send(fd, "12345", 5, 0) == 5 && peer_do(PEER_UDP_ECHO, 1) == 5, "the peer answers");
  say_num("epoll when something came", epoll_wait(ep, &ev, 1, 20000));
  say_num("EPOLLIN", (ev.events & EPOLLIN) != 0);
  say_rc("recv", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
  say_rc("recv no more", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
  close(ep);
  close(fd);
}

void check_dgram(void) {
  dgram_peer = conform.peer_ip;
  int64_t port = peer_do(PEER_UDP, 0);
  need(port > 0, "the peer's UDP socket");
  dgram_peer.sin_port = htons((uint16_t)port);
  dgram_fresh();
  dgram_bound();
  dgram_data();
  dgram_many();
  dgram_peers();
  dgram_shutdown();
  dgram_options();
  dgram_epoll();
}
