/*
 * Strays: datagrams to ports that nobody has, for the listening session of a proxy app (app-proxy-transport-udp,
 * ABI_OPT_STRAYS). Worker thread; asked only when nothing else has the port.
 *
 * The proxy's session is its port's worker's (wire/flow.h), a stray comes to that of the port it was sent to: it is
 * passed on then. What the proxy accepts is opened where the peer's datagrams come, and takes them from there on.
 */
#ifndef HS_ENGINE_STRAY_H
#define HS_ENGINE_STRAY_H

#include "worker.h"

/** Of the proxies whose sessions take strays to `dst`: the first (lowest listener id), or one that shares its port, by
 * `hash`. NULL: there is none. */
struct listener *stray_listener(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint32_t hash);
/** Whether the app may open a session for one peer at a port of `local`: nobody has it, and the app has a session that
 * takes strays to that address. */
int stray_may_use(struct worker *w, const struct app_worker *a, const struct ip_addr *local, uint16_t port);

#endif
