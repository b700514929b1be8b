/*
 * Logs: blocks of TCP_LOG_SIZE that a connection borrows while it has much to remember, as a sender (tcp_sent.c: what
 * is out, and the scoreboard) or as a receiver (tcp_ooo.c: ranges beyond holes). What came back last is lent first, so
 * memory is touched only as far as so many were out at once. Receivers leave a quarter to the senders: how many holes
 * there are is the peer's choice. Called in the worker's thread.
 */
#include "tcp_int.h"

void tcp_env_memory(struct tcp_env *e, void *mem, size_t bytes) {
  e->log_free = NULL;
  e->log_mem = mem;
  e->log_left = mem != NULL ? bytes : 0;
  e->logs = (uint32_t)(e->log_left / TCP_LOG_SIZE);
  e->logs_out = 0;
}

/** A block, its content anything; NULL: none is free. */
void *tcp_log_get(struct tcp_env *e, int for_receiver) {
  struct tcp_log *g = e->log_free;
  if (for_receiver && e->logs_out >= e->logs - e->logs / 4)
    return NULL;
  if (g != NULL) {
    e->log_free = g->next;
  } else if (e->log_left >= TCP_LOG_SIZE) {
    g = (struct tcp_log *)(void *)e->log_mem;
    e->log_mem += TCP_LOG_SIZE;
    e->log_left -= TCP_LOG_SIZE;
  } else {
    return NULL;
  }
  e->logs_out++;
  return g;
}

void tcp_log_put(struct tcp_env *e, void *log) {
  struct tcp_log *g = log;
  g->next = e->log_free;
  e->log_free = g;
  e->logs_out--;
}
