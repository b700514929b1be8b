/*
 * Control requests about TCP that ctl.c hands on. Control thread.
 */
#ifndef HS_ENGINE_CTL_TCP_H
#define HS_ENGINE_CTL_TCP_H

#include "control.pb-c.h"
#include "engine.h"

/** Tunables. 0 (the reply may carry a refusal) or -errno. */
int ctl_show_tcp_config(struct engine *e, Hoststack__Control__Reply *r);
int ctl_set_tcp(struct engine *e, const Hoststack__Control__SetTcp *q, Hoststack__Control__Reply *r);

#endif
