/*
 * Checks of calls that wait and what ends them: signals and their masks, time-outs, a close in another thread; many
 * connections at once, shared ports, exclusive members of epoll sets, the longest vectors.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#define WAITS_VECTORS 1024 /* IOV_MAX */
#define WAITS_STORM   48

/* --- vectors --- */

static void waits_vectors(void) {
  static uint8_t bytes[WAITS_VECTORS * 3];
  static struct iovec iov[WAITS_VECTORS + 1];
  int fd = subject_connected();
  for (size_t i = 0; i < sizeof(bytes); i++)
    bytes[i] = peer_pattern(i);
  for (size_t i = 0; i <= WAITS_VECTORS; i++)
    iov[i] = (struct iovec){bytes + (i % WAITS_VECTORS) * 3, 3};
  say_rc("writev of 1024", writev(fd, iov, WAITS_VECTORS));
  say_num("peer got it", peer_do(PEER_RECV, sizeof(bytes)));
  say_rc("writev of 1025", writev(fd, iov, WAITS_VECTORS + 1));
  say_rc("readv of 1025", readv(fd, iov, WAITS_VECTORS + 1));
  struct msghdr m = {.msg_iov = iov, .msg_iovlen = WAITS_VECTORS + 1};
  say_rc("sendmsg of 1025", sendmsg(fd, &m, 0));
  say_rc("recvmsg of 1025", recvmsg(fd, &m, 0));
  need(peer_do(PEER_SEND, sizeof(bytes)) == sizeof(bytes), "peer sends");
  while (recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_WAITALL) != (ssize_t)sizeof(bytes))
    subject_poll(fd, POLLIN, 50);
  memset(bytes, 0, sizeof(bytes));
  say_rc("readv of 1024", readv(fd, iov, WAITS_VECTORS));
  bool right = true;
  for (size_t i = 0; i < sizeof(bytes); i++)
    right = right && bytes[i] == peer_pattern(i);
  say_num("right", right);
  m.msg_iovlen = WAITS_VECTORS;
  say_rc("sendmsg of 1024", sendmsg(fd, &m, MSG_MORE));
  close(fd); /* what MSG_MORE held back goes first */
  peer_do(PEER_CLOSE, 0);
}

/* --- signals --- */

static volatile sig_atomic_t waits_signals;

static void waits_on_signal(int sig) {
  (void)sig;
  waits_signals++;
}

static void waits_handler(int flags) {
  struct sigaction sa = {.sa_handler = waits_on_signal, .sa_flags = flags};
  sigaction(SIGUSR1, &sa, NULL);
  waits_signals = 0;
}

struct waits_poke {
  pthread_t whom;
  _Atomic bool over; /* if wanted: signals again and again until it is */
  bool again;
  int64_t then_connect; /* the peer connects to this port after the signal */
};

static void *waits_poker(void *arg) {
  struct waits_poke *poke = arg;
  while (waits_signals == 0 || (poke->again && !poke->over)) {
    poll(NULL, 0, 30);
    pthread_kill(poke->whom, SIGUSR1);
  }
  poll(NULL, 0, 30);
  if (poke->then_connect > 0)
    peer_do(PEER_CONNECT, poke->then_connect);
  return NULL;
}

static void waits_interrupts(void) {
  uint16_t port;
  int fd, listener = subject_listener(&port);
  pthread_t thread;
  struct waits_poke poke = {.whom = pthread_self(), .again = true}; /* one may come before the call has begun */
  waits_handler(0);
  pthread_create(&thread, NULL, waits_poker, &poke);
  fd = accept(listener, NULL, NULL);
  poke.over = true;
  say_rc("accept interrupted", fd);
  pthread_join(thread, NULL);
  waits_handler(SA_RESTART);
  poke.again = false;
  poke.then_connect = ntohs(port);
  pthread_create(&thread, NULL, waits_poker, &poke);
  fd = accept(listener, NULL, NULL);
  say_num("accept restarted", fd >= 0);
  pthread_join(thread, NULL);
  poke.then_connect = 0;
  fd_set r;
  FD_ZERO(&r);
  FD_SET(fd, &r);
  struct timeval tv = {20, 0};
  waits_handler(SA_RESTART);
  poke.again = true;
  poke.over = false;
  pthread_create(&thread, NULL, waits_poker, &poke);
  int rc = select(fd + 1, &r, NULL, NULL, &tv);
  poke.over = true;
  say_rc("select is never restarted", rc);
  pthread_join(thread, NULL);
  size_t big = 64u << 20;
  char *lots = calloc(1, big);
  need(lots != NULL, "memory");
  waits_handler(SA_RESTART);
  poke.over = false;
  pthread_create(&thread, NULL, waits_poker, &poke);
  ssize_t n = send(fd, lots, big, 0);
  poke.over = true;
  say_num("send interrupted says how far it came", n > 0 && n < (ssize_t)big);
  pthread_join(thread, NULL);
  free(lots);
  struct linger l = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
  close(fd);
  close(listener);
  peer_do(PEER_CLOSE, 0);
  signal(SIGUSR1, SIG_DFL);
}

