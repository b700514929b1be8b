/*
 * The average window that a rule of growth gives under losses, computed and not drawn: see cubic_chain.c. Used by
 * test_sim_goodput.c, which holds the engine against it.
 */
#ifndef HS_SIM_CUBIC_CHAIN_H
#define HS_SIM_CUBIC_CHAIN_H

enum cubic_chain_rule {
  CUBIC_CHAIN_RENO,     /* halved, then a segment per round trip: RFC 5681 */
  CUBIC_CHAIN_CURVE,    /* RFC 9438 4.2 alone, what its formula (5.1) is of */
  CUBIC_CHAIN_FRIENDLY, /* with the Reno-friendly region, RFC 9438 4.3: as it is in use */
};

/** Segments in flight in the mean. `p`: losses per packet; rtt in seconds; `even`: each loss is 1/p packets after the
 * one before, else each packet is lost with chance p. */
double cubic_chain_mean(enum cubic_chain_rule rule, double p, double rtt, int even);

#endif
