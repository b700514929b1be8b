/*
 * Who may connect to whom: session rules (abi/rules.h) and the walls between namespaces. Asked once per connect, per
 * SYN, and per datagram between peers that are not connected. Worker thread.
 *
 * Egress: refused connects fail with ECONNREFUSED, as behind an iptables REJECT; refused datagrams with EPERM, as
 * behind one that drops. Ingress: what is refused is dropped without an answer. Connections that exist are let alone.
 */
#ifndef HS_ENGINE_GATE_H
#define HS_ENGINE_GATE_H

#include "abi/session.h"
#include "wire/addr.h"

struct worker;
struct app_worker;
struct session;
struct listener;
struct pkt;

/** A connect that an app asks for; a redirected one goes to another endpoint from here on. 0 or -errno. */
int gate_connect(struct worker *w, const struct app_worker *a, struct abi_request *req);
/** A datagram from `src` to a peer that its session is not connected to. 0 or -errno. */
int gate_send(struct worker *w, const struct session *s, const struct ip_addr *src, const struct ip_addr *dst,
              uint16_t dport);
/** The listener for a SYN that came in a VRF in *l, NULL if there is none. 1 = it is to be dropped. */
int gate_syn(struct worker *w, uint8_t proto, uint32_t vrf, const struct ip_addr *src, const struct ip_addr *dst,
             uint16_t dport, uint32_t hash, struct listener **l);
/** Whether namespace `ns` may use one of our addresses (broker.namespaces[].addresses). */
int gate_may_use(const struct worker *w, uint32_t ns, const struct ip_addr *local);
/** The source address towards dst for an app: as ip_source_on (or with IP_BY_ROUTE), of those that its namespace
 * may use. */
int gate_source(struct worker *w, const struct app_worker *a, const struct ip_addr *dst, uint32_t ifindex,
                struct ip_addr *src);
/** Whether namespace `ns` hears groups and broadcasts of an interface: one where it may use an address. */
int gate_hears(const struct worker *w, uint32_t ns, uint32_t port);
/** 1 = a datagram for `s` from a peer that it is not connected to is to be dropped; s NULL: a group's. */
int gate_datagram(struct worker *w, uint8_t proto, uint32_t vrf, const struct session *s, const struct ip_addr *src,
                  const struct ip_addr *dst, uint16_t dport);

#endif
