/*
 * Checks of sets in which descriptors of every kind are mixed: connections, datagrams and listeners of the stack beside
 * pipes, eventfds, timers, signals, unix sockets, loopback sockets of the kernel's; in epoll (level, edge, one-shot),
 * poll and select. And of many who accept from one listener at once: threads, then forked processes.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum mixes_kind {
  MIXES_STREAM,
  MIXES_DATAGRAMS,
  MIXES_LISTENER,
  MIXES_PIPE,
  MIXES_EVENT,
  MIXES_TIMER,
  MIXES_SIGNAL,
  MIXES_UNIX,
  MIXES_LOOP_STREAM,
  MIXES_LOOP_DATAGRAMS,
  MIXES_N,
};

static const char *const mixes_names[MIXES_N] = {"stream",       "datagrams",      "listener", "pipe",
                                                 "eventfd",      "timer",          "signal",   "unix socket",
                                                 "loop, stream", "loop, datagrams"};

struct mixes {
  int in[MIXES_N];  /* what is waited for; non-blocking */
  int out[MIXES_N]; /* what makes it readable, or -1 */
  uint16_t port[MIXES_N];
};

static uint16_t mixes_bind(int fd, struct sockaddr_in a) {
  socklen_t len = sizeof(a);
  need(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0, "bind");
  need(getsockname(fd, (struct sockaddr *)&a, &len) == 0, "getsockname");
  return ntohs(a.sin_port);
}

static void mixes_loop_pair(int fds[2]) {
  struct sockaddr_in lo = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int listener = subject_socket(0);
  fds[1] = subject_socket(0);
  lo.sin_port = htons(mixes_bind(listener, lo));
  need(listen(listener, 1) == 0 && connect(fds[1], (struct sockaddr *)&lo, sizeof(lo)) == 0, "loopback");
  fds[0] = accept(listener, NULL, NULL);
  need(fds[0] >= 0, "accept");
  close(listener);
}

static void mixes_open(struct mixes *m) {
  struct sockaddr_in lo = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  sigset_t usr2;
  int fds[2];
  memset(m->out, -1, sizeof(m->out));
  m->in[MIXES_STREAM] = subject_connected();
  m->in[MIXES_DATAGRAMS] = socket(AF_INET, SOCK_DGRAM, 0);
  m->port[MIXES_DATAGRAMS] = mixes_bind(m->in[MIXES_DATAGRAMS], conform.my_ip);
  need(peer_do(PEER_UDP, 0) > 0, "peer's datagrams");
  m->in[MIXES_LISTENER] = subject_listener(&m->port[MIXES_LISTENER]);
  m->port[MIXES_LISTENER] = ntohs(m->port[MIXES_LISTENER]);
  need(pipe(fds) == 0, "pipe");
  m->in[MIXES_PIPE] = fds[0];
  m->out[MIXES_PIPE] = fds[1];
  m->in[MIXES_EVENT] = eventfd(0, 0);
  m->in[MIXES_TIMER] = timerfd_create(CLOCK_MONOTONIC, 0);
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &usr2, NULL);
  m->in[MIXES_SIGNAL] = signalfd(-1, &usr2, 0);
  need(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socketpair");
  m->in[MIXES_UNIX] = fds[0];
  m->out[MIXES_UNIX] = fds[1];
  mixes_loop_pair(fds);
  m->in[MIXES_LOOP_STREAM] = fds[0];
  m->out[MIXES_LOOP_STREAM] = fds[1];
  m->in[MIXES_LOOP_DATAGRAMS] = socket(AF_INET, SOCK_DGRAM, 0);
  m->port[MIXES_LOOP_DATAGRAMS] = mixes_bind(m->in[MIXES_LOOP_DATAGRAMS], lo);
  m->out[MIXES_LOOP_DATAGRAMS] = socket(AF_INET, SOCK_DGRAM, 0);
  lo.sin_port = htons(m->port[MIXES_LOOP_DATAGRAMS]);
  need(connect(m->out[MIXES_LOOP_DATAGRAMS], (struct sockaddr *)&lo, sizeof(lo)) == 0, "loopback datagrams");
  for (int i = 0; i < MIXES_N; i++)
    need(m->in[i] >= 0 && fcntl(m->in[i], F_SETFL, O_NONBLOCK) == 0, mixes_names[i]);
}

static void mixes_close(struct mixes *m) {
  sigset_t usr2;
  for (int i = 0; i < MIXES_N; i++) {
    close(m->in[i]);
    if (m->out[i] >= 0)
      close(m->out[i]);
  }
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  pthread_sigmask(SIG_UNBLOCK, &usr2, NULL);
  peer_do(PEER_CLOSE, 0);
}

