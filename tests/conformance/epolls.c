/*
 * Checks of epoll: level, edge, one-shot, MOD and DEL, mixed sets, sets inside poll, sockets that move or close.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static unsigned epolls_wait(int ep, int timeout_ms, uint64_t *data) {
  struct epoll_event ev = {0};
  int n = epoll_wait(ep, &ev, 1, timeout_ms);
  if (data)
    *data = n > 0 ? ev.data.u64 : 0;
  return n > 0 ? ev.events : 0;
}

static int epolls_ctl(int ep, int op, int fd, uint32_t events, uint64_t data) {
  struct epoll_event ev = {.events = events, .data.u64 = data};
  return epoll_ctl(ep, op, fd, &ev);
}

static void epolls_control(void) {
  int fd = subject_connected(), ep = epoll_create1(EPOLL_CLOEXEC);
  say_num("create CLOEXEC", fcntl(ep, F_GETFD));
  say_rc("create 0", epoll_create(0));
  say_rc("ADD", epolls_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 77));
  say_rc("ADD again", epolls_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 77));
  say_rc("bad op", epolls_ctl(ep, 9, fd, EPOLLIN, 77));
  say_rc("no event", epoll_ctl(ep, EPOLL_CTL_MOD, fd, NULL));
  say_bits("nothing", epolls_wait(ep, 0, NULL));
  say_rc("MOD", epolls_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLOUT, 0x123456789abcdef0u));
  uint64_t data;
  say_bits("writable", epolls_wait(ep, 5000, &data));
  say_num("data comes back", data == 0x123456789abcdef0u);
  say_rc("DEL with no event", epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
  say_rc("DEL again", epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
  say_rc("MOD of no member", epolls_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 1));
  say_bits("nothing after DEL", epolls_wait(ep, 0, NULL));
  say_rc("socket as a set", epolls_ctl(fd, EPOLL_CTL_ADD, ep, EPOLLIN, 1));
  struct epoll_event ev;
  say_rc("wait on a socket", epoll_wait(fd, &ev, 1, 0));
  say_rc("wait for 0 events", epoll_wait(ep, &ev, 0, 0));
  close(ep);
  say_rc("ADD to a closed set", epolls_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void epolls_levels(void) {
  int fd = subject_connected(), ep = epoll_create1(0);
  char buf[16];
  epolls_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, 1);
  need(peer_do(PEER_SEND, 4) == 4, "peer sends");
  say_bits("LT first", epolls_wait(ep, 5000, NULL));
  say_bits("LT again", epolls_wait(ep, 0, NULL));
  recv(fd, buf, 2, 0);
  say_bits("LT after a part", epolls_wait(ep, 0, NULL));
  recv(fd, buf, 16, 0);
  say_bits("LT drained", epolls_wait(ep, 0, NULL));
  epolls_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | EPOLLET, 1);
  say_bits("ET after MOD", epolls_wait(ep, 5000, NULL));
  say_bits("ET silent", epolls_wait(ep, 0, NULL));
  need(peer_do(PEER_SEND, 4) == 4, "peer sends");
  say_bits("ET data", epolls_wait(ep, 5000, NULL));
  say_bits("ET data silent", epolls_wait(ep, 0, NULL));
  need(peer_do(PEER_SEND, 4) == 4, "peer sends");
  say_bits("ET more data", epolls_wait(ep, 5000, NULL));
  epolls_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 1);
  say_bits("ONESHOT", epolls_wait(ep, 5000, NULL));
  say_bits("ONESHOT silent", epolls_wait(ep, 0, NULL));
  need(peer_do(PEER_SEND, 1) == 1, "peer sends");
  say_bits("ONESHOT silent with more", epolls_wait(ep, 50, NULL));
  epolls_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 1);
  say_bits("ONESHOT armed anew", epolls_wait(ep, 5000, NULL));
  epolls_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP, 1);
  recv(fd, buf, 16, MSG_DONTWAIT);
  need(peer_do(PEER_SHUT_WR, 0) == 0, "peer ends");
  say_bits("RDHUP", epolls_wait(ep, 5000, NULL));
  shutdown(fd, SHUT_WR);
  say_bits("HUP", epolls_wait(ep, 5000, NULL));
  close(fd);
  say_bits("closed socket is no member", epolls_wait(ep, 0, NULL));
  peer_do(PEER_CLOSE, 0);
  fd = subject_connected();
  epolls_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
  need(peer_do(PEER_RESET, 0) == 0, "peer resets");
  say_bits("reset", epolls_wait(ep, 5000, NULL));
  close(fd);
  close(ep);
}

static void epolls_mixed(void) {
  int fd = subject_connected(), ep = epoll_create1(0), p[2];
  struct epoll_event ev[4];
  need(pipe(p) == 0, "pipe");
  say_rc("ADD pipe", epolls_ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 10));
  say_rc("ADD socket", epolls_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 20));
  say_rc("neither", epoll_wait(ep, ev, 4, 30));
  need(write(p[1], "x", 1) == 1, "write");
  say_rc("pipe alone", epoll_wait(ep, ev, 4, 20000));
  say_num("it is the pipe", (long)ev[0].data.u64);
  need(peer_do(PEER_SEND, 1) == 1, "peer sends");
  subject_poll(fd, POLLIN, 20000);
  say_rc("both", epoll_wait(ep, ev, 4, 20000));
  int seen = 0;
  for (int i = 0; i < 20; i++) { /* room for one: neither side starves */
    if (epoll_wait(ep, ev, 1, 20000) == 1)
      seen |= ev[0].data.u64 == 10 ? 1 : 2;
  }
  say_num("one at a time shows both", seen);
  char c;
  need(read(p[0], &c, 1) == 1, "read");
  say_rc("socket alone", epoll_wait(ep, ev, 4, 20000));
  say_num("it is the socket", (long)ev[0].data.u64);
  struct pollfd v = {.fd = ep, .events = POLLIN};
  say_rc("the set in poll", poll(&v, 1, 0));
  recv(fd, &c, 1, 0);
  say_rc("the set in poll, drained", poll(&v, 1, 0));
  need(peer_do(PEER_SEND, 1) == 1, "peer sends");
  say_rc("the set in poll, woken", poll(&v, 1, 20000));
  close(p[0]);
  close(p[1]);
  close(ep);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

