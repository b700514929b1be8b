/*
 * SYN cookies, RFC 4987 3.6 and appendix A. Our initial sequence number is the cookie:
 *
 *   bit 31     parity of the time slot (2^26 µs), so that its age is known: this slot or the one before
 *   bit 30-28  which of eight MSS values, the greatest that the peer allows
 *   bit 27-0   keyed hash of VRF, addresses, ports, the peer's number, slot, MSS and whether timestamps are in use
 *
 * What needs more bits rides in the low six of our timestamp, which every segment of the peer echoes: its window scale
 * (15 = none), SACK, ECN. They need no hash: who lies there lies about himself. Without timestamps those options are
 * not offered. A guess has one chance in 2^28 per segment and slot. Keys: struct abi_cookie, two generations.
 *
 * Worker's thread; hot path under flood.
 */
#include "tcp_cookie.h"

#include "tcp_int.h"

#include "base/hash.h"

#define SLOT_SHIFT 26u
#define MAC_MASK   0x0fffffffu
#define TS_BITS    6u
#define TS_MASK    ((1u << TS_BITS) - 1)
#define TS_NO_WS   15u
#define TS_SACK    0x10u
#define TS_ECN     0x20u

/* Ethernet and its tunnels, jumbo frames, the least that hosts must take. */
static const uint16_t cookie_mss4[8] = {536, 1220, 1360, 1400, 1440, 1460, 4036, 8960};
static const uint16_t cookie_mss6[8] = {536, 1220, 1340, 1380, 1420, 1440, 4016, 8940};

static const uint16_t *cookie_table(const struct abi_tcb *d) {
  return d->remote.family == 6 ? cookie_mss6 : cookie_mss4;
}

static uint32_t cookie_mac(const uint8_t *key, const struct abi_tcb *d, seq32_t irs, uint64_t slot, uint32_t mss,
                           uint32_t ts) {
  uint8_t b[16 + 16 + 2 + 2 + 4 + 8 + 2 + 4];
  memcpy(b, d->local.ip, 16);
  memcpy(b + 16, d->remote.ip, 16);
  memcpy(b + 32, &d->local.port.raw, 2);
  memcpy(b + 34, &d->remote.port.raw, 2);
  memcpy(b + 36, &irs, 4);
  memcpy(b + 40, &slot, 8);
  b[48] = (uint8_t)mss;
  b[49] = ts != 0;
  memcpy(b + 50, &d->vrf, 4);
  return (uint32_t)hash_siphash24(key, b, sizeof b) & MAC_MASK;
}

static uint32_t cookie_mss_index(const struct abi_tcb *d) {
  const uint16_t *table = cookie_table(d);
  uint32_t i = 7;
  while (i > 0 && table[i] > d->mss)
    i--;
  return i;
}

/* Our timestamp with the options in its low bits; never ahead of the clock. */
static uint32_t cookie_stamp(const struct abi_tcb *d, usec_t now) {
  uint32_t ts = tcp_open_ts(d, now);
  uint32_t bits = (d->nego & ABI_TCB_WSCALE ? d->snd_wscale : TS_NO_WS) | (d->nego & ABI_TCB_SACK ? TS_SACK : 0) |
                  (d->nego & ABI_TCB_ECN ? TS_ECN : 0);
  uint32_t v = (ts & ~TS_MASK) | bits;
  return (int32_t)(v - ts) > 0 ? v - (1u << TS_BITS) : v;
}

int tcp_cookie_syn(struct tcp_env *e, struct abi_tcb *d, const struct tcp_seg_in *seg, uint32_t mtu, uint32_t room,
                   struct tcp_seg_out *out, usec_t now) {
  const struct abi_cookie *keys = e->cookie;
  if (keys == NULL || keys->gen == 0 || tcp_open_passive(e, d, seg, mtu, now) < 0)
    return -EINVAL;
  if (!(d->nego & ABI_TCB_TS)) { /* nowhere to keep them */
    d->nego &= (uint8_t) ~(ABI_TCB_SACK | ABI_TCB_WSCALE | ABI_TCB_ECN);
    d->rcv_wscale = d->snd_wscale = 0;
  }
  if (d->mss == 0)
    d->mss = 536; /* RFC 9293 3.7.1 */
  uint64_t slot = now >> SLOT_SHIFT;
  uint32_t mss = cookie_mss_index(d);
  memset(out, 0, sizeof *out);
  out->seq = (uint32_t)(slot & 1) << 31 | mss << 28 |
             cookie_mac(keys->key[keys->gen & 1], d, d->irs, slot, mss, d->nego & ABI_TCB_TS);
  out->ack = d->irs + 1;
  out->flags = (uint16_t)(TCP_SYN | TCP_ACK | (d->nego & ABI_TCB_ECN ? TCP_ECE : 0));
  out->wnd = (uint16_t)HS_MIN(room, 65535u);
  tcp_output_syn_opts(d, &out->opts);
  if (d->nego & ABI_TCB_TS) {
    out->opts.present |= TCP_OPT_HAS_TS;
    out->opts.ts_val = cookie_stamp(d, now);
    out->opts.ts_ecr = d->ts_recent;
  }
  TCP_COUNT(e, cookies_sent);
  TCP_COUNT(e, segs_out);
  return 0;
}