/* Makes one of them readable. */
static void mixes_poke(struct mixes *m, int kind) {
  struct itimerspec soon = {.it_value.tv_nsec = 1};
  uint64_t one = 1;
  switch (kind) {
  case MIXES_STREAM:
    need(peer_do(PEER_SEND, 1) == 1, "peer sends");
    break;
  case MIXES_DATAGRAMS:
    need(peer_do(PEER_UDP_SEND, 1 << 16 | m->port[kind]) == 1, "peer sends a datagram");
    break;
  case MIXES_LISTENER:
    need(peer_do(PEER_STORM, 1 << 16 | m->port[kind]) == 1, "peer connects");
    break;
  case MIXES_EVENT:
    need(write(m->in[kind], &one, sizeof(one)) == sizeof(one), "eventfd");
    break;
  case MIXES_TIMER:
    need(timerfd_settime(m->in[kind], 0, &soon, NULL) == 0, "timer");
    break;
  case MIXES_SIGNAL:
    need(kill(getpid(), SIGUSR2) == 0, "signal");
    break;
  default:
    need(write(m->out[kind], "x", 1) == 1, mixes_names[kind]);
  }
}

/* Reads what the poke brought, and that nothing is left. */
static void mixes_drain(struct mixes *m, int kind) {
  char buf[256];
  if (kind == MIXES_LISTENER) {
    int fd = accept(m->in[kind], NULL, NULL);
    need(fd >= 0 && recv(fd, buf, 1, 0) == 1 && send(fd, buf, 1, 0) == 1, "one that was accepted");
    close(fd);
    need(peer_do(PEER_STORM_OVER, 0) == 1, "its byte comes back");
    need(accept(m->in[kind], NULL, NULL) < 0 && errno == EAGAIN, "no other");
    return;
  }
  need(read(m->in[kind], buf, sizeof(buf)) > 0, mixes_names[kind]);
  need(read(m->in[kind], buf, sizeof(buf)) < 0 && errno == EAGAIN, mixes_names[kind]);
}

struct mixes_set {
  const char *name;
  uint32_t events; /* epoll's; 0: poll or select */
  bool selects;
  int ep;
};

static void mixes_enter(struct mixes_set *set, struct mixes *m) {
  if (set->events == 0)
    return;
  set->ep = epoll_create1(0);
  for (uint32_t i = 0; i < MIXES_N; i++) {
    struct epoll_event ev = {.events = set->events, .data.u32 = i};
    need(epoll_ctl(set->ep, EPOLL_CTL_ADD, m->in[i], &ev) == 0, "ADD");
  }
}

/* What was told is read; a one-shot member is told of again. */
static void mixes_again(struct mixes_set *set, struct mixes *m, int kind) {
  struct epoll_event again = {.events = set->events, .data.u32 = (uint32_t)kind};
  mixes_drain(m, kind);
  if (set->events & EPOLLONESHOT)
    need(epoll_ctl(set->ep, EPOLL_CTL_MOD, m->in[kind], &again) == 0, "MOD");
}

/* One call; the readable ones as bits. */
static unsigned mixes_wait(struct mixes_set *set, struct mixes *m, int timeout_ms) {
  unsigned bits = 0;
  if (set->events != 0) {
    struct epoll_event ev[2 * MIXES_N]; /* each side of a mixed set has half of the room: vcl/ldp/GAPS.md */
    int n = epoll_wait(set->ep, ev, 2 * MIXES_N, timeout_ms);
    for (int i = 0; i < n; i++)
      bits |= ev[i].events == EPOLLIN ? 1u << ev[i].data.u32 : 1u << 31;
    return bits;
  }
  struct pollfd p[MIXES_N];
  struct timeval tv = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
  fd_set r;
  int top = 0;
  FD_ZERO(&r);
  for (int i = 0; i < MIXES_N; i++) {
    p[i] = (struct pollfd){.fd = m->in[i], .events = POLLIN};
    FD_SET(m->in[i], &r);
    top = m->in[i] > top ? m->in[i] : top;
  }
  int rc = set->selects ? select(top + 1, &r, NULL, NULL, &tv) : poll(p, MIXES_N, timeout_ms);
  for (int i = 0; i < MIXES_N && rc > 0; i++)
    bits |= (set->selects ? FD_ISSET(m->in[i], &r) != 0 : p[i].revents == POLLIN) ? 1u << i : 0;
  return bits;
}

struct mixes_poker {
  struct mixes *m;
  int kind;
};

static void *mixes_poke_later(void *arg) {
  struct mixes_poker *p = arg;
  (void)poll(NULL, 0, 10); /* so that it is slept for as a rule; the answer is the same if not */
  mixes_poke(p->m, p->kind);
  return NULL;
}

