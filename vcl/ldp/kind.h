/*
 * What a program that is about to be executed is, as far as it matters here: whether its sockets can meet this library.
 */
#ifndef HS_LDP_KIND_H
#define HS_LDP_KIND_H

#include <stdbool.h>

/** Why a program's sockets will be the kernel's, as words for one line of LDP_DEBUG; NULL if the loader will load us
 * (or if the file tells nothing). path: looked up in PATH if `search`; NULL: descriptor fd, which stays open. env: its
 * environment. No lock, no heap: also from a vfork child. */
const char *kind_unpreloaded(const char *path, int fd, bool search, char *const env[]);
/** True if the running program is written in Go: its own calls do not pass through libc, though we are loaded. */
bool kind_is_go(void);

#endif
