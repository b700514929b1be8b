/*
 * Which transports an engine worker has. Registered once before it runs; looked up per packet and per request.
 */
#include "worker.h"

#include "wire/flow.h"

#include <errno.h>

int transport_add(struct worker *w, const struct transport_ops *ops) {
  if (ops->proto >= TRANSPORTS_MAX || ops->priv_size > TRANSPORT_OUTER || !ops->output || !ops->abort ||
      (ops->ip_proto && !ops->input))
    return -EINVAL;
  if (w->transport[ops->proto] || (ops->ip_proto && w->transport_ip[ops->ip_proto]))
    return -EEXIST;
  w->transport[ops->proto] = ops;
  if (ops->ip_proto)
    w->transport_ip[ops->ip_proto] = ops;
  return 0;
}

const struct transport_ops *transport_of(const struct worker *w, uint32_t proto) {
  return proto < TRANSPORTS_MAX ? w->transport[proto] : NULL;
}

const struct transport_ops *transport_of_ip(const struct worker *w, uint8_t ip_proto) {
  return w->transport_ip[ip_proto];
}

uint32_t transport_worker(const struct worker *w, const struct transport_ops *ops, const struct ip_addr *local,
                          uint16_t lport, const struct ip_addr *remote, uint16_t rport) {
  uint32_t spread = ops ? ops->spread : TRANSPORT_FIRST;
  if (spread == TRANSPORT_FLOW)
    return flow_worker(local, lport, remote, rport, w->group->n);
  return spread == TRANSPORT_PORT ? flow_udp(lport, w->group->n) : 0;
}