static void mixes_kinds(struct mixes_set set) {
  struct mixes m;
  mixes_open(&m);
  mixes_enter(&set, &m);
  printf("%s of all kinds\n", set.name);
  say_bits("none", mixes_wait(&set, &m, 0));
  for (int i = 0; i < MIXES_N; i++) {
    pthread_t thread;
    struct mixes_poker poker = {&m, i};
    pthread_create(&thread, NULL, mixes_poke_later, &poker);
    unsigned bits = 0;
    for (int k = 0; k < 20 && bits == 0; k++)
      bits = mixes_wait(&set, &m, 1000);
    pthread_join(thread, NULL);
    say_bits(mixes_names[i], bits);
    if (set.events & EPOLLONESHOT)
      say_bits("once", mixes_wait(&set, &m, 0));
    mixes_again(&set, &m, i);
    say_bits("then none", mixes_wait(&set, &m, 0));
  }
  for (int i = 0; i < MIXES_N; i++) {
    mixes_poke(&m, i);
    need(subject_poll(m.in[i], POLLIN, 20000) == POLLIN, mixes_names[i]);
  }
  say_bits("all at once", mixes_wait(&set, &m, 20000));
  for (int i = 0; i < MIXES_N; i++)
    mixes_again(&set, &m, i);
  say_bits("then none", mixes_wait(&set, &m, 0));
  if (set.events != 0)
    close(set.ep);
  mixes_close(&m);
}

/* --- many accept --- */

#define MIXES_STORM     48
#define MIXES_ACCEPTORS 4

struct mixes_acceptor {
  int listener;
  int served;
};

static bool mixes_serve(int listener) {
  uint8_t word;
  int fd = accept(listener, NULL, NULL);
  if (fd < 0)
    return false;
  bool good = recv(fd, &word, 1, 0) == 1 && send(fd, &word, 1, MSG_NOSIGNAL) == 1;
  close(fd);
  return good;
}

static void *mixes_accept(void *arg) {
  struct mixes_acceptor *a = arg;
  while (mixes_serve(a->listener))
    a->served++;
  return NULL;
}

static int mixes_storm_listener(uint16_t *port) {
  int listener = subject_listener(port);
  need(listen(listener, 64) == 0, "a longer queue");
  *port = ntohs(*port);
  return listener;
}

static void mixes_storm(uint16_t port) {
  for (int i = 0; i < 2; i++) {
    say_num("peer connects", peer_do(PEER_STORM, (int64_t)MIXES_STORM << 16 | port));
    say_num("peer has each byte back and the end", peer_do(PEER_STORM_OVER, 0));
  }
}

static void mixes_threads_accept(void) {
  uint16_t port;
  int listener = mixes_storm_listener(&port), served = 0;
  pthread_t threads[MIXES_ACCEPTORS];
  struct mixes_acceptor a[MIXES_ACCEPTORS];
  for (int i = 0; i < MIXES_ACCEPTORS; i++) {
    a[i] = (struct mixes_acceptor){.listener = listener};
    pthread_create(&threads[i], NULL, mixes_accept, &a[i]);
  }
  mixes_storm(port);
  shutdown(listener, SHUT_RDWR);
  for (int i = 0; i < MIXES_ACCEPTORS; i++) {
    pthread_join(threads[i], NULL);
    served += a[i].served;
  }
  say_num("the threads served", served);
  close(listener);
}

static void mixes_processes_accept(void) {
  uint16_t port;
  int listener = mixes_storm_listener(&port);
  pid_t pids[MIXES_ACCEPTORS];
  for (int i = 0; i < MIXES_ACCEPTORS; i++) {
    pids[i] = fork();
    if (pids[i] == 0) {
      while (mixes_serve(listener))
        ;
      _exit(1);
    }
  }
  mixes_storm(port);
  for (int i = 0; i < MIXES_ACCEPTORS; i++) {
    int status;
    kill(pids[i], SIGTERM);
    need(waitpid(pids[i], &status, 0) == pids[i], "waitpid");
    say_num("a process that still accepted", WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
  }
  close(listener);
}

void check_mixes(void) {
  mixes_processes_accept(); /* first: a process that has had threads does not leave a listener to its children */
  mixes_kinds((struct mixes_set){.name = "epoll, level", .events = EPOLLIN});
  mixes_kinds((struct mixes_set){.name = "epoll, edge", .events = EPOLLIN | EPOLLET});
  mixes_kinds((struct mixes_set){.name = "epoll, one-shot", .events = EPOLLIN | EPOLLONESHOT});
  mixes_kinds((struct mixes_set){.name = "poll"});
  mixes_kinds((struct mixes_set){.name = "select", .selects = true});
  mixes_threads_accept();
}
