/*
 * What a fork means for the shim: the child gets tables of its own and shares of the parent's listeners.
 */
#ifndef HS_LDP_FORK_H
#define HS_LDP_FORK_H

/** A listener on the stack came to be (+1) or ended (-1): with any, fork waits for the child's shares. */
void fork_count_listener(int by);

#endif
