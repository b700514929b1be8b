/*
 * syscall(2): programs that name a call by its number. libuv does so for sendmmsg and recvmmsg, and with it node and
 * dig.
 *
 * The numbers of calls that we put ourselves in front of lead to the same functions as their names; all others go to
 * the kernel. Any thread. Where number and name differ in their arguments (preadv2's split offset), the number is the
 * kernel's: on a stack descriptor that is the seat, which says ESPIPE or ENOTCONN.
 */
#include "export.h"
#include "real.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>

#define RAW_ARGS     6
#define RAW_SIGSET   8 /* bytes of the kernel's signal set */
#define RAW_INT(i)   ((int)a[i])
#define RAW_SIZE(i)  ((size_t)a[i])
#define RAW_PTR(i)   ((void *)a[i]) /* NOLINT: that is what a system call's argument is */
#define RAW_LEN_P(i) ((socklen_t *)RAW_PTR(i))

/* In here a plain call of these means the kernel (inner.h): the linker's __real_ is the one that programs see. */
#define RAW_OURS(name) extern __typeof__(ldp_##name) raw_##name __asm__("__real_" #name)
RAW_OURS(socket);
RAW_OURS(connect);
RAW_OURS(getsockopt);
RAW_OURS(setsockopt);
RAW_OURS(shutdown);
RAW_OURS(close);
RAW_OURS(dup);
RAW_OURS(fcntl);
RAW_OURS(ioctl);
RAW_OURS(read);
RAW_OURS(write);
RAW_OURS(recvmsg);
RAW_OURS(sendmsg);
RAW_OURS(epoll_create1);
RAW_OURS(epoll_ctl);
RAW_OURS(epoll_wait);
RAW_OURS(poll);
RAW_OURS(ppoll);

/* libc's signal set from the kernel's, NULL without one. */
static const sigset_t *raw_mask(const void *mask, size_t size, sigset_t *room) {
  if (mask == NULL || size != RAW_SIGSET)
    return NULL;
  memset(room, 0, sizeof(*room));
  memcpy(room, mask, RAW_SIGSET);
  return room;
}

/* The calls that make, name and end sockets. False: it is another one. */
static bool raw_sockets(long number, const long *a, long *rc) {
  switch (number) {
  case SYS_socket:
    *rc = raw_socket(RAW_INT(0), RAW_INT(1), RAW_INT(2));
    break;
  case SYS_bind:
    *rc = ldp_bind(RAW_INT(0), RAW_PTR(1), (socklen_t)a[2]);
    break;
  case SYS_listen:
    *rc = ldp_listen(RAW_INT(0), RAW_INT(1));
    break;
  case SYS_accept:
    *rc = ldp_accept(RAW_INT(0), RAW_PTR(1), RAW_LEN_P(2));
    break;
  case SYS_accept4:
    *rc = ldp_accept4(RAW_INT(0), RAW_PTR(1), RAW_LEN_P(2), RAW_INT(3));
    break;
  case SYS_connect:
    *rc = raw_connect(RAW_INT(0), RAW_PTR(1), (socklen_t)a[2]);
    break;
  case SYS_getsockname:
    *rc = ldp_getsockname(RAW_INT(0), RAW_PTR(1), RAW_LEN_P(2));
    break;
  case SYS_getpeername:
    *rc = ldp_getpeername(RAW_INT(0), RAW_PTR(1), RAW_LEN_P(2));
    break;
  case SYS_getsockopt:
    *rc = raw_getsockopt(RAW_INT(0), RAW_INT(1), RAW_INT(2), RAW_PTR(3), RAW_LEN_P(4));
    break;
  case SYS_setsockopt:
    *rc = raw_setsockopt(RAW_INT(0), RAW_INT(1), RAW_INT(2), RAW_PTR(3), (socklen_t)a[4]);
    break;
  case SYS_shutdown:
    *rc = raw_shutdown(RAW_INT(0), RAW_INT(1));
    break;
  case SYS_close:
    *rc = raw_close(RAW_INT(0));
    break;
  case SYS_close_range:
    *rc = ldp_close_range((unsigned)a[0], (unsigned)a[1], RAW_INT(2));
    break;
  case SYS_dup:
    *rc = raw_dup(RAW_INT(0));
    break;
  case SYS_dup3:
    *rc = ldp_dup3(RAW_INT(0), RAW_INT(1), RAW_INT(2));
    break;
  case SYS_fcntl:
    *rc = raw_fcntl(RAW_INT(0), RAW_INT(1), RAW_PTR(2));
    break;
  case SYS_ioctl:
    *rc = raw_ioctl(RAW_INT(0), (unsigned long)a[1], RAW_PTR(2));
    break;
#ifdef SYS_dup2
  case SYS_dup2:
    *rc = ldp_dup2(RAW_INT(0), RAW_INT(1));
    break;
#endif
  default:
    return false;
  }
  return true;
}

