/*
 * hs-api: control-plane API server. Serves RUN_DIR/api.ctl for hsctl on this machine and the configured NNG urls.
 */
#include "api.h"

#include "base/log.h"

#include <string.h>

int main(int argc, char **argv) {
  static struct api a;
  int rc = svc_start(&a.svc, "api", argc, argv, api_handle, &a);
  if (rc)
    return rc < 0;
  for (uint32_t i = 0; i < a.svc.cfg.n_api_listen; i++) {
    rc = rpc_server_listen(a.svc.rpc, a.svc.cfg.api_listen[i]);
    if (rc == 0)
      continue;
    log_error("api.listen", "api.listen: cannot listen at %s: %s", a.svc.cfg.api_listen[i], strerror(-rc));
    svc_stop(&a.svc);
    return 1;
  }
  svc_ready(&a.svc);
  rc = loop_run(a.svc.loop);
  api_close(&a);
  svc_stop(&a.svc);
  return rc != 0;
}
