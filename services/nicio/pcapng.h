/*
 * pcapng writer: one section, one interface, enhanced packet blocks (draft-ietf-opsawg-pcapng). Takes its records from
 * a capture ring. Control thread.
 */
#ifndef NICIO_PCAPNG_H
#define NICIO_PCAPNG_H

#include "capture.h"

struct pcapng {
  int fd;
  struct capture_ring *ring;
  uint64_t written, max_bytes; /* 0 = no limit */
  uint64_t packets;
  int full; /* the limit, or an error: nothing more is written */
  uint32_t used;
  uint8_t *buf;
};

/** Create `path` (an existing file is replaced) and write the section and interface blocks. NULL with *rc = -errno. */
struct pcapng *pcapng_open(const char *path, const char *ifname, uint32_t snaplen, uint64_t max_bytes, int *rc);
/** Take everything out of the ring and write it. Returns packets written or -errno (once; then `full`). */
int pcapng_drain(struct pcapng *c);
/** Drain, close, free; the lcore must have let go of the ring. Returns packets written in all. */
uint64_t pcapng_close(struct pcapng *c);

#endif
