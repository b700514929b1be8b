/*
 * Impairment: loss, delay, jitter, reorder, duplicate, corrupt and rate of one direction of one port, seeded, for tests
 * on kernels without netem. Two links with equal seeds and equal traffic behave alike.
 *
 * It works on wire packets, as a real link would: GSO frames are cut and checksums finished first, and what is delayed
 * is a copy of its own (it is a test tool), so that no slot is held back. Control thread: new, free; lcore: the rest.
 */
#ifndef NICIO_IMPAIR_H
#define NICIO_IMPAIR_H

#include "base/bytes.h"
#include "base/err.h"
#include "pkt.h"
#include "svc/config.h"

#define IMPAIR_QUEUE_MAX 32768u /* packets held; more are dropped, as by a router */

struct impair;

/** Whether the configuration asks for anything. */
int impair_wanted(const struct config_impair *c);
/** NULL without memory. */
struct impair *impair_new(const struct config_impair *c);
void impair_free(struct impair *im);
/** Put one frame in (copied; cut and finished first). Returns packets dropped by chance, rate or a full queue. */
uint32_t impair_put(struct impair *im, const struct pkt *p, usec_t now);
/** The next packet that is due, as a flat frame that stays valid until impair_pop; 0 when none is due. A packet that
 * was not corrupted carries ABI_FR_CSUM_OK if its origin did. */
int impair_peek(struct impair *im, struct pkt *out, usec_t now);
void impair_pop(struct impair *im);
/** When the next packet is due, UINT64_MAX = none is held. */
usec_t impair_next(const struct impair *im);

#endif