/* Those that move bytes. */
static bool raw_bytes(long number, const long *a, long *rc) {
  switch (number) {
  case SYS_read:
    *rc = raw_read(RAW_INT(0), RAW_PTR(1), RAW_SIZE(2));
    break;
  case SYS_write:
    *rc = raw_write(RAW_INT(0), RAW_PTR(1), RAW_SIZE(2));
    break;
  case SYS_readv:
    *rc = ldp_readv(RAW_INT(0), RAW_PTR(1), RAW_INT(2));
    break;
  case SYS_writev:
    *rc = ldp_writev(RAW_INT(0), RAW_PTR(1), RAW_INT(2));
    break;
  case SYS_recvfrom:
    *rc = ldp_recvfrom(RAW_INT(0), RAW_PTR(1), RAW_SIZE(2), RAW_INT(3), RAW_PTR(4), RAW_LEN_P(5));
    break;
  case SYS_sendto:
    *rc = ldp_sendto(RAW_INT(0), RAW_PTR(1), RAW_SIZE(2), RAW_INT(3), RAW_PTR(4), (socklen_t)a[5]);
    break;
  case SYS_recvmsg:
    *rc = raw_recvmsg(RAW_INT(0), RAW_PTR(1), RAW_INT(2));
    break;
  case SYS_sendmsg:
    *rc = raw_sendmsg(RAW_INT(0), RAW_PTR(1), RAW_INT(2));
    break;
  case SYS_recvmmsg:
    *rc = ldp_recvmmsg(RAW_INT(0), RAW_PTR(1), (unsigned)a[2], RAW_INT(3), RAW_PTR(4));
    break;
  case SYS_sendmmsg:
    *rc = ldp_sendmmsg(RAW_INT(0), RAW_PTR(1), (unsigned)a[2], RAW_INT(3));
    break;
  case SYS_sendfile:
    *rc = ldp_sendfile(RAW_INT(0), RAW_INT(1), RAW_PTR(2), RAW_SIZE(3));
    break;
  case SYS_splice:
    *rc = ldp_splice(RAW_INT(0), RAW_PTR(1), RAW_INT(2), RAW_PTR(3), RAW_SIZE(4), (unsigned)a[5]);
    break;
  default:
    return false;
  }
  return true;
}

/* Those that wait. */
static bool raw_wait(long number, const long *a, long *rc) {
  sigset_t room;
  switch (number) {
  case SYS_epoll_create1:
    *rc = raw_epoll_create1(RAW_INT(0));
    break;
  case SYS_epoll_ctl:
    *rc = raw_epoll_ctl(RAW_INT(0), RAW_INT(1), RAW_INT(2), RAW_PTR(3));
    break;
  case SYS_epoll_pwait:
    *rc = ldp_epoll_pwait(RAW_INT(0), RAW_PTR(1), RAW_INT(2), RAW_INT(3), raw_mask(RAW_PTR(4), RAW_SIZE(5), &room));
    break;
  case SYS_ppoll:
    *rc = raw_ppoll(RAW_PTR(0), (nfds_t)a[1], RAW_PTR(2), raw_mask(RAW_PTR(3), RAW_SIZE(4), &room));
    break;
#ifdef SYS_poll
  case SYS_poll:
    *rc = raw_poll(RAW_PTR(0), (nfds_t)a[1], RAW_INT(2));
    break;
  case SYS_select:
    *rc = ldp_select(RAW_INT(0), RAW_PTR(1), RAW_PTR(2), RAW_PTR(3), RAW_PTR(4));
    break;
  case SYS_epoll_create:
    *rc = ldp_epoll_create(RAW_INT(0));
    break;
  case SYS_epoll_wait:
    *rc = raw_epoll_wait(RAW_INT(0), RAW_PTR(1), RAW_INT(2), RAW_INT(3));
    break;
#endif
  default:
    return false;
  }
  return true;
}

long ldp_syscall(long number, ...) {
  long a[RAW_ARGS], rc;
  va_list ap;
  va_start(ap, number);
  for (int i = 0; i < RAW_ARGS; i++) /* as libc does, however many the caller gave */
    a[i] = va_arg(ap, long);
  va_end(ap);
  if (raw_sockets(number, a, &rc) || raw_bytes(number, a, &rc) || raw_wait(number, a, &rc))
    return rc;
  return real.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