/* A signal that is pending behind the mask is let in by the call's own mask, and only by it. */
static void waits_masks(void) {
  int fd = subject_connected(), ep = epoll_create1(0);
  struct epoll_event ev = {.events = EPOLLIN};
  struct pollfd p = {.fd = fd, .events = POLLIN};
  struct timespec long_time = {20, 0};
  sigset_t usr1, none, before;
  sigemptyset(&none);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
  waits_handler(SA_RESTART);
  pthread_sigmask(SIG_BLOCK, &usr1, &before);
  pthread_kill(pthread_self(), SIGUSR1);
  say_rc("epoll_wait does not see it", epoll_wait(ep, &ev, 1, 30));
  say_num("no handler ran", waits_signals);
  say_rc("epoll_pwait with an empty mask", epoll_pwait(ep, &ev, 1, 20000, &none));
  say_num("the handler ran", waits_signals);
  pthread_kill(pthread_self(), SIGUSR1);
  say_rc("ppoll with an empty mask", ppoll(&p, 1, &long_time, &none));
  say_num("the handler ran", waits_signals);
  fd_set r;
  FD_ZERO(&r);
  FD_SET(fd, &r);
  pthread_kill(pthread_self(), SIGUSR1);
  say_rc("pselect with an empty mask", pselect(fd + 1, &r, NULL, NULL, &long_time, &none));
  say_num("the handler ran", waits_signals);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  signal(SIGUSR1, SIG_DFL);
  close(ep);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void waits_accept_times_out(void) {
  uint16_t port;
  int listener = subject_listener(&port);
  struct timeval tv = {0, 60000};
  say_rc("RCVTIMEO of a listener", setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
  say_rc("accept times out", accept(listener, NULL, NULL));
  need(peer_do(PEER_CONNECT, ntohs(port)) == 0, "peer connects");
  tv = (struct timeval){10, 0};
  setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
  int fd = accept(listener, NULL, NULL);
  say_num("accept in time", fd >= 0);
  close(fd);
  close(listener);
  peer_do(PEER_CLOSE, 0);
}

/* --- close while another thread waits --- */

struct waits_blocked {
  int fd;
  bool accepts;
  _Atomic pid_t tid;
  long rc;
  int err;
};

static void *waits_block(void *arg) {
  struct waits_blocked *b = arg;
  char c;
  b->tid = (pid_t)syscall(SYS_gettid);
  b->rc = b->accepts ? accept(b->fd, NULL, NULL) : recv(b->fd, &c, 1, 0);
  b->err = errno;
  return NULL;
}

/* Until the thread sleeps in its call. */
static void waits_until_asleep(struct waits_blocked *b) {
  char path[64], stat[512];
  for (;;) {
    poll(NULL, 0, 10);
    if (b->tid == 0)
      continue;
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)b->tid);
    FILE *f = fopen(path, "r");
    need(f != NULL, path);
    size_t n = fread(stat, 1, sizeof(stat) - 1, f);
    fclose(f);
    stat[n] = '\0';
    const char *after = strrchr(stat, ')');
    if (after != NULL && after[1] == ' ' && after[2] == 'S')
      return;
  }
}

/* The call that has begun goes on, as it holds the socket; the number is gone at once. */
static void waits_closes(void) {
  pthread_t thread;
  struct waits_blocked b = {.fd = subject_connected()};
  pthread_create(&thread, NULL, waits_block, &b);
  waits_until_asleep(&b);
  say_rc("close during recv", close(b.fd));
  say_rc("the number is gone", fcntl(b.fd, F_GETFD));
  need(peer_do(PEER_SEND, 1) == 1, "peer sends");
  pthread_join(thread, NULL);
  errno = b.err;
  say_rc("recv in another thread", b.rc);
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
  uint16_t port;
  b = (struct waits_blocked){.fd = subject_listener(&port), .accepts = true};
  pthread_create(&thread, NULL, waits_block, &b);
  waits_until_asleep(&b);
  say_rc("close during accept", close(b.fd));
  say_num("peer connects", peer_do(PEER_CONNECT, ntohs(port)));
  pthread_join(thread, NULL);
  say_num("accept in another thread", b.rc >= 0);
  if (b.rc >= 0)
    close((int)b.rc);
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
  say_num("then nobody listens", peer_do(PEER_CONNECT, ntohs(port)) == -ECONNREFUSED);
}

/* --- many at once --- */

