/*
 * The relay: who goes on with a connection of the stack when the process that held it executes another program.
 *
 * A program that is executed cannot map what its predecessor wrote (A segments are sealed), so the connection stays
 * with a copy of the old process, and the new program has one end of a kernel socket pair at the same number. exec.c
 * makes both; the copy ends with its last connection.
 */
#ifndef HS_LDP_RELAY_H
#define HS_LDP_RELAY_H

#include <stdbool.h>
#include <sys/socket.h>

#define RELAY_MAX 128

struct relay_end {
  int fd;       /* of the connection, in the table; the copy's only number of it */
  int line;     /* the copy's end of the pair */
  bool listens; /* a listener: kept until the program has its own share, or has closed it */
  bool dgram;   /* datagrams: line.h */
  bool eager;   /* the program has it as standard input or output: it is meant to use it */
};

/** Carries bytes both ways until all are over, then ends the process. `go`: a pipe; its end of file says that the other
 * program runs, a byte that it does not. apart: a holder of its own, a child of fork, which lets go in either case. */
void relay_run(struct relay_end *ends, int n, int go, bool apart) __attribute__((noreturn));

/** The address that a number which came over exec stands for (peer: its other side). 0, or -ENOENT: not one of these.
 */
int relay_name(int fd, bool peer, struct sockaddr *sa, socklen_t *len);
/** True if fd came over exec and stands for a socket of datagrams. */
bool relay_is_dgram(int fd);
/** What SO_DOMAIN and SO_PROTOCOL of a connection that came over exec are. 0 or -ENOENT: the kernel's answer is right.
 */
int relay_option(int fd, int level, int name, int *value);

/** What the executed program needs to know about its end, for the environment: one entry behind `text`. 0 or -ENOSPC.
 */
int relay_tell(char *text, unsigned room, int line, const struct relay_end *e);
/** Room for n entries, those that came to this program included, and the variable's name. */
unsigned relay_room(int n);
/** Begins such a text: the variable's name, and what came to this program (for numbers that go on as they are). */
void relay_begin(char *text, unsigned room);
#define RELAY_ENV "LDP_EXEC"

#endif
