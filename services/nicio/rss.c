/*
 * Symmetric flow hash (rss.h). Lcore thread, hot path.
 */
#include "rss.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "hdrs.h"
#include "wire/ip.h"

/** Sum of the mixed words of one address: the same whichever of two is source. */
static uint64_t rss_addr(const uint8_t *p, uint32_t words) {
  uint64_t h = 0;

  for (uint32_t i = 0; i < words; i++)
    h = hash_mix64(h ^ (load_be32(p + 4 * i) + ((uint64_t)i << 32) + 1));
  return h;
}

uint32_t rss_hash(const uint8_t *frame, size_t len) {
  struct hdrs h;

  if (hdrs_parse(frame, len > 4096 ? 4096 : (uint32_t)len, &h) < 0)
    return 0;
  uint32_t words = h.version == 4 ? 1 : 4;
  const uint8_t *src = frame + h.l3 + (h.version == 4 ? 12 : 8);
  uint64_t sum = rss_addr(src, words) + rss_addr(src + 4 * words, words);
  if (h.payload != 0 && !h.frag) {
    const uint8_t *l4 = frame + h.l4;
    sum += hash_mix64(load_be16(l4) + 1) + hash_mix64(load_be16(l4 + 2) + 1);
  }
  return (uint32_t)(hash_mix64(sum) >> 32);
}
