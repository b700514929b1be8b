/*
 * Software RSS: which engine worker gets a frame. Symmetric, so that both directions of a flow meet at one worker, and
 * without secret, so that a successor computes the same. Not TCP/UDP, or a fragment: by addresses alone; not IP: 0.
 * Lcore thread, hot path.
 */
#ifndef NICIO_RSS_H
#define NICIO_RSS_H

#include <stddef.h>
#include <stdint.h>

/** Hash of a frame that starts with an Ethernet header; len bytes are legible. 0 for what is not IP. */
uint32_t rss_hash(const uint8_t *frame, size_t len);
/** Link of n (≥ 1) for this frame. */
static inline uint32_t rss_link(const uint8_t *frame, size_t len, uint32_t n) {
  return n <= 1 ? 0 : (uint32_t)(((uint64_t)rss_hash(frame, len) * n) >> 32);
}

#endif
