/*
 * close() for the shim's own files: a plain close inside this library means the kernel's.
 */
#ifndef HS_LDP_NUMBER_H
#define HS_LDP_NUMBER_H

/** As the program's close(): 0, or -1 with errno. */
int number_close(int fd);

#endif
