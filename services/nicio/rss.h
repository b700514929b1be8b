/*
 * Software RSS: which engine worker gets a frame. The hash is wire/flow.h's, which the engine computes as well; what is
 * neither a whole TCP segment nor a whole datagram goes to worker 0, which passes on what others need. Lcore thread,
 * hot path.
 */
#ifndef NICIO_RSS_H
#define NICIO_RSS_H

#include "wire/flow.h"

#include <stddef.h>

/** Link of n (≥ 1) for a frame that starts with an Ethernet header; len bytes are legible. */
uint32_t rss_link(const uint8_t *frame, size_t len, uint32_t n);

#endif
