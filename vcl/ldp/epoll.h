/*
 * Epoll sets that may hold both kinds of descriptors: a real kernel epoll, and beside it a vppcom set.
 *
 * The program's epoll fd is the kernel's. When the first stack session joins, a vppcom set is made and the descriptors
 * of its waiter join the kernel's set with a private mark, so one kernel sleep is woken by both sides.
 */
#ifndef HS_LDP_EPOLL_H
#define HS_LDP_EPOLL_H

#include "fd.h"
#include "vcl_wait.h"

#include <sys/epoll.h>

struct sock;
struct epoll;

/** A stack session in a set. Under epoll.c's lock. */
struct epoll_member {
  struct epoll *ep;
  struct sock *s;
  int fd; /* the number it was added by */
  struct epoll_event ev;
  struct epoll_member *next_in_sock;
  struct epoll_member **at_in_ep; /* doubly linked in the set */
  struct epoll_member *next_in_ep;
};

struct epoll {
  struct fd_file file; /* first */
  uint32_t vep;        /* atomic: vppcom set, INVALID_SESSION_ID while only the kernel is concerned */
  int kernel_fd;       /* the library's own dup of the set */
  struct vcl_waiter w; /* of the set; used by the thread that owns `busy` */
  uint32_t busy;       /* atomic */
  uint32_t raw_n;      /* atomic: threads in the kernel's set as if it were all there is (epoll_wait.c) */
  int join_fd;         /* atomic: readable in the kernel set until they have left; -1 */
  uint32_t kernel_n;   /* atomic: kernel members, at least (closing removes without a word) */
  uint32_t kernel_hot; /* the kernel side had something last time */
  uint32_t turn;       /* alternates when there is room for one event only */
  int64_t looked_ns;   /* when the kernel side was looked at last */
  uint32_t inherited;  /* made by the parent of a fork */
  uint32_t nested;     /* member of another kernel set, which sleeps on our kernel set without us */
  uint32_t idle_armed; /* nested: the waiter is armed although nobody of ours sleeps on it */
  int nudge_fd;        /* nested: eventfd in the kernel set, readable while the stack has something */
  struct epoll_member *members;
};

/** The last descriptor of the set is closed (fd_put). */
void epoll_end(struct epoll *ep);
/** s ends: it leaves all sets. */
void epoll_forget_sock(struct sock *s);
/** s gets a new session. */
void epoll_swap_session(struct sock *s, uint32_t h);
/** fd is a kernel socket from here on: its memberships move to the kernel's sets. */
void epoll_hand_to_kernel(struct sock *s, int fd);
/** The vppcom set, or INVALID_SESSION_ID. */
static inline uint32_t epoll_vep(const struct epoll *ep) {
  return __atomic_load_n(&ep->vep, __ATOMIC_ACQUIRE);
}
/** The data.u64 by which the waiter's own events are told from the program's: an address that only we have. */
static inline uint64_t epoll_mark(const struct epoll *ep) {
  return (uint64_t)(uintptr_t)ep + 1;
}
/** fork: held over it, made anew in the child, whose inherited sets with stack sessions are refused. */
void epoll_lock(void);
void epoll_unlock(void);
void epoll_fork_child(void);

/** A nested set is left either readable in the kernel or armed, so that the outer set is woken. */
void epoll_settle(struct epoll *ep);
/** A thread enters a wait on the kernel's set alone: 1, or 0 when there is a vppcom set by now. */
int epoll_raw_enter(struct epoll *ep);
void epoll_raw_leave(struct epoll *ep);
/** Before our own look: takes back what epoll_settle did. The caller owns `busy`. */
void epoll_unsettle(struct epoll *ep);

/** Nanoseconds, CLOCK_MONOTONIC. */
int64_t epoll_now_ns(void);

#endif
