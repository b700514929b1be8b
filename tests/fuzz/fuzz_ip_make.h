/*
 * Frames for fuzz_ip that are messages: see fuzz_ip_make.c.
 */
#ifndef HS_TESTS_FUZZ_IP_MAKE_H
#define HS_TESTS_FUZZ_IP_MAKE_H

#include "ip_rig.h"

#define FUZZ_IP_FRAME 2048u /* the longest */

/** Builds a frame of a kind (0…127) into out, all else chosen by the n bytes at `choice`. Returns its length. Checksums
 * are the caller's. */
uint32_t fuzz_ip_make(struct ip_rig *r, unsigned kind, const uint8_t *choice, uint32_t n, uint8_t *out);

#endif
