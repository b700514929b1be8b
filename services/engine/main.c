/*
 * hs-engine: TCP engine. Starts the control thread's loop; the workers start when the broker has given everything.
 */
#include "engine.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static void engine_mail(void *ctx, int fd, uint32_t events) {
  struct engine *e = ctx;
  uint64_t count;
  (void)events;
  (void)!read(fd, &count, sizeof count);
  (void)mailbox_run(&e->back, NULL);
}

int main(int argc, char **argv) {
  static struct engine e;
  char path[128];
  e.stats.fd = e.registry.fd = -1;
  int rc = svc_start(&e.svc, "engine", argc, argv, engine_ctl, &e);
  if (rc)
    return rc < 0;
  rc = mailbox_init(&e.back);
  if (rc == 0)
    rc = loop_add_fd(e.svc.loop, e.back.bell, EPOLLIN, engine_mail, &e);
  if (rc == 0)
    rc = custody_new(&e.custody, e.svc.loop, svc_path(&e.svc, CUSTODY_SOCKET, path, sizeof path), CUSTODY_ENGINE,
                     &engine_custody_ops, &e);
  if (rc) {
    log_error("engine.start", "cannot start: %s", strerror(-rc));
    svc_stop(&e.svc);
    return 1;
  }
  rc = loop_run(e.svc.loop);
  if (e.running) {
    for (uint32_t k = 0; k < e.group.n; k++)
      __atomic_store_n(&e.group.w[k]->stop, 1, __ATOMIC_RELAXED);
    (void)engine_post(&e, engine_nop, NULL);
    for (uint32_t k = 0; k < e.group.n; k++)
      pthread_join(e.thread[k], NULL);
    engine_count(&e);
    for (uint32_t k = e.group.n; k > 0; k--) {
      worker_fini(e.group.w[k - 1]);
      if (k > 1)
        free(e.group.w[k - 1]);
    }
    free(e.before);
  }
  custody_free(e.custody);
  seg_detach(&e.stats);
  seg_detach(&e.registry);
  svc_stop(&e.svc);
  return rc != 0;
}
