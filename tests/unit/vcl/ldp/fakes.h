/*
 * What fd.c calls beneath and beside them: counted, nothing more.
 */
#ifndef HS_TEST_LDP_FAKES_H
#define HS_TEST_LDP_FAKES_H

#include "ldp/epoll.h"
#include "ldp/sock.h"

static int fakes_socks_ended, fakes_epolls_ended; /* atomic */

void sock_end(struct sock *s) {
  (void)s;
  __atomic_add_fetch(&fakes_socks_ended, 1, __ATOMIC_SEQ_CST);
}

void epoll_end(struct epoll *ep) {
  (void)ep;
  __atomic_add_fetch(&fakes_epolls_ended, 1, __ATOMIC_SEQ_CST);
}

static struct sock *fakes_sock(uint32_t flags) {
  struct sock *s = (struct sock *)fd_file_new(FD_SOCK, sizeof(*s));
  assert_non_null(s);
  s->flags = flags;
  return s;
}

#endif
