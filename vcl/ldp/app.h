/*
 * The process as an application of the stack: when it attaches, what the environment asks for, what it says about it.
 *
 * Environment: LDP_TRANSPARENT_TLS (refused: socket() fails), LDP_DEBUG (0..2), LDP_APP_NAME, LDP_REQUIRE=1 (no stack:
 * socket() fails), LDP_LOOPBACK=1 (loopback addresses too go to the stack), LDP_SYSLOG (socket of the system's log,
 * /dev/log), LDP_SID_BIT (accepted, not needed: descriptor numbers are the kernel's here).
 */
#ifndef HS_LDP_APP_H
#define HS_LDP_APP_H

#include <stdbool.h>

struct app_env {
  int debug;
  bool require;
  bool loopback;
};

extern struct app_env app_env;

/** Attaches at the first call. 1 = stream sockets go to the stack, 0 = they stay with the kernel, an error =
 * neither: -EMFILE, -ENFILE, -ENOMEM, -ENOBUFS at a limit, -ENETDOWN without a stack (both only with LDP_REQUIRE), or
 * -EPROTONOSUPPORT with LDP_TRANSPARENT_TLS. */
int app_attach(void);
/** True once attached: nothing of ours can exist before. No lock. */
bool app_attached(void);
/** One line on standard error as it was at load, if LDP_DEBUG is at least `level`; 0 = always. */
void app_say(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** fork: the attach lock is held over it and made anew in the child. */
void app_lock(void);
void app_unlock(void);
void app_lock_reinit(void);

enum app_count { APP_STACK = 0, APP_KERNEL, APP_ACCEPTED, APP_MOVED, APP_COUNTS };
/** Counts sockets by where they went; told at exit under LDP_DEBUG. */
void app_count(enum app_count what);

#endif