/* Index of the MSS + 1, or 0: no cookie of ours. */
static uint32_t cookie_check(struct tcp_env *e, const struct abi_tcb *d, const struct tcp_seg_in *seg, usec_t now) {
  const struct abi_cookie *keys = e->cookie;
  const struct tcp_hdr *h = &seg->hdr;
  if (keys == NULL || keys->gen == 0 || (h->flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK)
    return 0;
  seq32_t cookie = h->ack - 1, irs = h->seq - 1;
  uint64_t slot = now >> SLOT_SHIFT;
  if ((slot & 1) != cookie >> 31)
    slot--;
  uint32_t mss = cookie >> 28 & 7, ts = h->opts.present & TCP_OPT_HAS_TS;
  for (uint32_t back = 0; back < 2 && back < keys->gen; back++) /* the key may have changed since */
    if (cookie_mac(keys->key[(keys->gen - back) & 1], d, irs, slot, mss, ts) == (cookie & MAC_MASK))
      return mss + 1;
  return 0;
}

int tcp_cookie_valid(struct tcp_env *e, const struct abi_tcb *d, const struct tcp_seg_in *seg, usec_t now) {
  if (cookie_check(e, d, seg, now) != 0)
    return 1;
  TCP_COUNT(e, cookies_bad);
  return 0;
}

/* The SYN as it must have been. */
static void cookie_syn(const struct tcp_env *e, const struct tcp_hdr *ack, uint16_t mss, struct tcp_seg_in *syn) {
  memset(syn, 0, sizeof *syn);
  syn->segs = 1;
  syn->hdr.seq = ack->seq - 1;
  syn->hdr.flags = TCP_SYN;
  syn->hdr.wnd = ack->wnd;
  syn->hdr.opts.present = TCP_OPT_HAS_MSS;
  syn->hdr.opts.mss = mss;
  if (!(ack->opts.present & TCP_OPT_HAS_TS))
    return;
  uint32_t bits = ack->opts.ts_ecr & TS_MASK;
  syn->hdr.opts.present |= TCP_OPT_HAS_TS | (bits & TS_SACK ? TCP_OPT_HAS_SACK_OK : 0);
  syn->hdr.opts.ts_val = ack->opts.ts_val;
  if ((bits & TS_NO_WS) != TS_NO_WS) {
    syn->hdr.opts.present |= TCP_OPT_HAS_WSCALE;
    syn->hdr.opts.wscale = (uint8_t)(bits & TS_NO_WS);
  }
  if ((bits & TS_ECN) && e->cfg.ecn != TCP_ECN_OFF)
    syn->hdr.flags |= TCP_ECE | TCP_CWR;
}

int tcp_cookie_open(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, const struct tcp_seg_in *seg,
                    uint32_t mtu, usec_t now) {
  uint32_t mss = cookie_check(e, d, seg, now);
  struct tcp_seg_in syn;
  if (mss == 0)
    return -EINVAL;
  cookie_syn(e, &seg->hdr, cookie_table(d)[mss - 1], &syn);
  if (tcp_open_passive(e, d, &syn, mtu, now) < 0)
    return -EINVAL;
  d->iss = seg->hdr.ack - 1;
  d->snd_max = d->iss + 1;
  d->snd_up = d->snd_wl2 = d->iss;
  tcp_open_soft(e, c, d, now);
  c->snd_nxt = d->snd_max;
  c->rcv_nxt = d->irs + 1;
  d->rcv_adv = c->rcv_nxt + tcp_wnd_syn(e, c);
  tcp_state_set(e, c, TCP_FSM_SYN);
  FAULT_POINT("tcp.cookie.filled"); /* prefix: life is not stored, the record is free; the cookie still holds */
  __atomic_store_n(&d->life, ABI_TCB_USED, __ATOMIC_RELEASE);
  FAULT_POINT("tcp.cookie.durable"); /* prefix: SYN_RECEIVED; adoption repeats the SYN-ACK, with the same number */
  TCP_COUNT(e, cookies_ok);
  TCP_COUNT(e, passive_opens);
  tcp_timer_arm(c, TCP_T_RTO, now + tcp_timer_backed_off(e, c, 0)); /* should the ACK find no room */
  tcp_timer_order(e, c);
  return 0;
}
