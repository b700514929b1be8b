/*
 * Checks of the spellings: vectors, messages, sendfile, splice, stdio.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void callforms_vectors(void) {
  int fd = subject_connected();
  uint8_t a[3], b[5], c[4];
  for (size_t i = 0; i < 12; i++)
    (i < 3 ? a : i < 8 ? b - 3 : c - 8)[i] = peer_pattern(i);
  struct iovec iov[4] = {{a, 3}, {b, 5}, {NULL, 0}, {c, 4}};
  say_rc("writev", writev(fd, iov, 4));
  say_num("peer got it", peer_do(PEER_RECV, 12));
  need(peer_do(PEER_SEND, 12) == 12, "peer sends");
  while (recv(fd, a, 1, MSG_PEEK | MSG_DONTWAIT) != 1)
    subject_poll(fd, POLLIN, 20000);
  say_rc("readv", readv(fd, iov, 4));
  say_num("right", b[0] == peer_pattern(3) && c[3] == peer_pattern(11));
  say_rc("writev of nothing", writev(fd, iov, 0));
  volatile int negative = -1;
  say_rc("writev negative", writev(fd, iov, negative));
  say_rc("pread on a socket", pread(fd, a, 1, 0));
  say_rc("pwritev on a socket", pwritev(fd, iov, 1, 0));
  struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
  for (size_t i = 0; i < 8; i++)
    (i < 3 ? a : b - 3)[i] = peer_pattern(12 + i);
  say_rc("sendmsg", sendmsg(fd, &m, 0));
  say_num("peer got it", peer_do(PEER_RECV, 8));
  need(peer_do(PEER_SEND, 8) == 8, "peer sends");
  struct sockaddr_in from;
  char control[64];
  m.msg_name = &from;
  m.msg_namelen = sizeof(from);
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  say_rc("recvmsg WAITALL", recvmsg(fd, &m, MSG_WAITALL));
  say_num("no name", (long)m.msg_namelen);
  say_num("no control data", (long)m.msg_controllen);
  say_num("flags", m.msg_flags);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void callforms_many(void) {
  int fd = subject_connected();
  uint8_t out[6];
  for (size_t i = 0; i < 6; i++)
    out[i] = peer_pattern(i);
  struct iovec iov[2] = {{out, 2}, {out + 2, 4}};
  struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &iov[0], .msg_iovlen = 1}},
                         {.msg_hdr = {.msg_iov = &iov[1], .msg_iovlen = 1}}};
  say_rc("sendmmsg", sendmmsg(fd, m, 2, 0));
  say_num("second length", m[1].msg_len);
  say_num("peer got it", peer_do(PEER_RECV, 6));
  need(peer_do(PEER_SEND, 6) == 6, "peer sends");
  for (int i = 0; i < 100 && recv(fd, out, 6, MSG_PEEK | MSG_DONTWAIT) != 6; i++)
    subject_poll(fd, POLLIN, 50);
  say_rc("recvmmsg", recvmmsg(fd, m, 2, MSG_DONTWAIT, NULL));
  say_num("second length", m[1].msg_len);
  say_rc("recvmmsg empty", recvmmsg(fd, m, 2, MSG_DONTWAIT, NULL));
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

/* By number, as libuv calls them. */
static void callforms_numbers(void) {
  int fd = subject_connected();
  uint8_t out[6];
  for (size_t i = 0; i < 6; i++)
    out[i] = peer_pattern(i);
  struct iovec iov[2] = {{out, 1}, {out + 1, 1}};
  struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &iov[0], .msg_iovlen = 1}},
                         {.msg_hdr = {.msg_iov = &iov[1], .msg_iovlen = 1}}};
  say_rc("sendmmsg by number", syscall(SYS_sendmmsg, fd, m, 2, 0));
  say_rc("sendto by number", syscall(SYS_sendto, fd, out + 2, 2, 0, NULL, 0));
  say_rc("write by number", syscall(SYS_write, fd, out + 4, 2));
  say_num("peer got it", peer_do(PEER_RECV, 6));
  need(peer_do(PEER_SEND, 6) == 6, "peer sends");
  struct pollfd p = {.fd = fd, .events = POLLIN};
  struct timespec t = {.tv_sec = 20};
  uint64_t mask = 0;
  say_rc("ppoll by number", syscall(SYS_ppoll, &p, 1, &t, &mask, sizeof(mask)));
  say_rc("recvmmsg by number", syscall(SYS_recvmmsg, fd, m, 2, MSG_DONTWAIT, NULL));
  for (int i = 0; i < 100 && recv(fd, out + 2, 4, MSG_PEEK | MSG_DONTWAIT) != 4; i++)
    subject_poll(fd, POLLIN, 50);
  say_rc("read by number", syscall(SYS_read, fd, out + 2, 4));
  say_num("right", out[1] == peer_pattern(1) && out[5] == peer_pattern(5));
  int dup_fd = (int)syscall(SYS_dup, fd);
  say_rc("close by number", syscall(SYS_close, fd));
  say_rc("write to the copy", write(dup_fd, out, 1));
  say_rc("an unknown number", syscall(-1));
  close(dup_fd);
  peer_do(PEER_CLOSE, 0);
}

