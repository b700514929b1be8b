/*
 * Where the headers of a frame are: as much of Ethernet, IP, TCP and UDP as moving frames needs (GSO, GRO, flow hash,
 * checks). Full parsing is the engine's. RFC 791, 8200, 9293, 768. Pure functions, lcore thread, hot path.
 */
#ifndef NICIO_HDRS_H
#define NICIO_HDRS_H

#include <stdint.h>

struct hdrs {
  uint16_t type;    /* Ethernet type after the tags */
  uint16_t l3;      /* offset of the IP header; 0 = not IP */
  uint16_t l4;      /* offset of what follows it; 0 = none in reach, or a later fragment */
  uint16_t payload; /* offset behind the TCP or UDP header; 0 = neither */
  uint32_t ip_len;  /* length that the IP header tells: header and payload */
  uint8_t version;  /* 4 or 6 */
  uint8_t proto;    /* of l4; IPv6 extension headers are not followed: theirs */
  uint8_t frag;     /* a fragment */
  uint8_t opts;     /* IPv4 options are there */
};

/** Parse the first `len` bytes of a frame. Returns 0, or -1 when it is no whole Ethernet/IP header (type is set if
 * legible). Never reads beyond len. */
int hdrs_parse(const uint8_t *p, uint32_t len, struct hdrs *h);

#endif
