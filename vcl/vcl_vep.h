/*
 * Epoll sets: membership, and which members are worth looking at.
 *
 * A member is on the set's ready list from the moment a hint (or a call) concerned it until a look finds that it has
 * nothing to report; so a wait costs what is ready, not what is in the set.
 */
#ifndef HS_VCL_VEP_H
#define HS_VCL_VEP_H

#include "vcl_session.h"

#define VEP_DEPTH 5 /* sets in sets, as on Linux */

struct vep {
  struct session *s;    /* the set's own handle */
  struct list members;  /* vep_item.set_link */
  struct list ready;    /* vep_item.ready_link */
  struct list watchers; /* struct watch */
  uint32_t n;
};

/** What an inherited session had to tell at the last look. */
struct vep_facts {
  uint32_t events, rx_tail, tx_head;
};

struct vep_item {
  struct list set_link;
  struct list sess_link;
  struct list ready_link;
  struct session *s;
  struct vep *vep;
  uint64_t data;
  uint32_t events; /* as asked for, with EPOLLET, EPOLLONESHOT; 0 = fired ONESHOT */
  struct vep_facts facts;
};

struct vep *vep_new(struct session *s);
void vep_free(struct vep *v);
/** Something happened to a member. */
void vep_item_touch(struct vep_item *it);
void vep_item_free(struct vep_item *it);
/** 1 when a wait would return something now. */
int vep_is_ready(struct vep *v);
/** The set is waited on: listeners in it that were left to children (listen_rest) are its process's again, too. */
void vep_wake_listeners(struct vep *v, int depth);

#endif
