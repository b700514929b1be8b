/*
 * Listeners that go on in the program that is executed: told over the pair's line by who executes, taken up by the
 * program before its main(), if it is under the shim.
 */
#ifndef HS_LDP_HEIR_H
#define HS_LDP_HEIR_H

#include "sock.h"

#include <sys/types.h>

/** Puts what an heir needs into the line, a stream socket whose other end the program will have. 0 or -errno. */
int heir_tell(const struct sock *s, int line);
/** Takes up the listener whose line has this inode: all numbers of the line are a listener on the stack then. 0 or
 * -errno, -ENOENT: there is no such number (the program before this one closed it, or has taken it up). */
int heir_take(ino_t ino);

#endif