static int callforms_file(size_t n) {
  char name[] = "/tmp/hs-conform-XXXXXX";
  int file = mkstemp(name);
  need(file >= 0, "a file");
  unlink(name);
  for (size_t i = 0; i < n; i++) {
    uint8_t c = peer_pattern(i);
    need(write(file, &c, 1) == 1, "write");
  }
  return file;
}

static void callforms_sendfile(void) {
  int fd = subject_connected();
  int file = callforms_file(20000);
  off_t at = 0;
  say_rc("sendfile with an offset", sendfile(fd, file, &at, 12000));
  say_num("offset moved", (long)at);
  say_num("peer got it", peer_do(PEER_RECV, 12000));
  lseek(file, 12000, SEEK_SET);
  say_rc("sendfile from the position", sendfile(fd, file, NULL, 100000));
  say_num("position moved", (long)lseek(file, 0, SEEK_CUR));
  say_num("peer got it", peer_do(PEER_RECV, 8000));
  say_rc("sendfile at the end", sendfile(fd, file, NULL, 10));
  int p[2];
  need(pipe(p) == 0, "pipe");
  need(peer_do(PEER_SEND, 3000) == 3000, "peer sends");
  size_t got = 0;
  while (got < 3000) {
    ssize_t n = splice(fd, NULL, p[1], NULL, 3000 - got, 0);
    if (n <= 0)
      break;
    got += (size_t)n;
  }
  say_num("splice to a pipe", (long)got);
  uint8_t buf[3000];
  bool right = read(p[0], buf, sizeof(buf)) == (ssize_t)sizeof(buf);
  for (size_t i = 0; i < sizeof(buf); i++)
    right = right && buf[i] == peer_pattern(i);
  say_num("right", right);
  for (size_t i = 0; i < 2000; i++)
    buf[i] = peer_pattern(20000 + i);
  need(write(p[1], buf, 2000) == 2000, "write");
  say_rc("splice from a pipe", splice(p[0], NULL, fd, NULL, 2000, 0));
  say_num("peer got it", peer_do(PEER_RECV, 2000));
  say_rc("splice of two sockets", splice(fd, NULL, fd, NULL, 10, 0));
  close(p[0]);
  close(p[1]);
  close(file);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void callforms_stdio(void) {
  int fd = subject_connected();
  uint8_t text[100];
  for (size_t i = 0; i < sizeof(text); i++)
    text[i] = peer_pattern(i);
  FILE *f = fdopen(fd, "r+");
  say_num("fdopen", f != NULL);
  say_num("fileno", fileno(f) == fd);
  say_num("fwrite", (long)fwrite(text, 1, sizeof(text), f));
  say_num("fflush", fflush(f));
  say_num("peer got it", peer_do(PEER_RECV, 100));
  need(peer_do(PEER_SEND, 100) == 100, "peer sends");
  need(peer_do(PEER_SHUT_WR, 0) == 0, "peer ends");
  uint8_t back[200];
  say_num("fread", (long)fread(back, 1, sizeof(back), f));
  say_num("right", memcmp(text, back, sizeof(text)) == 0);
  say_num("feof", feof(f) != 0);
  say_num("fclose", fclose(f));
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  say_rc("number is closed", fcntl(fd, F_GETFD));
  peer_do(PEER_CLOSE, 0);
}

void check_calls(void) {
  callforms_vectors();
  callforms_many();
  callforms_numbers();
  callforms_sendfile();
  callforms_stdio();
}
