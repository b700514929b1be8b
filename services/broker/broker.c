/*
 * The broker's struct from nothing to nothing: what main() does before svc_start and after the loop, and what tests do
 * that drive the handlers without a process.
 *
 * Main thread.
 */
#include "broker.h"

#include <stdlib.h>

void broker_init(struct broker *b) {
  list_init(&b->conns);
  list_init(&b->pends);
  list_init(&b->vsvc_new);
  list_init(&b->pairs);
  b->custody_fd = -1;
  b->policy_seg.fd = b->stats_seg.fd = b->reg.seg.fd = -1;
}

void broker_fini(struct broker *b) {
  attach_srv_stop(b);
  pend_drop(b, NULL);
  loop_del_timer(b->svc.loop, b->pend_timer);
  loop_del_timer(b->svc.loop, b->conn_timer);
  custody_srv_stop(b);
  pair_fini(b);
  for (uint32_t i = 0; b->proc != NULL && i < b->reg.n_procs; i++)
    if (b->proc[i].bell_fd >= 0)
      loop_del_fd(b->svc.loop, b->proc[i].bell_fd);
  ports_free(b);
  rule_close(b);
  policy_close(b);
  vault_free(b);
  registry_close(&b->reg);
  seg_detach(&b->stats_seg);
  free(b->proc);
  free(b->worker);
}
