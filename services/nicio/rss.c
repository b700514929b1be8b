/*
 * Symmetric flow hash (rss.h). Lcore thread, hot path.
 */
#include "rss.h"

#include "hdrs.h"
#include "wire/ip.h"

uint32_t rss_link(const uint8_t *frame, size_t len, uint32_t n) {
  struct hdrs h;

  if (n <= 1 || hdrs_parse(frame, len > 4096 ? 4096 : (uint32_t)len, &h) < 0 || h.payload == 0 || h.frag)
    return 0;
  if (h.proto == IP_PROTO_UDP)
    return flow_udp(load_be16(frame + h.l4 + 2), n);
  if (h.proto != IP_PROTO_TCP)
    return 0;
  uint32_t words = h.version == 4 ? 1 : 4;
  const uint8_t *src = frame + h.l3 + (h.version == 4 ? 12 : 8), *l4 = frame + h.l4;
  return flow_pick(flow_raw(src, src + 4 * words, words, load_be16(l4), load_be16(l4 + 2)), n);
}
