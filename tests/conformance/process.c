/*
 * Checks of signals, threads, forks and what children see.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static volatile sig_atomic_t process_signals;

static void process_on_signal(int sig) {
  (void)sig;
  process_signals++;
}

static void process_handler(int flags) {
  struct sigaction sa = {.sa_handler = process_on_signal, .sa_flags = flags};
  sigaction(SIGUSR1, &sa, NULL);
  process_signals = 0;
}

struct process_poke {
  pthread_t whom;
  int then_send; /* peer sends this much after the signal; if not, signals go on until the call is over: one may come
                    before it has begun */
  _Atomic bool over;
};

/* Signals the other thread again and again until its handler has run, then lets the peer send. */
static void *process_poker(void *arg) {
  struct process_poke *poke = arg;
  while (process_signals == 0 || (poke->then_send == 0 && !poke->over)) {
    poll(NULL, 0, 30);
    pthread_kill(poke->whom, SIGUSR1);
  }
  poll(NULL, 0, 30);
  if (poke->then_send > 0)
    peer_do(PEER_SEND, poke->then_send);
  return NULL;
}

static void process_interrupts(void) {
  int fd = subject_connected();
  char buf[8];
  pthread_t thread;
  struct process_poke poke = {.whom = pthread_self()};
  process_handler(0);
  pthread_create(&thread, NULL, process_poker, &poke);
  ssize_t rc = recv(fd, buf, 8, 0);
  poke.over = true;
  say_rc("recv interrupted", rc);
  pthread_join(thread, NULL);
  process_handler(SA_RESTART);
  poke.then_send = 5;
  pthread_create(&thread, NULL, process_poker, &poke);
  say_rc("recv restarted", recv(fd, buf, 8, 0));
  pthread_join(thread, NULL);
  process_handler(SA_RESTART);
  poke.then_send = 0;
  poke.over = false;
  pthread_create(&thread, NULL, process_poker, &poke);
  struct pollfd p = {.fd = fd, .events = POLLIN};
  rc = poll(&p, 1, 20000);
  poke.over = true;
  say_rc("poll is never restarted", rc);
  pthread_join(thread, NULL);
  int ep = epoll_create1(0);
  struct epoll_event ev = {.events = EPOLLIN};
  epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
  process_handler(SA_RESTART);
  poke.over = false;
  pthread_create(&thread, NULL, process_poker, &poke);
  rc = epoll_wait(ep, &ev, 1, 20000);
  poke.over = true;
  say_rc("epoll_wait is never restarted", rc);
  pthread_join(thread, NULL);
  signal(SIGUSR1, SIG_DFL);
  close(ep);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void *process_reader(void *arg) {
  static uint8_t buf[65536];
  size_t got = 0;
  while (got < sizeof(buf)) {
    ssize_t n = read(*(int *)arg, buf + got, sizeof(buf) - got);
    if (n <= 0)
      break;
    got += (size_t)n;
  }
  bool right = got == sizeof(buf);
  for (size_t i = 0; i < got; i++)
    right = right && buf[i] == peer_pattern(i);
  return right ? arg : NULL;
}

/* One thread reads while another writes the same socket. */
static void process_threads(void) {
  int fd = subject_connected();
  pthread_t reader;
  void *right = NULL;
  pthread_create(&reader, NULL, process_reader, &fd);
  uint8_t out[4096];
  size_t at = 0;
  bool sent = true;
  for (int i = 0; i < 16; i++) {
    need(peer_do(PEER_SEND, 4096) == 4096, "peer sends");
    for (size_t k = 0; k < sizeof(out); k++)
      out[k] = peer_pattern(at + k);
    sent = sent && write(fd, out, sizeof(out)) == (ssize_t)sizeof(out) && peer_do(PEER_RECV, 4096) == 4096;
    at += sizeof(out);
  }
  pthread_join(reader, &right);
  say_num("one thread wrote", sent);
  say_num("the other read", right != NULL);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

struct process_blocked {
  int fd;
  bool accepts;
  long rc;
  int err;
};

static void *process_block(void *arg) {
  struct process_blocked *b = arg;
  char c;
  b->rc = b->accepts ? accept(b->fd, NULL, NULL) : recv(b->fd, &c, 1, 0);
  b->err = errno;
  return NULL;
}

/* shutdown by one thread ends the wait of another. */
static void process_shutdowns(void) {
  uint16_t port;
  pthread_t thread;
  struct process_blocked b = {.fd = subject_listener(&port), .accepts = true};
  pthread_create(&thread, NULL, process_block, &b);
  poll(NULL, 0, 50); /* it sleeps by now; if not, the answer is the same */
  say_rc("shutdown of a listener", shutdown(b.fd, SHUT_RDWR));
  pthread_join(thread, NULL);
  errno = b.err;
  say_rc("accept in another thread", b.rc);
  say_num("peer is refused", peer_do(PEER_CONNECT, ntohs(port)) == -ECONNREFUSED);
  close(b.fd);
  b = (struct process_blocked){.fd = subject_connected()};
  pthread_create(&thread, NULL, process_block, &b);
  poll(NULL, 0, 50);
  say_rc("shutdown of a connection", shutdown(b.fd, SHUT_RDWR));
  pthread_join(thread, NULL);
  errno = b.err;
  say_rc("recv in another thread", b.rc);
  close(b.fd);
  peer_do(PEER_CLOSE, 0);
}

/* Without a free number the connection stays in the queue. */
static void process_numbers_run_out(void) {
  uint16_t port;
  int listener = subject_listener(&port), held[64], n = 0;
  struct rlimit before, low;
  fcntl(listener, F_SETFL, O_NONBLOCK);
  need(peer_do(PEER_CONNECT, ntohs(port)) == 0, "peer connects");
  subject_poll(listener, POLLIN, 20000);
  getrlimit(RLIMIT_NOFILE, &before);
  low = before;
  low.rlim_cur = 40;
  setrlimit(RLIMIT_NOFILE, &low);
  while (n < 64 && (held[n] = dup(0)) >= 0)
    n++;
  say_rc("dup with none left", held[n]);
  say_rc("socket with none left", socket(AF_INET, SOCK_STREAM, 0));
  say_rc("accept with none left", accept(listener, NULL, NULL));
  close(held[--n]);
  int fd = accept(listener, NULL, NULL);
  say_num("accept with one left", fd >= 0);
  while (n > 0)
    close(held[--n]);
  setrlimit(RLIMIT_NOFILE, &before);
  close(fd);
  close(listener);
  peer_do(PEER_CLOSE, 0);
}

static int process_status(pid_t pid) {
  int status = -1;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
    ;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* A child that touches nothing, one that closes everything, one that is spawned: the parent's socket lives on. */
static void process_children(void) {
  int fd = subject_connected();
  pid_t pid = fork();
  if (pid == 0)
    _exit(7);
  say_num("child exits", process_status(pid));
  pid = fork();
  if (pid == 0) {
    for (int i = 3; i < 1000; i++)
      close(i);
    _exit(8);
  }
  say_num("child that closes all", process_status(pid));
  char *argv[] = {"true", NULL};
  say_num("spawn", posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ));
  say_num("spawned exits", process_status(pid));
  pid = vfork();
  if (pid == 0) {
    close(fd);
    execv("/bin/true", argv);
    _exit(9);
  }
  say_num("vfork child closed it and is gone", process_status(pid));
  say_rc("send", send(fd, "\0", 1, 0));
  say_num("peer got it", peer_do(PEER_RECV, 1));
  need(peer_do(PEER_SEND, 1) == 1, "peer sends");
  char c;
  say_rc("recv", recv(fd, &c, 1, 0));
  close(fd);
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

/* listen, fork, the child accepts and serves: nginx, and daemon(3) when the parent closes or exits. */
static void process_server(bool parent_closes) {
  uint16_t port;
  int listener = subject_listener(&port), p[2];
  need(pipe(p) == 0, "pipe");
  pid_t pid = fork();
  if (pid == 0) {
    int fd = accept(listener, NULL, NULL);
    char c = fd >= 0 ? 'a' : (char)errno;
    if (fd >= 0 && send(fd, "\0", 1, MSG_NOSIGNAL) != 1)
      c = 's';
    (void)!write(p[1], &c, 1);
    close(fd);
    _exit(0);
  }
  if (parent_closes)
    close(listener);
  say_num("peer connects to the child's listener", peer_do(PEER_CONNECT, ntohs(port)));
  say_num("child serves", peer_do(PEER_RECV, 1));
  char c = 0;
  need(read(p[0], &c, 1) == 1, "word of the child");
  say_num("child says", c);
  say_num("child exits", process_status(pid));
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
  if (!parent_closes) {
    say_num("peer connects to the parent's listener", peer_do(PEER_CONNECT, ntohs(port)));
    int fd = accept(listener, NULL, NULL);
    say_num("parent accepts", fd >= 0);
    close(fd);
    close(listener);
  }
  close(p[0]);
  close(p[1]);
  peer_do(PEER_CLOSE, 0);
}

/* accept, fork, the parent closes its copy, the child serves: the classic forking server. */
static void process_forking_server(void) {
  int fd = subject_accepted();
  pid_t pid = fork();
  if (pid == 0) {
    char c;
    int ok = recv(fd, &c, 1, 0) == 1 && send(fd, "\0", 1, MSG_NOSIGNAL) == 1;
    close(fd);
    _exit(ok ? 0 : 1);
  }
  close(fd);
  need(peer_do(PEER_SEND, 1) == 1, "peer sends");
  say_num("child answers", peer_do(PEER_RECV, 1));
  say_num("child exits", process_status(pid));
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

/* cat, with the connection as its standard input and output. */
static void process_cat(int fd) {
  char *argv[] = {"cat", NULL};
  dup2(fd, 0);
  dup2(fd, 1);
  execvp("cat", argv);
  _exit(9);
}

/* What the peer sends comes back through cat; its end is the end of cat. */
static void process_through_cat(pid_t pid) {
  need(peer_do(PEER_SEND, 50000) == 50000, "peer sends");
  say_num("cat answers", peer_do(PEER_RECV, 50000));
  peer_do(PEER_SHUT_WR, 0);
  say_num("cat exits", process_status(pid));
}

/* inetd: the connection outlives exec in a child, whether or not the parent keeps it. */
static void process_inetd(bool parent_keeps) {
  int fd = subject_accepted();
  pid_t pid = fork();
  if (pid == 0)
    process_cat(fd);
  if (!parent_keeps)
    close(fd);
  process_through_cat(pid);
  if (parent_keeps)
    close(fd);
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

/* The process that accepted it executes; one that is close-on-exec ends with exec. */
static void process_exec_owner(bool cloexec) {
  int done[2];
  char c;
  need(pipe2(done, O_CLOEXEC) == 0, "pipe");
  pid_t pid = fork();
  if (pid == 0) {
    char *argv[] = {"sleep", "0", NULL};
    int fd = subject_accepted();
    if (!cloexec)
      process_cat(fd);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    execv("/bin/sleep", argv);
    _exit(9);
  }
  close(done[1]);
  need(read(done[0], &c, 1) == 0, "child executes"); /* until then it talks to the peer itself */
  close(done[0]);
  if (cloexec)
    say_num("child exits", process_status(pid));
  else
    process_through_cat(pid);
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

/* exec fails, and nothing has changed. */
static void process_exec_fails(void) {
  int fd = subject_connected();
  pid_t pid = fork();
  if (pid == 0) {
    if (execl("/nonexistent", "x", NULL) != -1 || errno != ENOENT || fcntl(fd, F_GETFD) != 0)
      _exit(1);
    _exit(send(fd, "\0", 1, MSG_NOSIGNAL) == 1 ? 0 : 2);
  }
  say_num("child exits", process_status(pid));
  say_num("peer got it", peer_do(PEER_RECV, 1));
  close(fd);
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

void check_process(void) {
  process_server(false); /* first: a process that has had threads does not leave a listener to its children */
  process_server(true);
  process_interrupts();
  process_threads();
  process_shutdowns();
  process_numbers_run_out();
  process_children();
  process_forking_server();
  process_inetd(false);
  process_inetd(true);
  process_exec_owner(false);
  process_exec_owner(true);
  process_exec_fails();
}
