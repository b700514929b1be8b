/*
 * conform peer PATH PEER_IP SUBJECT_IP PEER_IP6 SUBJECT_IP6: waits for a subject on the unix socket PATH and serves it.
 * conform subject PATH PEER_IP SUBJECT_IP PEER_IP6 SUBJECT_IP6 [GROUP]: runs all checks (or one group), prints the
 * lines. conform groups: their names.
 */
#include "conform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

struct conform conform;

void need(bool ok, const char *what) {
  if (ok)
    return;
  printf("SET-UP FAILED: %s (%s)\n", what, strerrorname_np(errno) ? strerrorname_np(errno) : "-");
  exit(3);
}

void say_rc(const char *name, long rc) {
  int err = errno;
  if (rc < 0)
    printf("%s: -1 %s\n", name, strerrorname_np(err) ? strerrorname_np(err) : "?");
  else if (rc == 0)
    printf("%s: ok\n", name);
  else
    printf("%s: %ld\n", name, rc);
}

void say_num(const char *name, long value) {
  printf("%s: %ld\n", name, value);
}

void say_bits(const char *name, unsigned bits) {
  printf("%s: 0x%x\n", name, bits);
}

int subject_socket(int flags) {
  int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
  need(fd >= 0, "socket");
  return fd;
}

int subject_connected(void) {
  struct sockaddr_in to = conform.peer_ip;
  int64_t port = peer_do(PEER_LISTEN, 8);
  need(port > 0, "peer listens");
  to.sin_port = htons((uint16_t)port);
  int fd = subject_socket(0);
  need(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0, "connect");
  need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  return fd;
}

void arm_listener(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  if (getenv("CONFORM_ARMED") != NULL)
    (void)poll(&p, 1, 0);
}

int subject_listener(uint16_t *port) {
  struct sockaddr_in a = conform.my_ip;
  socklen_t len = sizeof(a);
  int fd = subject_socket(0);
  need(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0, "bind");
  need(listen(fd, 16) == 0, "listen");
  arm_listener(fd);
  need(getsockname(fd, (struct sockaddr *)&a, &len) == 0, "getsockname");
  *port = a.sin_port;
  return fd;
}

int subject_accepted(void) {
  uint16_t port;
  int listener = subject_listener(&port);
  need(peer_do(PEER_CONNECT, ntohs(port)) == 0, "peer connects");
  int fd = accept(listener, NULL, NULL);
  need(fd >= 0, "accept");
  close(listener);
  return fd;
}

int subject_poll(int fd, short events, int timeout_ms) {
  struct pollfd p = {.fd = fd, .events = events};
  return poll(&p, 1, timeout_ms) > 0 ? p.revents : 0;
}

static void main_parse_ip(const char *text, struct sockaddr_in *a) {
  memset(a, 0, sizeof(*a));
  a->sin_family = AF_INET;
  need(inet_pton(AF_INET, text, &a->sin_addr) == 1, "an IPv4 address");
}

static void main_parse_ip6(const char *text, struct sockaddr_in6 *a) {
  memset(a, 0, sizeof(*a));
  a->sin6_family = AF_INET6;
  need(inet_pton(AF_INET6, text, &a->sin6_addr) == 1, "an IPv6 address");
}

static int main_peer(struct sockaddr_un *un) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  (void)unlink(un->sun_path);
  need(fd >= 0 && bind(fd, (struct sockaddr *)un, sizeof(*un)) == 0 && listen(fd, 1) == 0, "unix listener");
  printf("ready\n");
  fflush(stdout);
  int control = accept(fd, NULL, NULL);
  need(control >= 0, "a subject");
  (void)unlink(un->sun_path);
  return peer_run(control);
}

static const struct {
  const char *name;
  void (*run)(void);
} main_groups[] = {
    {"options", check_options}, {"life", check_life},
    {"connect", check_connect}, {"data", check_data},
    {"calls", check_calls},     {"poll", check_poll},
    {"epoll", check_epoll},     {"process", check_process},
    {"six", check_six},         {"dgram", check_dgram},
    {"urgent", check_urgent},   {"waits", check_waits},
    {"spawns", check_spawns},   {"unanswered", check_unanswered},
    {"heirs", check_heirs},     {"corks", check_corks},
    {"passed", check_passed},   {"beside", check_beside},
    {"arrived", check_arrived}, {"kin", check_kin},
    {"mixes", check_mixes},
};

int main(int argc, char **argv) {
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  if (argc == 2 && strcmp(argv[1], "heir") == 0)
    return heirs_run();
  if (argc == 2 && strcmp(argv[1], "passed") == 0)
    return passed_run();
  if (argc == 2 && strcmp(argv[1], "groups") == 0) {
    for (size_t i = 0; i < sizeof(main_groups) / sizeof(main_groups[0]); i++)
      puts(main_groups[i].name);
    return 0;
  }
  if (argc < 7 || strlen(argv[2]) >= sizeof(un.sun_path))
    return fprintf(stderr, "usage: conform peer|subject PATH PEER_IP SUBJECT_IP PEER_IP6 SUBJECT_IP6 [GROUP]\n"), 2;
  memcpy(un.sun_path, argv[2], strlen(argv[2]));
  main_parse_ip(argv[3], &conform.peer_ip);
  main_parse_ip(argv[4], &conform.my_ip);
  main_parse_ip6(argv[5], &conform.peer_ip6);
  main_parse_ip6(argv[6], &conform.my_ip6);
  signal(SIGPIPE, SIG_IGN);
  if (strcmp(argv[1], "peer") == 0)
    return main_peer(&un);
  setvbuf(stdout, NULL, _IOLBF, 0);
  alarm(90); /* a check that hangs ends the run, and the line that is missing names it */
  conform.control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  need(connect(conform.control, (struct sockaddr *)&un, sizeof(un)) == 0, "the peer's unix socket");
  for (size_t i = 0; i < sizeof(main_groups) / sizeof(main_groups[0]); i++) {
    if (argc > 7 ? strcmp(argv[7], main_groups[i].name) != 0 : main_groups[i].run == check_arrived)
      continue;
    printf("== %s\n", main_groups[i].name);
    main_groups[i].run();
  }
  struct peer_msg quit = {.op = PEER_QUIT};
  (void)!send(conform.control, &quit, sizeof(quit), MSG_NOSIGNAL);
  printf("== end\n");
  return 0;
}
