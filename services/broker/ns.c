/*
 * Namespaces: which one a process may enter. Number 0 is the default one, i + 1 the i-th of broker.namespaces.
 *
 * Called by hello.c and ctl.c on the main thread.
 */
#include "broker.h"

#include "base/log.h"

/** Equal in a time that does not depend on where they differ. */
static int ns_same_secret(uint64_t a, uint64_t b) {
  volatile uint64_t diff = a ^ b;
  return diff == 0;
}

int ns_find(const struct broker *b, const char *id) {
  const struct config *c = &b->svc.cfg;
  if (id[0] == '\0' || strcmp(id, "default") == 0)
    return 0;
  for (uint32_t ns = 1; ns <= c->n_ns; ns++)
    if (strcmp(c->ns[ns - 1].id, id) == 0)
      return (int)ns;
  return -ENOENT;
}

int ns_check(const struct broker *b, uint32_t sock_ns, const char *id, uint64_t secret, const char **text) {
  const struct config *c = &b->svc.cfg;
  uint32_t ns = sock_ns;
  if (id[0] != '\0' && strcmp(id, "default") != 0) {
    int found = ns_find(b, id);
    if (found < 0) {
      *text = "hello: no such namespace";
      return found;
    }
    ns = (uint32_t)found;
  }
  if (sock_ns != 0 && ns != sock_ns) {
    *text = "hello: this socket belongs to another namespace";
    return -EACCES;
  }
  if (ns == 0)
    return 0;
  if (sock_ns == 0 && c->ns[ns - 1].attach[0] != '\0') {
    *text = "hello: this namespace has an attach socket of its own";
    return -EACCES;
  }
  if (c->ns[ns - 1].secret != 0 && !ns_same_secret(c->ns[ns - 1].secret, secret)) {
    log_warn_rl("broker.namespace", "wrong secret for namespace %s", c->ns[ns - 1].id);
    *text = "hello: wrong namespace secret";
    return -EACCES;
  }
  return (int)ns;
}

uint32_t ns_of_app(const struct broker *b, uint64_t app_id) {
  uint32_t app = registry_app_find(&b->reg, app_id);
  return app != REGISTRY_NONE ? b->reg.app[app].ns : 0;
}

uint32_t ns_of_worker(const struct broker *b, uint64_t worker_id) {
  uint32_t w = registry_worker_find(&b->reg, worker_id);
  return w != REGISTRY_NONE ? ns_of_app(b, b->reg.worker[w].app_id) : 0;
}

const char *ns_name(const struct broker *b, uint32_t ns) {
  return ns == 0 || ns > b->svc.cfg.n_ns ? "default" : b->svc.cfg.ns[ns - 1].id;
}
