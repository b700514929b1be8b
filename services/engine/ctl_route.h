/*
 * Control requests about routes and neighbours. Control thread.
 */
#ifndef HS_ENGINE_CTL_ROUTE_H
#define HS_ENGINE_CTL_ROUTE_H

#include "control.pb-c.h"
#include "engine.h"

/** Each fills the reply, with rc and text when it refuses: 0; -errno if there is nothing to say but that. */
int ctl_show_route(struct engine *e, const Hoststack__Control__ShowRoute *q, Hoststack__Control__Reply *r);
int ctl_show_neighbor(struct engine *e, Hoststack__Control__Reply *r);
int ctl_set_route(struct engine *e, const Hoststack__Control__SetRoute *q, Hoststack__Control__Reply *r);

#endif
