/*
 * How the preload shim waits and shares: the private face of libvppcom, under a version node of its own.
 *
 * The shim serves many threads with worker 0. After vcl_lock_mode(1) every vppcom and vcl call from any thread acts as
 * worker 0 and serialises on its mutex, which blocking waits release. Whoever sleeps has a waiter. Hints that any
 * thread drains are dispatched to the waiters of the session that they name; a waiter that sleeps is kicked through its
 * own eventfd. A waiter's loop is always the same:
 *
 *     for (;;) {
 *       look at the facts (vcl_session_events, vppcom_epoll_wait(vep, .., 0)); leave if there is something;
 *       if (!vcl_sleep_begin(w)) continue;     something came since: look again
 *       poll(the fds of vcl_waiter_fds (or vcl_waiter_fd) and kernel fds, time left);
 *       vcl_sleep_end(w);
 *     }
 *
 * No call here touches the session's data; all are safe in any thread when lock mode is on. Between vcl_sleep_begin
 * returning 1 and vcl_sleep_end a thread holds no lock. Not async-signal-safe.
 */
#ifndef HS_VCL_WAIT_H
#define HS_VCL_WAIT_H

#include "vppcom.h"

struct vcl_waiter_priv;

/** One per epoll set or per blocked call. Zero-filled before vcl_waiter_init. */
struct vcl_waiter {
  int fd;      /* the bell, or -1 */
  int kick_fd; /* own eventfd */
  struct vcl_waiter_priv *priv;
};

/** 1: all calls of all threads act as worker 0 under its mutex (may be called before vppcom_app_create). 0 turns it
 * off; only while no other thread is inside. Returns the former mode. */
int vcl_lock_mode(int on);

/** EPOLLIN OUT RDHUP HUP ERR (and PRI) bits that are true now, 0 for a bad handle. A fresh, unconnected stream reads as
 * on Linux: EPOLLOUT | EPOLLHUP. For an epoll set: EPOLLIN when vppcom_epoll_wait would return something. */
uint32_t vcl_session_events(uint32_t h);

/** 0, -ENOMEM, -EMFILE; -ENODEV before the app exists. */
int vcl_waiter_init(struct vcl_waiter *w);
void vcl_waiter_fini(struct vcl_waiter *w);
/** The descriptors to watch (level-triggered, POLLIN) while asleep: the bell and the own eventfd. Returns how many (2).
 * Cheaper than vcl_waiter_fd for poll(). They stay the same for the life of the waiter; never read or close them. */
int vcl_waiter_fds(struct vcl_waiter *w, int fds[2]);
/** One descriptor in their place, an epoll fd around both, made at the first call. fd or -errno. */
int vcl_waiter_fd(struct vcl_waiter *w);
/** Hints of h concern w from now on. h is a session or an epoll set (then: whatever concerns a member). Attaching twice
 * counts once; closing h detaches. 0, -EBADFD, -ENOMEM. Look at the facts after it, then sleep. */
int vcl_waiter_attach(struct vcl_waiter *w, uint32_t h);
void vcl_waiter_detach(struct vcl_waiter *w, uint32_t h);
/** Drain hints, arm the bell, look again. 1 = safe to sleep on the fds, 0 = something concerns w: look at the facts
 * again (nothing to end then). */
int vcl_sleep_begin(struct vcl_waiter *w);
/** After the sleep, whatever ended it: drains the bell and the own eventfd, dispatches hints, kicks other waiters. */
void vcl_sleep_end(struct vcl_waiter *w);
/** Short guarded spin before a sleep that only the stack can end. 1 = something concerns w. */
int vcl_spin(struct vcl_waiter *w);
/** A socket whose session was made is the kernel's from now on; `hsctl show app` tells of it. */
void vcl_count_moved(void);
/** Look at the hint rings without a waiter: cheap when empty. Number of hints dispatched. */
int vcl_pump(void);

/** Until any bit of `events` (EPOLLHUP and EPOLLERR always) is true. timeout in microseconds, negative = for ever.
 * 0 ready, -ETIMEDOUT, -EINTR, -EBADFD. */
int vcl_session_wait(uint32_t h, uint32_t events, int64_t timeout_us);

/** pthread_atfork's three: prepare holds the worker over the fork, parent and child let go of it. -ENODEV: no app. */
int vcl_fork_prepare(void);
int vcl_fork_parent(void);
/** In the child of a fork, before anything else of the library: the parent's worker is no longer our own; on first use
 * the child says Hello with the parent's token and gets a worker 0 of its own. Handles stay valid: a listener becomes a
 * share of the parent's (registered when it is first accepted from or waited for), a connected session goes on through
 * the segments of whoever made it, under a lock, and ends when the last process that holds it closes it or is gone. 0
 * or -errno. */
int vcl_fork_child(void);
/** After vcl_fork_prepare, in the parent: its child ended, or was never made, before vcl_fork_child. */
void vcl_fork_unborn(void);
/** In a copy of the process made by _Fork, which goes on in its place: it holds what that holds. */
void vcl_fork_again(void);
/** Whether no other process holds the session. */
int vcl_session_alone(uint32_t h);
/** Whether this process should look now and then (vcl_pump) for connections whose other holders have died. */
int vcl_kin_waiting(void);
/** Before the process exits, if it has a parent or children: what it holds alone ends at once. */
void vcl_kin_exit(void);
/** In a copy of the process that is not wanted after all: it holds nothing from here on, and must only end. */
void vcl_kin_forget(void);
/** Make the child's share of every inherited listener now, so that they outlive the parent (daemon(3)). Number of
 * listeners that are now shared, or -errno. */
int vcl_fork_share(void);

/** What a program that is executed needs to have a share of a listener: told by its predecessor over a private line. */
struct vcl_heir {
  uint8_t token[16]; /* of the process that holds it; who knows it is of that process's application */
  uint8_t ip[16];    /* where it listens */
  uint32_t listener; /* the broker's id */
  uint32_t backlog;
  uint16_t port; /* network order */
  uint8_t family, domain, v6only, reuse;
  uint8_t rest[2];
};
/** Fills *out for a listener. 0, -EINVAL: it is none, -EBADFD. */
int vcl_heir_tell(uint32_t h, struct vcl_heir *out);
/** A later vppcom_app_create attaches as a process of the application that this token is of. */
void vcl_heir_join(const uint8_t token[16]);
/** A new session: a share of that listener. Handle or -errno; -ENOENT, -EACCES: the broker knows it no more. */
int vcl_heir_listen(const struct vcl_heir *in);

#endif
