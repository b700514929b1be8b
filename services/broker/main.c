/*
 * hs-broker: applications, workers, namespaces, listeners, and the creation of every shared segment and bell.
 *
 * One process, one thread. Nothing here is on a data path: while it is down, attach and listen wait a moment and all
 * else goes on. Its memory is the registry segment, which engine and nicio hold for the next one (boot.c).
 */
#include "broker.h"

#include "base/log.h"

int main(int argc, char **argv) {
  static struct broker b;
  broker_init(&b);
  int rc = svc_start(&b.svc, "broker", argc, argv, broker_ctl, &b);
  if (rc != 0)
    return rc > 0 ? 0 : 1;
  rc = attach_srv_start(&b);
  if (rc == 0)
    rc = custody_srv_start(&b);
  if (rc == 0)
    rc = loop_run(b.svc.loop);
  log_info("broker.stop", "%s", rc < 0 ? err_text(rc) : "asked to stop");
  broker_fini(&b);
  svc_stop(&b.svc);
  return rc < 0 ? 1 : 0;
}
