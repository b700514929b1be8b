/*
 * Connections that a parent and its forked children hold together: whose close is the last.
 *
 * The library beneath knows who holds what and ends a connection with its last holder (vcl_kin.h). Here is what it
 * needs of the shim: a parent that waits until its child holds (fork.c), waits that are cut into slices while there may
 * be something that the dead left behind, and an exit that says what ends with it.
 */
#ifndef HS_LDP_SHARE_H
#define HS_LDP_SHARE_H

#include <stdbool.h>

/** Whether the process has connections that a child would hold, too. */
bool share_any(void);
/** Ends what the dead left behind. Cheap when there is nothing. */
void share_sweep(void);
/** True while share_sweep may have something to wait for: blocking calls then look every SHARE_SLICE_MS. */
bool share_waiting(void);
/** exit and _exit: what the process holds alone ends now, and its shares of listeners, if it has a parent or children.
 */
void share_exit(void);

#define SHARE_SLICE_MS 100

#endif