/* What servers and clients do: listener in a set; connect after ADD; a member that turns out to be the kernel's. */
static void epolls_uses(void) {
  uint16_t port;
  int listener = subject_listener(&port), ep = epoll_create1(0);
  fcntl(listener, F_SETFL, O_NONBLOCK);
  epolls_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN, 1);
  say_bits("listener idle", epolls_wait(ep, 0, NULL));
  need(peer_do(PEER_CONNECT, ntohs(port)) == 0, "peer connects");
  say_bits("listener ready", epolls_wait(ep, 5000, NULL));
  int fd = accept(listener, NULL, NULL);
  say_num("accepted", fd >= 0);
  say_bits("listener drained", epolls_wait(ep, 0, NULL));
  close(fd);
  close(listener);
  int64_t at = peer_do(PEER_LISTEN, 4);
  struct sockaddr_in to = conform.peer_ip;
  to.sin_port = htons((uint16_t)at);
  fd = subject_socket(SOCK_NONBLOCK);
  say_rc("ADD before connect", epolls_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET, 2));
  int rc = connect(fd, (struct sockaddr *)&to, sizeof(to));
  need(rc == 0 || errno == EINPROGRESS, "connect");
  unsigned bits = 0;
  for (int i = 0; i < 5 && (bits & (EPOLLOUT | EPOLLHUP)) != EPOLLOUT; i++)
    bits = epolls_wait(ep, 2000, NULL);
  say_bits("connected", bits);
  need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  close(fd);
  peer_do(PEER_CLOSE, 0);
  struct sockaddr_in lo = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof(lo);
  listener = subject_socket(0);
  bind(listener, (struct sockaddr *)&lo, sizeof(lo));
  listen(listener, 1);
  getsockname(listener, (struct sockaddr *)&lo, &len);
  fd = subject_socket(SOCK_NONBLOCK);
  epolls_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 3);
  rc = connect(fd, (struct sockaddr *)&lo, sizeof(lo));
  int got = accept(listener, NULL, NULL);
  need(write(got, "x", 1) == 1, "write");
  uint64_t data;
  do
    bits = epolls_wait(ep, 5000, &data);
  while (bits & EPOLLHUP);
  say_bits("member that moved to the kernel", bits);
  say_num("its data", (long)data);
  close(got);
  close(listener);
  close(fd);
  close(ep);
}

