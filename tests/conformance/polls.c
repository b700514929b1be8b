/*
 * Checks of poll and select, also with kernel descriptors in the same call.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long polls_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (long)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

static void polls_bits(void) {
  int fd = subject_connected();
  say_bits("idle", (unsigned)subject_poll(fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0));
  say_bits("normal bands", (unsigned)subject_poll(fd, POLLRDNORM | POLLWRNORM, 0));
  long start = polls_ms();
  say_bits("nothing comes", (unsigned)subject_poll(fd, POLLIN, 60));
  say_num("after the time-out", polls_ms() - start >= 59);
  need(peer_do(PEER_SEND, 3) == 3, "peer sends");
  say_bits("data", (unsigned)subject_poll(fd, POLLIN | POLLRDHUP, 20000));
  say_bits("data, asked for OUT", (unsigned)subject_poll(fd, POLLOUT, 0));
  need(peer_do(PEER_SHUT_WR, 0) == 0, "peer ends");
  say_bits("data and end", (unsigned)subject_poll(fd, POLLRDHUP, 20000));
  char buf[8];
  recv(fd, buf, 8, 0);
  say_bits("end", (unsigned)subject_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
  shutdown(fd, SHUT_WR);
  say_bits("both ends", (unsigned)subject_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
  say_bits("both ends, asked for nothing", (unsigned)subject_poll(fd, 0, 0));
  close(fd);
  say_bits("closed number", (unsigned)subject_poll(fd, POLLIN, 0));
  peer_do(PEER_CLOSE, 0);
}

static void polls_mixed(void) {
  int fd = subject_connected(), p[2];
  need(pipe(p) == 0, "pipe");
  struct pollfd v[4] = {{.fd = p[0], .events = POLLIN},
                        {.fd = fd, .events = POLLIN},
                        {.fd = -1, .events = POLLIN},
                        {.fd = p[1], .events = POLLOUT}};
  say_rc("pipe and socket, nothing but room", poll(v, 4, 0));
  say_rc("pipe and socket, nothing", poll(v, 3, 30));
  need(write(p[1], "x", 1) == 1, "write");
  say_rc("pipe ready", poll(v, 3, 20000));
  say_bits("pipe", (unsigned)v[0].revents);
  need(peer_do(PEER_SEND, 3) == 3, "peer sends");
  v[0].events = 0;
  say_rc("socket ready", poll(v, 3, 20000));
  v[0].events = POLLIN;
  say_rc("both", poll(v, 3, 20000));
  say_bits("pipe", (unsigned)v[0].revents);
  say_bits("socket", (unsigned)v[1].revents);
  struct timespec ts = {0, 0};
  sigset_t none;
  sigemptyset(&none);
  say_rc("ppoll", ppoll(v, 3, &ts, &none));
  ts.tv_nsec = 2000000000;
  say_rc("ppoll bad time", ppoll(v, 3, &ts, NULL));
  v[1].fd = 987;
  say_rc("an unknown number", poll(v, 3, 0));
  say_bits("unknown", (unsigned)v[1].revents);
  close(p[0]);
  close(p[1]);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void polls_select(void) {
  int fd = subject_connected(), p[2];
  need(pipe(p) == 0, "pipe");
  int top = (fd > p[1] ? fd : p[1]) + 1;
  fd_set r, w;
  struct timeval tv = {0, 40000};
  FD_ZERO(&r);
  FD_SET(fd, &r);
  FD_SET(p[0], &r);
  say_rc("select, nothing", select(top, &r, NULL, NULL, &tv));
  say_num("sets are empty", !FD_ISSET(fd, &r) && !FD_ISSET(p[0], &r));
  say_num("time is used up", tv.tv_sec == 0 && tv.tv_usec == 0);
  need(peer_do(PEER_SEND, 3) == 3, "peer sends");
  subject_poll(fd, POLLIN, 20000);
  FD_ZERO(&r);
  FD_ZERO(&w);
  FD_SET(fd, &r);
  FD_SET(fd, &w);
  FD_SET(p[0], &r);
  tv = (struct timeval){5, 0};
  say_rc("select, readable and writable", select(top, &r, &w, NULL, &tv));
  say_num("socket readable", FD_ISSET(fd, &r) != 0);
  say_num("socket writable", FD_ISSET(fd, &w) != 0);
  say_num("pipe not", FD_ISSET(p[0], &r) != 0);
  say_num("time is left", tv.tv_sec >= 3);
  need(write(p[1], "x", 1) == 1, "write");
  FD_SET(p[0], &r);
  struct timespec ts = {5, 0};
  say_rc("pselect, both readable", pselect(top, &r, NULL, NULL, &ts, NULL));
  tv = (struct timeval){-1, 0};
  say_rc("select bad time", select(top, &r, NULL, NULL, &tv));
  int closed = dup(fd);
  close(closed);
  FD_ZERO(&r);
  FD_SET(fd, &r);
  FD_SET(closed, &r);
  say_rc("select with a closed number", select(closed + 1, &r, NULL, NULL, NULL));
  close(p[0]);
  close(p[1]);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

void check_poll(void) {
  polls_bits();
  polls_mixed();
  polls_select();
}
