/*
 * The list of congestion controls: lookup by name for the configuration, name by index for show and TCP_CONGESTION,
 * and changing one under a running connection. Called by the session layer and tcp_icmp.c (options).
 */
#include "tcp_int.h"

/* The order is part of the ABI: abi_options.cc is 1 + index, and vcl/opt.c knows the names. */
const struct tcp_cc_ops *const tcp_cc_list[] = {&tcp_cc_newreno, &tcp_cc_cubic, &tcp_cc_bbr};
const uint32_t tcp_cc_count = ARRAY_LEN(tcp_cc_list);

int tcp_cc_find(const char *name) {
  for (uint32_t i = 0; i < tcp_cc_count; i++)
    if (strcmp(tcp_cc_list[i]->name, name) == 0)
      return (int)i;
  return -ENOENT;
}

const char *tcp_cc_name(uint32_t index) {
  return index < tcp_cc_count ? tcp_cc_list[index]->name : "?";
}

/** A reduced window in whole segments, the nearest number of them and two at least (RFC 5681 (4)): what is left of a
 * segment would not be sent, and cost as much as a tenth of a small window. */
uint32_t tcp_cc_reduced(const struct tcp_conn *c, uint32_t bytes) {
  uint32_t mss = tcp_mss_payload(c);
  return HS_MAX((bytes + mss / 2) / mss, 2u) * mss;
}

/** What the algorithms remember beside cwnd and ssthresh begins anew. */
void tcp_cc_forget(struct tcp_conn *c) {
  c->cwnd_acked = c->w_max = c->w_prior = 0;
  tcp_cc_round(c);
}

/** What they remember of the round that runs. */
void tcp_cc_round(struct tcp_conn *c) {
  memset(&c->b->bbr, 0, sizeof c->b->bbr); /* in the place of the others */
  c->b->cubic = (struct tcp_cubic){0};
  if (c->cc != &tcp_cc_bbr)
    c->b->hystart = (struct tcp_hystart){.end = c->snd_nxt, .last = UINT32_MAX, .now = UINT32_MAX};
}

/** Another algorithm from now on (TCP_CONGESTION); cwnd and ssthresh stay. `index` is below tcp_cc_count. */
void tcp_cc_change(struct tcp_conn *c, uint32_t index) {
  if (c->cc == tcp_cc_list[index])
    return;
  c->d->cc = (uint8_t)index;
  c->cc = tcp_cc_list[index];
  tcp_cc_forget(c);
}
