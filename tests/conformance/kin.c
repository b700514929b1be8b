/*
 * Checks of connections that a family of processes holds: whoever made one may exit or be killed, the others go on with
 * it, and it ends with the last of them.
 *
 * The maker is a child of the subject's, so that it can die; every process says its lines itself, one after the other.
 * A process is waited for by the end of a pipe that it holds, never by time.
 */
#include "conform.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum kin_end { KIN_EXIT, KIN_KILL };

static const char *const kin_how[] = {"exits", "is killed"};

/* A process and the pipe that ends with it. */
struct kin_life {
  pid_t pid;
  int end[2];
};

static pid_t kin_fork(struct kin_life *l) {
  fflush(stdout);
  need(pipe(l->end) == 0, "pipe");
  l->pid = fork();
  need(l->pid >= 0, "fork");
  close(l->end[l->pid == 0 ? 0 : 1]);
  return l->pid;
}

/* Until that process, and all to whom it left its end of the pipe, are gone. */
static void kin_over(struct kin_life *l) {
  char c;
  while (read(l->end[0], &c, 1) < 0 && errno == EINTR)
    ;
  close(l->end[0]);
  (void)waitpid(l->pid, NULL, 0);
}

static void kin_die(enum kin_end how) __attribute__((noreturn));
static void kin_die(enum kin_end how) {
  fflush(stdout);
  if (how == KIN_KILL)
    kill(getpid(), SIGKILL);
  _exit(0);
}

