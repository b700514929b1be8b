/*
 * Interposed _exit: a forked child that ends without closing leaves the connections that it inherited (share.h).
 * exit() does the same from the library's destructor. A child that is killed is noticed by its parent.
 */
#include "export.h"
#include "share.h"

#include <sys/syscall.h>
#include <unistd.h>

void ldp__exit(int status) {
  share_exit();
  for (;;)
    syscall(SYS_exit_group, status);
}

void ldp__Exit(int status) {
  ldp__exit(status);
}
