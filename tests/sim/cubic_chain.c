/*
 * An average window, computed. What happens between two losses depends on the window at the first of them alone, so the
 * windows at the moments of loss are a Markov chain. Its states are sizes in steps of some 2 %; a row is the fluid
 * growth from the reduced window on, with the chance that the next loss comes in each quarter of a round trip; its
 * stationary distribution gives the mean packets and the mean time from loss to loss, and these the mean window. No
 * random numbers, nothing of the engine: neither recovery's round trip nor fast convergence, as the published formulas
 * have none. One thread, called by test_sim_goodput.c. RFC 9438 4.2, 4.3, 5.1; RFC 5681 3.1.
 */
#include "cubic_chain.h"

#include <math.h>
#include <string.h>

#define STATES 400
#define PART   0.25 /* of a round trip: a step */
#define C      0.4
#define BETA   0.7

static double next[STATES][STATES]; /* chance that a loss at one size is followed by a loss at another */
static double last[STATES];         /* round trips until then, in the mean */

static double chain_low = 2, chain_step;

static double chain_size(int i) {
  return chain_low * exp(i * chain_step);
}

/* The next loss is at size `w` with this chance: shared between the states at its sides, so that the mean is right. */
static void chain_add(double *row, double w, double chance) {
  double at = fmin(fmax(log(w / chain_low) / chain_step, 0), STATES - 1.001);
  int i = (int)at;
  double above = (fmin(w, chain_size(STATES - 1)) - chain_size(i)) / (chain_size(i + 1) - chain_size(i));
  row[i] += chance * (1 - above);
  row[i + 1] += chance * above;
}

/* From a loss at the size `w_max` on. */
static void chain_row(int row, enum cubic_chain_rule rule, double p, double rtt, int even) {
  double w_max = chain_size(row), w = w_max * (rule == CUBIC_CHAIN_RENO ? 0.5 : BETA), est = w;
  double k = cbrt((w_max - w) / C), t = 0, left = 1, sent = 0;
  memset(next[row], 0, sizeof next[row]);
  last[row] = 0;
  while (left > 1e-7) {
    if (rule == CUBIC_CHAIN_RENO) {
      w += PART;
    } else {
      double at = t * rtt - k, curve = w_max + C * at * at * at;
      est += (est < w_max ? 9.0 / 17 : 1) * PART; /* RFC 9438 4.3: alpha is 1 beyond the former size */
      w = rule == CUBIC_CHAIN_FRIENDLY ? fmax(curve, est) : curve;
    }
    double n = w * PART, lost = left * -expm1(n * log1p(-p));
    if (even) {
      lost = sent + n >= 1 / p ? 1 : 0;
      last[row] += lost > 0 ? PART * (1 / p - sent) / n : PART;
    } else {
      last[row] += PART * (left - lost / 2); /* in the midst of the step */
    }
    if (lost > 0)
      chain_add(next[row], w, lost);
    sent += n;
    left -= lost;
    t += PART;
  }
}

double cubic_chain_mean(enum cubic_chain_rule rule, double p, double rtt, int even) {
  static double now[STATES], then[STATES];
  double most = 40 * fmax(1.06 * pow(rtt / p, 0.75), sqrt(1.5 / p)), change = 1, rounds = 0;
  chain_step = log(most / chain_low) / (STATES - 1);
  for (int i = 0; i < STATES; i++) {
    chain_row(i, rule, p, rtt, even);
    now[i] = 1.0 / STATES;
  }
  for (int turn = 0; turn < 1000 && change > 1e-10; turn++) {
    double sum = 0;
    memset(then, 0, sizeof then);
    for (int i = 0; i < STATES; i++)
      for (int j = 0; now[i] > 1e-15 && j < STATES; j++)
        then[j] += now[i] * next[i][j];
    for (int i = 0; i < STATES; i++)
      sum += then[i];
    change = 0;
    for (int i = 0; i < STATES; i++) {
      change += fabs(then[i] / sum - now[i]);
      now[i] = then[i] / sum;
    }
  }
  for (int i = 0; i < STATES; i++)
    rounds += now[i] * last[i];
  return 1 / p / rounds;
}
