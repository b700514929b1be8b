/*
 * What fd.c and share.c call beneath and beside them: counted, nothing more.
 */
#ifndef HS_TEST_LDP_FAKES_H
#define HS_TEST_LDP_FAKES_H

#include "ldp/epoll.h"
#include "ldp/sock.h"

static int fakes_socks_ended, fakes_epolls_ended; /* atomic */
static int *fakes_closed;                         /* atomic: sessions closed, where a test wants them counted */

void sock_end(struct sock *s) {
  (void)s;
  __atomic_add_fetch(&fakes_socks_ended, 1, __ATOMIC_SEQ_CST);
}

void epoll_end(struct epoll *ep) {
  (void)ep;
  __atomic_add_fetch(&fakes_epolls_ended, 1, __ATOMIC_SEQ_CST);
}

/* What a child says for an owner that has left already. */
int vppcom_session_shutdown(uint32_t session_handle, int how) {
  (void)session_handle;
  assert_int_equal(how, SHUT_RDWR);
  if (fakes_closed)
    __atomic_add_fetch(fakes_closed, 1, __ATOMIC_SEQ_CST);
  return 0;
}

/* Counts closes of the owner only: of an inherited session a close says nothing to the engine. */
static bool fakes_child;
int vppcom_session_close(uint32_t session_handle) {
  (void)session_handle;
  if (fakes_child)
    return 0;
  if (fakes_closed)
    __atomic_add_fetch(fakes_closed, 1, __ATOMIC_SEQ_CST);
  return 0;
}

static struct sock *fakes_sock(uint32_t flags) {
  struct sock *s = (struct sock *)fd_file_new(FD_SOCK, sizeof(*s));
  assert_non_null(s);
  s->flags = flags;
  return s;
}

#endif