/* Everything that can be done with a connection, its ends included. */
static void kin_use(int fd) {
  char buf[16];
  struct sockaddr_in a;
  socklen_t len = sizeof(a);
  say_rc("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
  say_num("peer sends", peer_do(PEER_SEND, 5));
  say_num("poll", subject_poll(fd, POLLIN, 10000));
  say_rc("recv", recv(fd, buf, 5, 0));
  say_rc("send", send(fd, "\0", 1, MSG_NOSIGNAL));
  say_num("peer receives", peer_do(PEER_RECV, 1));
  say_num("peer sends more", peer_do(PEER_SEND, 6));
  say_rc("recv blocks", recv(fd, buf, 6, MSG_WAITALL));
  peer_do(PEER_SHUT_WR, 0);
  say_rc("end", recv(fd, buf, 6, 0));
  say_rc("shutdown", shutdown(fd, SHUT_WR));
  say_num("peer sees it", peer_do(PEER_RECV_EOF, 0));
  say_rc("close", close(fd));
  peer_do(PEER_CLOSE, 0);
}

/* The maker hands on and goes; its child waits for that and works. */
static void kin_maker(enum kin_end how, bool closes) {
  struct kin_life maker, child;
  int alive[2];
  printf("-- the maker %s%s\n", closes ? "closes and " : "", kin_how[how]);
  need(pipe(alive) == 0, "pipe");
  if (kin_fork(&maker) == 0) {
    int fd = subject_connected();
    if (kin_fork(&child) == 0) {
      char c;
      close(alive[1]);
      say_num("the maker is gone", read(alive[0], &c, 1));
      kin_use(fd);
      kin_die(KIN_EXIT);
    }
    if (closes)
      close(fd);
    kin_die(how);
  }
  close(alive[0]);
  close(alive[1]);
  kin_over(&maker);
}

/* Grandfather and father are gone when the grandchild begins. */
static void kin_generations(enum kin_end how) {
  struct kin_life one, two, three;
  int alive[2];
  printf("-- father and grandfather: each %s\n", kin_how[how]);
  need(pipe(alive) == 0, "pipe");
  if (kin_fork(&one) == 0) {
    int fd = subject_connected();
    if (kin_fork(&two) != 0)
      kin_die(how);
    if (kin_fork(&three) != 0)
      kin_die(how);
    char c;
    close(alive[1]);
    say_num("they are gone", read(alive[0], &c, 1));
    kin_use(fd);
    kin_die(KIN_EXIT);
  }
  close(alive[0]);
  close(alive[1]);
  kin_over(&one);
}

/* Two children hold it; the maker has closed it, or is gone. One child goes, the other works on. */
static void kin_brothers(enum kin_end how, bool maker_lives) {
  struct kin_life maker, first, second;
  int go[2];
  printf("-- of two children one %s, the maker %s\n", kin_how[how], maker_lives ? "has closed" : "is gone");
  if (kin_fork(&maker) == 0) {
    int fd = subject_connected();
    need(pipe(go) == 0, "pipe");
    if (kin_fork(&first) == 0) {
      char c;
      close(go[1]);
      (void)!read(go[0], &c, 1);
      kin_die(how);
    }
    if (kin_fork(&second) == 0) {
      close(go[1]);
      kin_over(&first);
      kin_use(fd);
      kin_die(KIN_EXIT);
    }
    close(fd);
    if (!maker_lives)
      kin_die(how);
    close(go[1]);
    kin_over(&first);
    kin_over(&second);
    kin_die(KIN_EXIT);
  }
  kin_over(&maker);
}

/* The last one who holds it is gone without a close: the peer sees the end, and the maker is in a call of its own. */
static void kin_last(enum kin_end how, bool maker_lives) {
  struct kin_life maker, child;
  int said[2];
  uint16_t port;
  char c;
  printf("-- the last holder %s, the maker %s\n", kin_how[how], maker_lives ? "has closed" : "is gone");
  need(pipe(said) == 0, "pipe");
  if (kin_fork(&maker) == 0) {
    int l = subject_listener(&port);
    int fd = subject_connected();
    if (kin_fork(&child) == 0) {
      close(l);
      kin_die(write(said[1], "x", 1) == 1 ? how : KIN_EXIT);
    }
    close(fd);
    if (!maker_lives)
      kin_die(how);
    struct pollfd p[2] = {{.fd = l, .events = POLLIN}, {.fd = maker.end[1]}}; /* POLLERR: the subject has seen it */
    (void)poll(p, 2, 20000);
    kin_die(KIN_EXIT);
  }
  need(read(said[0], &c, 1) == 1, "the child has it");
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  close(maker.end[0]);
  (void)waitpid(maker.pid, NULL, 0);
  close(said[0]);
  close(said[1]);
  peer_do(PEER_CLOSE, 0);
}

/* What a child has closed ends with its maker, while the child lives on. */
static void kin_unheld(enum kin_end how) {
  struct kin_life maker, child;
  int go[2], said[2], told[2];
  char c;
  printf("-- a child that has closed lives on, the maker %s\n", kin_how[how]);
  need(pipe(go) == 0 && pipe(said) == 0 && pipe(told) == 0, "pipe");
  if (kin_fork(&maker) == 0) {
    int fd = subject_connected();
    if (kin_fork(&child) == 0) {
      close(fd);
      close(go[1]);
      (void)!write(said[1], "x", 1);
      (void)!read(go[0], &c, 1);
      kin_die(KIN_EXIT);
    }
    need(read(said[0], &c, 1) == 1, "the child has closed");
    (void)!write(told[1], "x", 1);
    kin_die(how);
  }
  close(go[0]);
  need(read(told[0], &c, 1) == 1, "the maker is connected");
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  close(go[1]);
  kin_over(&maker);
  close(told[0]);
  close(told[1]);
  close(said[0]);
  close(said[1]);
  peer_do(PEER_CLOSE, 0);
}

/* What one of them says with shutdown holds for the others. */
static void kin_shutdown(void) {
  struct kin_life child;
  char c;
  printf("-- a child's shutdown\n");
  int fd = subject_connected();
  if (kin_fork(&child) == 0) {
    say_rc("child's shutdown", shutdown(fd, SHUT_WR));
    kin_die(KIN_EXIT);
  }
  kin_over(&child);
  say_num("peer sees it", peer_do(PEER_RECV_EOF, 0));
  say_rc("send", send(fd, "x", 1, MSG_NOSIGNAL));
  say_num("peer sends", peer_do(PEER_SEND, 1));
  say_rc("recv", recv(fd, &c, 1, 0));
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

/* Datagrams go on, too, and their port is free when the last one has gone. */
static void kin_dgram(enum kin_end how) {
  struct kin_life maker, child;
  int alive[2];
  char buf[16];
  printf("-- datagrams: the maker %s\n", kin_how[how]);
  struct sockaddr_in to = conform.peer_ip;
  to.sin_port = htons((uint16_t)peer_do(PEER_UDP, 0));
  need(pipe(alive) == 0, "pipe");
  if (kin_fork(&maker) == 0) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in me = conform.my_ip;
    me.sin_port = htons(7311);
    say_rc("bind", bind(fd, (struct sockaddr *)&me, sizeof(me)));
    say_rc("sendto", sendto(fd, "abc", 3, 0, (struct sockaddr *)&to, sizeof(to)));
    say_num("echo", peer_do(PEER_UDP_ECHO, 1));
    say_rc("recv", recv(fd, buf, sizeof(buf), 0));
    if (kin_fork(&child) == 0) {
      close(alive[1]);
      say_num("the maker is gone", read(alive[0], buf, 1));
      say_rc("sendto", sendto(fd, "abcde", 5, 0, (struct sockaddr *)&to, sizeof(to)));
      say_num("echo", peer_do(PEER_UDP_ECHO, 1));
      say_rc("recv", recv(fd, buf, sizeof(buf), 0));
      say_rc("close", close(fd));
      fd = socket(AF_INET, SOCK_DGRAM, 0);
      say_rc("bind again", bind(fd, (struct sockaddr *)&me, sizeof(me)));
      kin_die(KIN_EXIT);
    }
    kin_die(how);
  }
  close(alive[0]);
  close(alive[1]);
  kin_over(&maker);
  peer_do(PEER_CLOSE, 0);
}

/* The port of a listener whose maker is gone is free, though a child goes on with a connection (a restarted sshd). */
static void kin_port(enum kin_end how) {
  struct kin_life maker, child;
  struct sockaddr_in at = conform.my_ip;
  int said[2], go[2];
  char c;
  printf("-- a listener's port: its maker %s\n", kin_how[how]);
  need(pipe(said) == 0 && pipe(go) == 0, "pipe");
  at.sin_port = htons(7312);
  if (kin_fork(&maker) == 0) {
    int l = subject_socket(0), one = 1;
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    say_rc("bind", bind(l, (struct sockaddr *)&at, sizeof(at)));
    say_rc("listen", listen(l, 5));
    int fd = subject_connected();
    if (kin_fork(&child) == 0) {
      char x;
      close(l);
      close(go[1]);
      (void)!write(said[1], "x", 1);
      while (recv(fd, &x, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN &&
             poll(&(struct pollfd){go[0], POLLIN, 0}, 1, 10) == 0)
        ;
      kin_use(fd);
      kin_die(KIN_EXIT);
    }
    need(read(said[0], &c, 1) == 1, "the child has it");
    kin_die(how);
  }
  close(go[0]);
  (void)waitpid(maker.pid, NULL, 0);
  int rc = -1;
  for (int i = 0; i < 2000 && rc < 0; i++) { /* what was killed goes when its child looks */
    int l = subject_socket(0), one = 1;
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    rc = bind(l, (struct sockaddr *)&at, sizeof(at));
    if (rc == 0)
      rc = listen(l, 5);
    if (rc < 0)
      poll(NULL, 0, 10);
    close(l);
  }
  say_rc("listen anew", rc);
  close(go[1]);
  kin_over(&maker);
  close(said[0]);
  close(said[1]);
}

void check_kin(void) {
  for (enum kin_end how = KIN_EXIT; how <= KIN_KILL; how++) {
    kin_maker(how, false);
    kin_maker(how, true);
    kin_generations(how);
    kin_brothers(how, false);
    kin_brothers(how, true);
    kin_last(how, false);
    kin_last(how, true);
    kin_unheld(how);
    kin_dgram(how);
    kin_port(how);
  }
  kin_shutdown();
}