/* A set inside a set: the outer one is a kernel set that knows nothing of what is in the inner one. */
static void epolls_nested(void) {
  int fd = subject_connected(), inner = epoll_create1(0), outer = epoll_create1(0);
  char c;
  need(peer_do(PEER_SEND, 1) == 1 && recv(fd, &c, 1, 0) == 1,
       "a byte"); /* with it all of the handshake has been told */
  say_rc("ADD the set to a set", epolls_ctl(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 5));
  say_rc("ADD the socket to the inner set", epolls_ctl(inner, EPOLL_CTL_ADD, fd, EPOLLIN, 6));
  for (int i = 0; i < 200 && epolls_wait(outer, 30, NULL) != 0; i++)
    (void)epolls_wait(inner, 0, NULL); /* the byte's bell, if it comes after the byte was read: vcl/ldp/GAPS.md */
  say_bits("outer idle", epolls_wait(outer, 30, NULL));
  for (int i = 0; i < 3; i++) {
    need(peer_do(PEER_SEND, 1) == 1, "peer sends");
    uint64_t data;
    say_bits("outer is woken", epolls_wait(outer, 5000, &data));
    say_num("by the inner one", (long)data);
    say_bits("outer stays ready", epolls_wait(outer, 0, NULL));
    say_bits("inner has the socket", epolls_wait(inner, 0, &data));
    say_num("its data", (long)data);
    recv(fd, &c, 1, 0);
    say_bits("inner drained", epolls_wait(inner, 0, NULL));
    say_bits("outer drained", epolls_wait(outer, 0, NULL));
  }
  close(inner);
  say_bits("inner closed", epolls_wait(outer, 0, NULL));
  close(outer);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

struct epolls_waiter {
  int ep;
  unsigned events;
};

static void *epolls_thread(void *arg) {
  struct epolls_waiter *w = arg;
  w->events = epolls_wait(w->ep, 10000, NULL);
  return NULL;
}

/* Three threads wait in one set; three one-shot members become ready one after the other. */
static void epolls_threads(void) {
  int ep = epoll_create1(0), fds[3];
  pthread_t threads[3];
  struct epolls_waiter waiters[3] = {{.ep = ep}, {.ep = ep}, {.ep = ep}};
  for (int i = 0; i < 3; i++) {
    fds[i] = subject_socket(SOCK_NONBLOCK);
    int64_t port = peer_do(PEER_LISTEN, 4);
    struct sockaddr_in to = conform.peer_ip;
    to.sin_port = htons((uint16_t)port);
    pthread_create(&threads[i], NULL, epolls_thread, &waiters[i]);
    int rc = connect(fds[i], (struct sockaddr *)&to, sizeof(to));
    need(rc == 0 || errno == EINPROGRESS, "connect");
    epolls_ctl(ep, EPOLL_CTL_ADD, fds[i], EPOLLOUT | EPOLLONESHOT, (uint64_t)i);
    need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  }
  int seen = 0;
  for (int i = 0; i < 3; i++) {
    pthread_join(threads[i], NULL);
    seen += waiters[i].events == EPOLLOUT;
  }
  for (int i = 0; i < 3; i++) /* not before: which member woke which thread is open, and a closed one wakes nobody */
    close(fds[i]);
  say_num("each thread got one", seen);
  close(ep);
  peer_do(PEER_CLOSE, 0);
}

/* Two threads wait in an empty set; a socket joins it whose bytes came before, and nothing more comes. */
static void epolls_joined(void) {
  int fd = subject_connected(), ep = epoll_create1(0), seen = 0;
  pthread_t threads[2];
  struct epolls_waiter waiters[2] = {{.ep = ep}, {.ep = ep}};
  need(peer_do(PEER_SEND, 4) == 4, "peer sends");
  struct pollfd p = {.fd = fd, .events = POLLIN};
  need(poll(&p, 1, 20000) == 1, "they come");
  for (int i = 0; i < 2; i++)
    pthread_create(&threads[i], NULL, epolls_thread, &waiters[i]);
  (void)poll(NULL, 0, 30); /* so that they sleep as a rule: what they are told is the same if they do not */
  epolls_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
  for (int i = 0; i < 2; i++) {
    pthread_join(threads[i], NULL);
    seen += waiters[i].events == EPOLLIN;
  }
  say_num("both that wait in an empty set hear of what joins it", seen);
  close(ep);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

void check_epoll(void) {
  epolls_control();
  epolls_levels();
  epolls_mixed();
  epolls_uses();
  epolls_nested();
  epolls_threads();
  epolls_joined();
}
