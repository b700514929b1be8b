/*
 * What exec.c and spawn.c share: connections of the stack that go on in a program that is executed.
 */
#ifndef HS_LDP_EXEC_H
#define HS_LDP_EXEC_H

#include "relay.h"
#include "sock.h"

#include <spawn.h>
#include <stdbool.h>

struct exec {
  int n;
  int left;    /* sockets that can't go along */
  bool spawns; /* this process goes on: posix_spawn */
  bool blind;  /* the program won't be under the shim: only what it can use without goes along */
  struct sock *sock[RELAY_MAX];
  struct relay_end end[RELAY_MAX];
  int far[RELAY_MAX]; /* the program's end */
  int go[2];
  const char *command; /* of a shell, or NULL */
  char *env;           /* RELAY_ENV=..., on the heap */
};

/** Makes the relay and puts the pairs' ends at the connections' numbers. False: nothing goes along, nothing has
 * changed. spawns: this process goes on with its connections, and the relay is one more holder of them. blind: from
 * exec_say. command: a shell's, or NULL; numbers that it names as input are meant to be read by it. */
bool exec_begin(struct exec *x, bool spawns, bool blind, const char *command);
/** True if a socket on the stack would go along with what is executed now: something of exec_begin is needed. */
bool exec_would(void);
/** posix_spawn of a shell with this command (posix_spawn(3)): 0 or an errno, positive. */
int spawn_command(pid_t *pid, const char *path, const posix_spawnattr_t *attr, char *const argv[], const char *command);
/** The numbers are again what they were; if the program was not `executed` the relay ends without a trace. Keeps errno.
 */
void exec_end(struct exec *x, bool executed);
/** A copy of the environment with `entry` in place of an older one; to be freed. NULL: no memory. */
char **exec_env(char *const *env, char *entry);
/** True if the program that is about to be executed can't be accelerated; LDP_DEBUG says so, as it can't do so itself.
 * Looks only if somebody wants to know. */
bool exec_say(bool search, const char *file, int fd, char *const argv[], char *const env[]);

#endif
