/*
 * AF_UNIX SOCK_SEQPACKET with descriptors beside the message: the transport below the attach and custody conversations.
 *
 * Called by the broker (server), by engine, nicio and api (custody clients) and by the library inside other people's
 * programs (attach client), so nothing here logs, allocates, changes the umask or raises a signal. Any thread; a
 * descriptor is used by one thread at a time.
 */
#include "ctl/attach.h"

#include "base/err.h"

#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/** Fills a socket address. Returns its length or -errno. */
static int attach_addr(struct sockaddr_un *sa, const char *path) {
  size_t len = strlen(path);
  if (len == 0)
    return -EINVAL;
  if (len >= sizeof sa->sun_path)
    return -ENAMETOOLONG;
  memset(sa, 0, sizeof *sa);
  sa->sun_family = AF_UNIX;
  memcpy(sa->sun_path, path, len + 1);
  return (int)(offsetof(struct sockaddr_un, sun_path) + len + 1);
}

/** Makes the folders above `path`, mode 0755. */
static int attach_mkdirs(const char *path) {
  char dir[sizeof((struct sockaddr_un *)0)->sun_path];
  size_t len = strlen(path);
  if (len >= sizeof dir)
    return -ENAMETOOLONG;
  memcpy(dir, path, len + 1);
  for (char *p = dir + 1; *p != '\0'; p++) {
    if (*p != '/')
      continue;
    *p = '\0';
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
      return err_last();
    *p = '/';
  }
  return 0;
}

/** Whether somebody answers at the address. A stale socket file is removed. 0 or -errno. */
static int attach_clear(const char *path, const struct sockaddr_un *sa, socklen_t sa_len) {
  struct stat st;
  if (lstat(path, &st) < 0)
    return errno == ENOENT ? 0 : err_last();
  if (!S_ISSOCK(st.st_mode))
    return -EADDRINUSE;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return err_last();
  int rc = connect(fd, (const struct sockaddr *)sa, sa_len) == 0 ? 0 : err_last();
  close(fd);
  if (rc == -ENOENT)
    return 0;
  if (rc != -ECONNREFUSED) /* answered, its queue is full, or it is a socket of another type */
    return -EADDRINUSE;
  return unlink(path) == 0 || errno == ENOENT ? 0 : err_last();
}

void attach_forget(const char *path) {
  struct sockaddr_un sa;
  int len = attach_addr(&sa, path);
  if (len >= 0)
    (void)attach_clear(path, &sa, (socklen_t)len);
}

int attach_listen(const char *path, unsigned mode, int backlog) {
  struct sockaddr_un sa;
  int len = attach_addr(&sa, path);
  if (len < 0)
    return len;
  int rc = attach_mkdirs(path);
  if (rc == 0)
    rc = attach_clear(path, &sa, (socklen_t)len);
  if (rc < 0)
    return rc;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return err_last();
  /* The file is born with the socket's mode less the umask, so it is never wider than `mode`; chmod takes the umask's
   * part back. */
  if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)&sa, (socklen_t)len) < 0)
    goto out;
  if (chmod(path, mode) < 0 || listen(fd, backlog) < 0) {
    rc = err_last();
    unlink(path);
    close(fd);
    return rc;
  }
  return fd;
out:
  rc = err_last();
  close(fd);
  return rc;
}

static int attach_connect_as(const char *path, int type) {
  struct sockaddr_un sa;
  int len = attach_addr(&sa, path);
  if (len < 0)
    return len;
  int fd = socket(AF_UNIX, type, 0);
  if (fd < 0)
    return err_last();
  int rc;
  do
    rc = connect(fd, (const struct sockaddr *)&sa, (socklen_t)len);
  while (rc < 0 && errno == EINTR);
  if (rc < 0) {
    rc = err_last();
    close(fd);
    return rc;
  }
  return fd;
}

int attach_connect(const char *path) {
  return attach_connect_as(path, SOCK_SEQPACKET | SOCK_CLOEXEC);
}

int attach_connect_nb(const char *path) {
  return attach_connect_as(path, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK);
}

int attach_accept(int fd) {
  int rc;
  do
    rc = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  while (rc < 0 && errno == EINTR);
  return rc < 0 ? err_last() : rc;
}

int attach_peer(int fd, struct attach_cred *out) {
  struct ucred uc;
  socklen_t len = sizeof uc;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &uc, &len) < 0)
    return err_last();
  if (len != sizeof uc)
    return -EPROTO;
  out->pid = (int32_t)uc.pid;
  out->uid = (uint32_t)uc.uid;
  out->gid = (uint32_t)uc.gid;
  return 0;
}

int attach_send(int fd, const void *msg, size_t len, const int *fds, int n_fds) {
  union {
    struct cmsghdr align;
    char room[CMSG_SPACE(sizeof(int) * ATTACH_FDS_MAX)];
  } ctl;
  if (len == 0 || n_fds < 0 || n_fds > ATTACH_FDS_MAX)
    return -EINVAL; /* an empty datagram would read as end of file */
  if (len > ATTACH_MSG_MAX)
    return -EMSGSIZE;
  struct iovec iov = {.iov_base = (void *)(uintptr_t)msg, .iov_len = len};
  struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
  if (n_fds > 0) {
    size_t bytes = sizeof(int) * (size_t)n_fds;
    memset(&ctl, 0, sizeof ctl);
    mh.msg_control = ctl.room;
    mh.msg_controllen = CMSG_SPACE(bytes);
    struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
    cm->cmsg_level = SOL_SOCKET;
    cm->cmsg_type = SCM_RIGHTS;
    cm->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(cm), fds, bytes);
  }
  ssize_t n;
  do
    n = sendmsg(fd, &mh, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  if (n >= 0)
    return 0;
  return errno == ECONNRESET ? -EPIPE : err_last(); /* nobody reads any more, whether or not all was read */
}

/** Collects descriptors of a received message; those beyond `max_fds` are closed. Returns 0 or -EMSGSIZE. */
static int attach_take_fds(struct msghdr *mh, int *fds, int max_fds, int *n_fds) {
  int rc = 0;
  for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm != NULL; cm = CMSG_NXTHDR(mh, cm)) {
    if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
      continue;
    size_t n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof fd);
      if (*n_fds < max_fds) {
        fds[(*n_fds)++] = fd;
      } else {
        close(fd);
        rc = -EMSGSIZE;
      }
    }
  }
  return rc;
}

ssize_t attach_recv(int fd, void *buf, size_t cap, int *fds, int max_fds, int *n_fds) {
  union {
    struct cmsghdr align;
    char room[CMSG_SPACE(sizeof(int) * ATTACH_FDS_MAX)];
  } ctl;
  struct iovec iov = {.iov_base = buf, .iov_len = cap};
  struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
  int got = 0;
  if (max_fds > 0) { /* without room for them the kernel discards descriptors unopened and says so */
    mh.msg_control = ctl.room;
    mh.msg_controllen = sizeof ctl.room;
  }
  ssize_t n;
  do
    n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n_fds != NULL)
    *n_fds = 0;
  if (n < 0)
    return err_last();
  int rc = attach_take_fds(&mh, fds, max_fds, &got);
  if (rc == 0 && (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    rc = -EMSGSIZE;
  if (rc == 0 && n == 0 && got > 0) /* nothing said, but descriptors sent: no message of ours */
    rc = -EPROTO;
  if (rc < 0) {
    while (got > 0)
      close(fds[--got]);
    return rc;
  }
  if (n_fds != NULL)
    *n_fds = got;
  return n;
}
