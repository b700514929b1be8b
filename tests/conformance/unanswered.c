/*
 * Connects that nobody answers: 192.0.2.1 is routed to the peer's host, which drops what goes there without a word
 * (test_conformance.py). Time-outs, signals, second calls while the first is under way, giving up.
 */
#include "conform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t unanswered_signals;

static void unanswered_on_signal(int sig) {
  (void)sig;
  unanswered_signals++;
}

static void unanswered_handler(int flags) {
  struct sigaction sa = {.sa_handler = unanswered_on_signal, .sa_flags = flags};
  sigaction(SIGUSR1, &sa, NULL);
  unanswered_signals = 0;
}

struct unanswered_poke {
  pthread_t whom;
  volatile sig_atomic_t over;
};

/* Signals the other thread until its call is over: a signal that comes before the call is of no use. */
static void *unanswered_poker(void *arg) {
  struct unanswered_poke *poke = arg;
  while (!poke->over) {
    poll(NULL, 0, 30);
    pthread_kill(poke->whom, SIGUSR1);
  }
  return NULL;
}

static struct sockaddr_in unanswered_address(void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9)};
  need(inet_pton(AF_INET, "192.0.2.1", &a.sin_addr) == 1, "an address");
  return a;
}

static void unanswered_timeo(int fd, long ms) {
  struct timeval tv = {ms / 1000, ms % 1000 * 1000};
  need(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0, "SO_SNDTIMEO");
}

static void unanswered_connect(const char *what, int fd) {
  struct sockaddr_in to = unanswered_address();
  say_rc(what, connect(fd, (struct sockaddr *)&to, sizeof(to)));
}

static void unanswered_poked(const char *what, int fd) {
  struct unanswered_poke poke = {pthread_self(), 0};
  pthread_t thread;
  need(pthread_create(&thread, NULL, unanswered_poker, &poke) == 0, "thread");
  unanswered_connect(what, fd);
  poke.over = 1;
  pthread_join(thread, NULL);
}

static void unanswered_state(int fd) {
  struct sockaddr_in a;
  socklen_t len = sizeof(a);
  char c = 0;
  int err = -1;
  say_bits("poll", (unsigned)subject_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
  say_rc("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
  say_rc("recv", recv(fd, &c, 1, MSG_DONTWAIT));
  say_rc("send", send(fd, &c, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
  len = sizeof(err);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
  say_num("ERROR", err);
}

static void unanswered_times_out(void) {
  int fd = subject_socket(0);
  unanswered_timeo(fd, 60);
  unanswered_connect("connect with SO_SNDTIMEO", fd);
  unanswered_connect("connect again", fd);
  unanswered_state(fd);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  unanswered_connect("connect again, non-blocking", fd);
  say_rc("close", close(fd));
}

static void unanswered_interrupted(void) {
  int fd = subject_socket(0);
  unanswered_handler(0);
  unanswered_poked("connect interrupted", fd);
  unanswered_poked("connect again, interrupted", fd);
  unanswered_handler(SA_RESTART);
  unanswered_timeo(fd, 600000);
  unanswered_poked("connect with SO_SNDTIMEO is never restarted", fd);
  unanswered_state(fd);
  say_rc("close", close(fd));
}

/* Without a time-out it is restarted, signal after signal, until the stack itself gives up: with one repetition of the
 * SYN, after three seconds. */
static void unanswered_restarted(void) {
  int fd = subject_socket(0), one = 1;
  need(setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &one, sizeof(one)) == 0, "TCP_SYNCNT");
  unanswered_handler(SA_RESTART);
  unanswered_poked("connect restarted", fd);
  say_rc("close", close(fd));
}

/* Given up by AF_UNSPEC; then the socket is as new. */
static void unanswered_given_up(void) {
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  struct sockaddr_in to = conform.peer_ip;
  int fd = subject_socket(SOCK_NONBLOCK);
  unanswered_connect("connect, non-blocking", fd);
  unanswered_connect("connect, non-blocking, again", fd);
  say_rc("connect to nobody", connect(fd, &none, sizeof(none)));
  int64_t port = peer_do(PEER_LISTEN, 8);
  need(port > 0, "peer listens");
  to.sin_port = htons((uint16_t)port);
  fcntl(fd, F_SETFL, 0);
  say_rc("connect elsewhere", connect(fd, (struct sockaddr *)&to, sizeof(to)));
  need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

void check_unanswered(void) {
  unanswered_times_out();
  unanswered_interrupted();
  unanswered_restarted();
  unanswered_given_up();
}
