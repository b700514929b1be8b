/*
 * pcapng files (pcapng.h): blocks of little-endian 32-bit words, padded to 4 bytes, length at both ends.
 */
#include "pcapng.h"

#include "base/bits.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define PCAPNG_SHB       0x0a0d0d0au
#define PCAPNG_IDB       1u
#define PCAPNG_EPB       6u
#define PCAPNG_MAGIC     0x1a2b3c4du
#define PCAPNG_LINK_ETH  1u
#define PCAPNG_OPT_NAME  2u /* if_name */
#define PCAPNG_OPT_FLAGS 2u /* epb_flags: bits 0-1 inbound 1, outbound 2 */
#define PCAPNG_EPB_FIXED 28u
#define PCAPNG_EPB_OPTS  12u /* epb_flags and end of options */
#define PCAPNG_BUF       (1u << 20)

static void put32(uint8_t **p, uint32_t v) {
  memcpy(*p, &v, 4);
  *p += 4;
}
static void put16(uint8_t **p, uint16_t v) {
  memcpy(*p, &v, 2);
  *p += 2;
}

static int pcapng_flush(struct pcapng *c) {
  uint32_t at = 0;

  while (at < c->used) {
    ssize_t n = write(c->fd, c->buf + at, c->used - at);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) {
      int rc = n < 0 ? err_last() : -EIO;
      c->used = 0;
      c->full = 1;
      return rc;
    }
    at += (uint32_t)n;
  }
  c->written += c->used;
  c->used = 0;
  return 0;
}

static void pcapng_head(struct pcapng *c, const char *ifname, uint32_t snaplen) {
  uint8_t *p = c->buf;
  uint32_t name = (uint32_t)strnlen(ifname, 31), name_pad = (uint32_t)bits_align_up(name, 4);
  uint32_t idb = 20 + 4 + name_pad + 4;

  put32(&p, PCAPNG_SHB);
  put32(&p, 28);
  put32(&p, PCAPNG_MAGIC);
  put16(&p, 1);
  put16(&p, 0);
  put32(&p, 0xffffffffu); /* section length: not told */
  put32(&p, 0xffffffffu);
  put32(&p, 28);
  put32(&p, PCAPNG_IDB);
  put32(&p, idb);
  put16(&p, PCAPNG_LINK_ETH);
  put16(&p, 0);
  put32(&p, snaplen);
  put16(&p, PCAPNG_OPT_NAME);
  put16(&p, (uint16_t)name);
  memset(p, 0, name_pad);
  memcpy(p, ifname, name);
  p += name_pad;
  put32(&p, 0); /* end of options; times are microseconds by default */
  put32(&p, idb);
  c->used = (uint32_t)(p - c->buf);
}

struct pcapng *pcapng_open(const char *path, const char *ifname, uint32_t snaplen, uint64_t max_bytes, int *rc) {
  struct pcapng *c = calloc(1, sizeof *c);

  *rc = -ENOMEM;
  if (c == NULL)
    return NULL;
  c->fd = -1;
  c->max_bytes = max_bytes;
  c->buf = malloc(PCAPNG_BUF);
  c->ring = capture_new(CAPTURE_RING_BYTES);
  if (c->buf == NULL || c->ring == NULL)
    goto out;
  c->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (c->fd < 0) {
    *rc = err_last();
    goto out;
  }
  pcapng_head(c, ifname, snaplen);
  *rc = pcapng_flush(c);
  if (*rc == 0)
    return c;
  close(c->fd);
out:
  capture_free(c->ring);
  free(c->buf);
  free(c);
  return NULL;
}

/** One packet from the ring into the buffer. 1, or 0 when the ring is empty. */
static int pcapng_packet(struct pcapng *c) {
  struct capture_rec rec;
  uint8_t *p = c->buf + c->used, *start = p;

  if (!capture_get(c->ring, &rec, p + PCAPNG_EPB_FIXED, PKT_LEN_MAX))
    return 0;
  uint32_t pad = (uint32_t)bits_align_up(rec.caplen, 4);
  uint32_t total = PCAPNG_EPB_FIXED + pad + PCAPNG_EPB_OPTS + 4;
  if (c->full || (c->max_bytes != 0 && c->written + c->used + total > c->max_bytes)) {
    c->full = 1;
    return 1;
  }
  put32(&p, PCAPNG_EPB);
  put32(&p, total);
  put32(&p, 0); /* interface */
  put32(&p, (uint32_t)(rec.wall_us >> 32));
  put32(&p, (uint32_t)rec.wall_us);
  put32(&p, rec.caplen);
  put32(&p, rec.origlen);
  memset(p + rec.caplen, 0, pad - rec.caplen);
  p += pad;
  put16(&p, PCAPNG_OPT_FLAGS);
  put16(&p, 4);
  put32(&p, rec.dir == CAPTURE_IN ? 1 : 2);
  put32(&p, 0);
  put32(&p, total);
  c->used += (uint32_t)(p - start);
  c->packets++;
  return 1;
}

int pcapng_drain(struct pcapng *c) {
  uint64_t before = c->packets;
  int rc = 0;

  while (rc == 0 && pcapng_packet(c)) {
    if (c->used > PCAPNG_BUF - PKT_LEN_MAX - 128)
      rc = pcapng_flush(c);
  }
  if (rc == 0)
    rc = pcapng_flush(c);
  return rc < 0 ? rc : (int)(c->packets - before);
}

uint64_t pcapng_close(struct pcapng *c) {
  uint64_t n;

  (void)pcapng_drain(c);
  n = c->packets;
  close(c->fd);
  capture_free(c->ring);
  free(c->buf);
  free(c);
  return n;
}
