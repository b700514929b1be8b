/*
 * Interposed posix_spawn and vfork: stack connections go on in the program that is executed (exec.h).
 *
 * posix_spawn: the process and its connections stay, so the relay is a child of a fork, one more holder. While libc
 * spawns, the pairs' ends lie at the connections' numbers; that other threads use the connections meanwhile does no
 * harm, for they know them by the table alone. A socket that is close-on-exec goes along if file actions name it.
 *
 * vfork: a child that shares its parent's memory can't have a table of its own. While the process holds a connection it
 * gets a child of fork in its place, as POSIX (vfork, issue 6) lets a system do. Any thread.
 */
#include "app.h"
#include "exec.h"
#include "export.h"
#include "fd.h"
#include "real.h"

#include <dlfcn.h>
#include <spawn.h>
#include <stdlib.h>
#include <unistd.h>

static int spawn_any(bool search, pid_t *pid, const char *path, const posix_spawn_file_actions_t *fa,
                     const posix_spawnattr_t *attr, char *const argv[], char *const env[], const char *command) {
  struct exec x;
  int (*call)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
              char *const[]) = search ? real.posix_spawnp : real.posix_spawn;
  bool blind = exec_say(search, path, -1, argv, env);
  if (!exec_begin(&x, true, blind, command))
    return call(pid, path, fa, attr, argv, env);
  char **with = exec_env(env, x.env);
  int rc = call(pid, path, fa, attr, argv, with ? with : env);
  exec_end(&x, rc == 0);
  free(with);
  return rc;
}

int ldp_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *fa, const posix_spawnattr_t *attr,
                    char *const argv[], char *const env[]) {
  return spawn_any(false, pid, path, fa, attr, argv, env, NULL);
}

int ldp_posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *fa, const posix_spawnattr_t *attr,
                     char *const argv[], char *const env[]) {
  return spawn_any(true, pid, file, fa, attr, argv, env, NULL);
}

int spawn_command(pid_t *pid, const char *path, const posix_spawnattr_t *attr, char *const argv[],
                  const char *command) {
  return spawn_any(false, pid, path, NULL, attr, argv, environ, command);
}

int ldp_posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *fa, int fd, int to) {
  if (fd >= 0 && !fd_foreign_process() && fd_ours(fd))
    fd_flags_set(fd, fd_flags(fd) | FD_FLAG_SPAWN | (to <= STDERR_FILENO ? FD_FLAG_SPAWN_STD : 0));
  return real.posix_spawn_file_actions_adddup2(fa, fd, to);
}

/* --- vfork --- */

static pid_t (*spawn_real_vfork)(void);

__attribute__((constructor(104))) static void spawn_constructor(void) {
  *(void **)&spawn_real_vfork = dlsym(RTLD_NEXT, "vfork");
}

static int spawn_is_connection(int fd, struct fd_file *f, void *ctx) {
  bool *found = ctx;
  (void)fd;
  *found = *found || (f->kind == FD_SOCK && (sock_flags((struct sock *)f) & SOCK_F_HELD));
  return *found;
}

/* What vfork is to be just now; called by the assembly below alone. */
pid_t (*spawn_pick(void))(void) __attribute__((used, visibility("hidden")));
pid_t (*spawn_pick(void))(void) {
  bool found = false;
  if (app_attached() && !fd_foreign_process())
    fd_each(NULL, spawn_is_connection, &found);
  return found || !spawn_real_vfork ? fork : spawn_real_vfork;
}

/* A frame of ours would be gone when vfork returns the second time: a jump, not a call. */
#if defined(__x86_64__)
__asm__(".section .text.vfork, \"ax\", @progbits\n"
        ".globl vfork\n.globl __vfork\n.type vfork, @function\n.type __vfork, @function\n"
        "vfork:\n__vfork:\n"
        "\tendbr64\n\tsubq $8, %rsp\n\tcall spawn_pick\n\taddq $8, %rsp\n\tjmp *%rax\n"
        ".size vfork, . - vfork\n.size __vfork, . - __vfork\n.text\n");
#elif defined(__aarch64__)
__asm__(".section .text.vfork, \"ax\", @progbits\n"
        ".globl vfork\n.globl __vfork\n.type vfork, @function\n.type __vfork, @function\n"
        "vfork:\n__vfork:\n"
        "\tstp x29, x30, [sp, #-16]!\n\tbl spawn_pick\n\tldp x29, x30, [sp], #16\n\tbr x0\n"
        ".size vfork, . - vfork\n.size __vfork, . - __vfork\n.text\n");
#else
#error "vfork: this machine's jump is missing"
#endif
