/*
 * What `show drops` takes from each service's answer (drops.c).
 */
#ifndef HS_API_DROPS_H
#define HS_API_DROPS_H

#include "control.pb-c.h"

/** Rows of the engine's ShowStats answer whose severity is not 0; NULL: a row that says so. */
void drops_engine(Hoststack__Control__Stats *all, const Hoststack__Control__Reply *r);
/** Likewise the broker's. */
void drops_broker(Hoststack__Control__Stats *all, const Hoststack__Control__Reply *r);
/** The same of nicio's ShowInterface answer, with the interface's name before. */
void drops_nicio(Hoststack__Control__Stats *all, const Hoststack__Control__Reply *r);

#endif
