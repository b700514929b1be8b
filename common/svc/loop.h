/*
 * Main loop of a service's control thread: descriptors, timers, signals. One thread. SIGTERM and SIGINT are blocked
 * from loop_new to loop_free: threads inherit that; a child must sigprocmask them free before exec.
 */
#ifndef HS_SVC_LOOP_H
#define HS_SVC_LOOP_H

#include "base/bytes.h"

struct loop;
typedef void (*loop_fd_cb)(void *ctx, int fd, uint32_t events);
typedef void (*loop_timer_cb)(void *ctx);

int loop_new(struct loop **out);
void loop_free(struct loop *l);
/** events: EPOLL* bits. 0 or -errno. */
int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_cb cb, void *ctx);
int loop_mod_fd(struct loop *l, int fd, uint32_t events);
void loop_del_fd(struct loop *l, int fd);
/** Call cb after `delay` µs, again every `every` µs if every > 0. Returns a timer id > 0 or -errno. */
int loop_add_timer(struct loop *l, usec_t delay, usec_t every, loop_timer_cb cb, void *ctx);
void loop_del_timer(struct loop *l, int id);
/** Runs until loop_stop (SIGTERM and SIGINT call it). Returns 0. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);
/** Whether loop_stop was called. */
int loop_stopped(const struct loop *l);
/** One turn: waits at most max_ms (-1: until something happens), runs what is due. Number of callbacks or -errno. For
 * tests and for loops that sit inside another one. */
int loop_turn(struct loop *l, int max_ms);

#endif