/* As many connections as the queue takes; each says a byte of its own and gets it back. */
static void waits_storm(void) {
  uint16_t port;
  int listener = subject_listener(&port), fds[WAITS_STORM], n = 0;
  uint8_t word;
  need(listen(listener, 64) == 0, "a longer queue");
  say_num("peer connects", peer_do(PEER_STORM, (int64_t)WAITS_STORM << 16 | ntohs(port)));
  fcntl(listener, F_SETFL, O_NONBLOCK);
  while (n < WAITS_STORM && subject_poll(listener, POLLIN, 20000)) {
    int fd = accept4(listener, NULL, NULL, 0);
    if (fd >= 0)
      fds[n++] = fd;
  }
  say_num("accepted", n);
  say_rc("no more", accept(listener, NULL, NULL));
  for (int i = n - 1; i >= 0; i--) {
    if (recv(fds[i], &word, 1, 0) != 1 || send(fds[i], &word, 1, 0) != 1)
      say_num("a connection without its byte", i);
    close(fds[i]);
  }
  say_num("peer has each byte back and the end", peer_do(PEER_STORM_OVER, 0));
  close(listener);
}

static int waits_shared(struct sockaddr_in *a, int reuse) {
  int fd = subject_socket(SOCK_NONBLOCK);
  need(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &reuse, sizeof(reuse)) == 0, "SO_REUSEPORT");
  if (bind(fd, (struct sockaddr *)a, sizeof(*a)) < 0) {
    int err = errno;
    close(fd);
    errno = err;
    return -1;
  }
  return fd;
}

static void waits_shared_port(void) {
  struct sockaddr_in a = conform.my_ip;
  socklen_t len = sizeof(a);
  int one = waits_shared(&a, 1), none, got = 0;
  need(one >= 0 && getsockname(one, (struct sockaddr *)&a, &len) == 0, "bind");
  int two = waits_shared(&a, 1);
  say_num("two share a port", two >= 0);
  none = waits_shared(&a, 0);
  say_rc("one that does not share it", none);
  say_rc("listen", listen(one, 16));
  say_rc("listen on the other", listen(two, 16));
  arm_listener(one);
  arm_listener(two);
  say_num("peer connects", peer_do(PEER_STORM, (int64_t)8 << 16 | ntohs(a.sin_port)));
  struct pollfd p[2] = {{.fd = one, .events = POLLIN}, {.fd = two, .events = POLLIN}};
  while (got < 8 && poll(p, 2, 20000) > 0) {
    for (int i = 0; i < 2; i++) {
      int fd = accept(p[i].fd, NULL, NULL);
      uint8_t word;
      if (fd >= 0) {
        got += recv(fd, &word, 1, 0) == 1 && send(fd, &word, 1, 0) == 1;
        close(fd);
      }
    }
  }
  say_num("served by the two", got);
  say_num("peer has each byte back and the end", peer_do(PEER_STORM_OVER, 0));
  close(one);
  say_num("peer connects to the one that is left", peer_do(PEER_CONNECT, ntohs(a.sin_port)));
  say_bits("it is there", (unsigned)subject_poll(two, POLLIN, 20000));
  int fd = accept(two, NULL, NULL);
  say_num("accepted", fd >= 0);
  close(fd);
  close(two);
  peer_do(PEER_CLOSE, 0);
}

static long waits_add(int ep, int op, int fd, uint32_t events) {
  struct epoll_event ev = {.events = events};
  return epoll_ctl(ep, op, fd, &ev);
}

static void waits_exclusive(void) {
  uint16_t port;
  int listener = subject_listener(&port), one = epoll_create1(0), two = epoll_create1(0);
  struct epoll_event ev;
  say_rc("EXCLUSIVE", waits_add(one, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLEXCLUSIVE));
  say_rc("EXCLUSIVE, edge", waits_add(two, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE));
  say_rc("MOD to EXCLUSIVE", waits_add(one, EPOLL_CTL_MOD, listener, EPOLLIN | EPOLLEXCLUSIVE));
  say_rc("MOD of an exclusive member", waits_add(one, EPOLL_CTL_MOD, listener, EPOLLIN));
  int fd = subject_socket(0);
  say_rc("EXCLUSIVE and ONESHOT", waits_add(one, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT));
  say_rc("EXCLUSIVE and RDHUP", waits_add(one, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP));
  say_rc("EXCLUSIVE set in a set", waits_add(one, EPOLL_CTL_ADD, two, EPOLLIN | EPOLLEXCLUSIVE));
  close(fd);
  need(peer_do(PEER_CONNECT, ntohs(port)) == 0, "peer connects");
  subject_poll(listener, POLLIN, 20000);
  int seen = epoll_wait(one, &ev, 1, 20000);
  say_rc("it is seen", seen);
  fd = accept(listener, NULL, NULL);
  say_num("accepted", fd >= 0);
  say_rc("DEL", epoll_ctl(one, EPOLL_CTL_DEL, listener, NULL));
  say_rc("ADD as any other", waits_add(one, EPOLL_CTL_ADD, listener, EPOLLIN));
  say_rc("MOD", waits_add(one, EPOLL_CTL_MOD, listener, EPOLLIN | EPOLLONESHOT));
  close(fd);
  close(one);
  close(two);
  close(listener);
  peer_do(PEER_CLOSE, 0);
}

void check_waits(void) {
  waits_vectors();
  waits_interrupts();
  waits_masks();
  waits_accept_times_out();
  waits_closes();
  waits_storm();
  waits_shared_port();
  waits_exclusive();
}
