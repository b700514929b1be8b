/*
 * What the shim does for connections that a family holds together (share.h). Called by fork handlers, by blocking calls
 * of any thread, and by whoever exits.
 */
#include "share.h"

#include "app.h"
#include "fd.h"
#include "sock.h"

static int share_any_one(int fd, struct fd_file *f, void *ctx) {
  (void)fd;
  if (f->kind == FD_SOCK && (sock_flags((struct sock *)f) & SOCK_F_HELD))
    *(bool *)ctx = true;
  return *(bool *)ctx;
}

bool share_any(void) {
  bool any = false;
  fd_each(NULL, share_any_one, &any);
  return any;
}

bool share_waiting(void) {
  return vcl_kin_waiting() != 0;
}

void share_sweep(void) {
  if (share_waiting())
    (void)vcl_pump();
}

void share_exit(void) {
  if (fd_held() > 0)
    return; /* a signal handler ends the process in the middle of a call, whose locks we would wait for */
  if (app_attached() && !fd_foreign_process())
    vcl_kin_exit();
}
