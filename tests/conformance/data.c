/*
 * Checks of bytes: flags, ends, resets, time-outs, big transfers.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long data_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (long)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

static void data_flags(void) {
  int fd = subject_connected();
  char buf[64];
  int n = -1;
  say_rc("DONTWAIT empty", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
  say_rc("recv of 0 bytes, DONTWAIT", recv(fd, buf, 0, MSG_DONTWAIT));
  say_rc("read of 0 bytes", read(fd, buf, 0));
  need(peer_do(PEER_SEND, 10) == 10, "peer sends");
  subject_poll(fd, POLLIN, 20000);
  say_rc("FIONREAD", ioctl(fd, FIONREAD, &n));
  say_num("bytes to read", n);
  say_rc("PEEK 4", recv(fd, buf, 4, MSG_PEEK));
  say_rc("PEEK more than there is", recv(fd, buf, 64, MSG_PEEK));
  say_rc("TRUNC 3", recv(fd, NULL, 3, MSG_TRUNC));
  say_rc("recv the rest", recv(fd, buf, 64, 0));
  say_num("first byte after TRUNC", (uint8_t)buf[0] == peer_pattern(3));
  say_rc("MSG_OOB with none", recv(fd, buf, 1, MSG_OOB));
  say_rc("ERRQUEUE empty", recv(fd, buf, 1, MSG_ERRQUEUE | MSG_DONTWAIT));
  need(peer_do(PEER_SEND, 5) == 5, "peer sends");
  need(peer_do(PEER_SHUT_WR, 0) == 0, "peer ends");
  say_rc("WAITALL meets the end", recv(fd, buf, 64, MSG_WAITALL));
  say_rc("recv at the end", recv(fd, buf, 64, 0));
  say_rc("recv at the end again", recv(fd, buf, 64, 0));
  say_bits("poll at the end", (unsigned)subject_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
  say_rc("send to a peer that ended its side", send(fd, "\0", 1, 0));
  say_num("peer got it", peer_do(PEER_RECV, 1));
  struct sockaddr_in from;
  socklen_t len = sizeof(from);
  say_rc("recvfrom", recvfrom(fd, buf, 1, 0, (struct sockaddr *)&from, &len));
  say_num("recvfrom address length", (long)len);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static volatile sig_atomic_t data_sigpipes;
static void data_on_sigpipe(int sig) {
  (void)sig;
  data_sigpipes++;
}

static void data_shutdown(void) {
  int fd = subject_connected();
  char buf[8];
  signal(SIGPIPE, data_on_sigpipe);
  say_rc("shutdown WR", shutdown(fd, SHUT_WR));
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  data_sigpipes = 0;
  say_rc("send after shutdown", send(fd, "x", 1, 0));
  say_num("SIGPIPE", data_sigpipes);
  say_rc("send NOSIGNAL after shutdown", send(fd, "x", 1, MSG_NOSIGNAL));
  say_num("no SIGPIPE", data_sigpipes);
  say_rc("write after shutdown", write(fd, "x", 1));
  say_num("SIGPIPE of write", data_sigpipes);
  signal(SIGPIPE, SIG_IGN);
  need(peer_do(PEER_SEND, 4) == 4, "peer sends");
  say_rc("recv after shutdown WR", recv(fd, buf, 8, MSG_WAITALL | MSG_DONTWAIT) > 0 || subject_poll(fd, POLLIN, 20000));
  say_rc("shutdown RD", shutdown(fd, SHUT_RD));
  close(fd);
  peer_do(PEER_CLOSE, 0);
  fd = subject_connected();
  say_rc("shutdown RD alone", shutdown(fd, SHUT_RD));
  say_rc("recv after shutdown RD", recv(fd, buf, 8, 0));
  say_rc("shutdown RDWR", shutdown(fd, SHUT_RDWR));
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void data_reset(void) {
  int fd = subject_connected();
  char buf[8];
  need(peer_do(PEER_RESET, 0) == 0, "peer resets");
  subject_poll(fd, POLLIN, 20000);
  say_bits("poll after a reset", (unsigned)subject_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
  say_rc("recv after a reset", recv(fd, buf, 8, 0));
  say_rc("recv again", recv(fd, buf, 8, 0));
  say_rc("send after a reset", send(fd, "x", 1, MSG_NOSIGNAL));
  close(fd);
  fd = subject_connected();
  need(peer_do(PEER_RESET, 0) == 0, "peer resets");
  subject_poll(fd, POLLIN, 20000);
  int err = -1;
  socklen_t len = sizeof(err);
  say_rc("SO_ERROR after a reset", getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
  say_num("it is ECONNRESET", err == ECONNRESET);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
  say_num("it was cleared", err);
  say_rc("recv when it was cleared", recv(fd, buf, 8, 0));
  close(fd);
  fd = subject_connected();
  struct linger l = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
  close(fd);
  say_num("linger 0: peer sees a reset", peer_do(PEER_RECV_EOF, 0) == -ECONNRESET);
  peer_do(PEER_CLOSE, 0);
}

static void data_timeouts(void) {
  int fd = subject_connected();
  char buf[8];
  struct timeval tv = {0, 100000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
  long start = data_ms();
  say_rc("recv times out", recv(fd, buf, 8, 0));
  long took = data_ms() - start;
  say_num("after about 100 ms", took >= 90 && took < 2000);
  need(peer_do(PEER_SEND, 3) == 3, "peer sends");
  say_rc("WAITALL times out with what there is", recv(fd, buf, 8, MSG_WAITALL));
  close(fd);
  peer_do(PEER_CLOSE, 0);
  fd = subject_connected();
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
  size_t big = 64u << 20;
  char *lots = calloc(1, big);
  need(lots != NULL, "memory");
  ssize_t n = send(fd, lots, big, 0);
  say_num("a send into a full pipe is cut short", n > 0 && n < (ssize_t)big);
  n = send(fd, lots, big, 0);
  say_num("then EAGAIN or a little", n > 0 || (n < 0 && errno == EAGAIN));
  free(lots);
  struct linger l = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void data_big(void) {
  size_t total = 3u << 20, got = 0;
  uint8_t *buf = malloc(total);
  need(buf != NULL, "memory");
  int fd = subject_accepted();
  /* The peer sends before we read: it must fit into the buffers, so in steps. */
  bool right = true;
  while (got < total) {
    size_t step = total - got < 32768 ? total - got : 32768;
    need(peer_do(PEER_SEND, (int64_t)step) == (int64_t)step, "peer sends");
    ssize_t n = recv(fd, buf, step, MSG_WAITALL);
    for (ssize_t i = 0; i < n; i++)
      right = right && buf[i] == peer_pattern(got + (size_t)i);
    if (n != (ssize_t)step)
      break;
    got += step;
  }
  say_num("3 MB received", (long)got);
  say_num("3 MB right", right);
  for (size_t i = 0; i < total; i++)
    buf[i] = peer_pattern(i);
  size_t sent = 0;
  while (sent < total) {
    size_t step = total - sent < 32768 ? total - sent : 32768;
    ssize_t n = send(fd, buf + sent, step, 0);
    if (n != (ssize_t)step || peer_do(PEER_RECV, n) != n)
      break;
    sent += step;
  }
  say_num("3 MB sent and right", (long)sent);
  int left = -1;
  for (int i = 0; i < 200 && ioctl(fd, SIOCOUTQ, &left) == 0 && left > 0; i++)
    poll(NULL, 0, 10); /* the last acknowledgement may be delayed */
  say_num("SIOCOUTQ when all is acknowledged", left);
  free(buf);
  close(fd);
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

void check_data(void) {
  data_flags();
  data_shutdown();
  data_reset();
  data_timeouts();
  data_big();
}
