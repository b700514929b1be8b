/*
 * Socket options beyond the attribute numbers: a table of get and set functions (vcl_opt.h).
 *
 * Called by the preload shim under the worker's mutex; attr.c uses a few of its helpers. What the engine acts on goes
 * into the app half as one generation (session_publish_options).
 */
#include "vcl_opt.h"

#include "abi/tcb.h"
#include "base/bits.h"
#include "base/clock.h"
#include "vcl_app.h"
#include "vcl_session.h"

#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

typedef int opt_get_fn(struct session *s, void *buf, uint32_t *len);
typedef int opt_set_fn(struct session *s, const void *buf, uint32_t len);

static const char *const opt_cc_names[] = {"newreno", "cubic", "bbr"}; /* in the order of the engine's list */
#define OPT_N_CC       (sizeof opt_cc_names / sizeof opt_cc_names[0])
#define OPT_CC_SHIPPED "cubic" /* before a session exists: what the engine uses unless it is configured otherwise */

/** Copies a value out, cut to the caller's room as Linux does. */
static int opt_give(void *buf, uint32_t *len, const void *value, uint32_t size) {
  if (buf == NULL || len == NULL)
    return -EFAULT;
  uint32_t n = HS_MIN(*len, size);
  memcpy(buf, value, n);
  *len = n;
  return 0;
}

static int opt_give_int(void *buf, uint32_t *len, int64_t v) {
  int value = v > INT32_MAX ? INT32_MAX : (int)v;
  return opt_give(buf, len, &value, sizeof value);
}

static int opt_take_int(const void *buf, uint32_t len, int *v) {
  if (buf == NULL)
    return -EFAULT;
  if (len < sizeof *v)
    return -EINVAL;
  memcpy(v, buf, sizeof *v);
  return 0;
}

static int opt_flag_get(const struct session *s, uint32_t bit, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, (s->opt.flags & bit) != 0);
}

static int opt_flag_set(struct session *s, uint32_t bit, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  s->opt.flags = v != 0 ? s->opt.flags | bit : s->opt.flags & ~bit;
  if (bit == ABI_OPT_CORK) /* as Linux: uncorking sends what MSG_MORE holds back, too */
    s->more = 0;
  session_publish_options(s);
  return 0;
}

#define OPT_FLAG(name, bit)                                                                                            \
  static int opt_##name##_get(struct session *s, void *buf, uint32_t *len) {                                           \
    return opt_flag_get(s, bit, buf, len);                                                                             \
  }                                                                                                                    \
  static int opt_##name##_set(struct session *s, const void *buf, uint32_t len) {                                      \
    return opt_flag_set(s, bit, buf, len);                                                                             \
  }
OPT_FLAG(cork, ABI_OPT_CORK)
OPT_FLAG(oobinline, ABI_OPT_OOBINLINE)
OPT_FLAG(stamp, ABI_OPT_STAMP)

static int opt_quickack_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, (s->opt.flags & ABI_OPT_LAZYACK) == 0);
}

static int opt_quickack_set(struct session *s, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  s->opt.flags &= ~(ABI_OPT_QUICKACK | ABI_OPT_LAZYACK);
  s->opt.flags |= v != 0 ? ABI_OPT_QUICKACK : ABI_OPT_LAZYACK;
  session_publish_options(s);
  return 0;
}

static int opt_syncnt_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, s->opt.syncnt != 0 ? s->opt.syncnt : 6);
}

static int opt_syncnt_set(struct session *s, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  if (v < 1 || v > 127)
    return -EINVAL;
  s->opt.syncnt = (uint8_t)v;
  session_publish_options(s);
  return 0;
}

#define OPT_LINGER2_MAX 120

static int opt_linger2_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, s->opt.linger2_s != 0 ? s->opt.linger2_s : 60);
}

static int opt_linger2_set(struct session *s, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  s->opt.linger2_s = (int16_t)(v < 0 ? -1 : HS_MIN(v, OPT_LINGER2_MAX));
  session_publish_options(s);
  return 0;
}

/* As Linux: seconds become timeouts of the SYN-ACK, 1 s at first, doubled up to 120 s, and back. */
#define OPT_DEFER_FIRST 1
#define OPT_DEFER_LAST  120

static int opt_defer_seconds(int timeouts) {
  int period = 0, each = OPT_DEFER_FIRST;
  for (int i = 0; i < timeouts; i++, each = HS_MIN(2 * each, OPT_DEFER_LAST))
    period += each;
  return period;
}

static int opt_defer_accept_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, opt_defer_seconds(s->opt.defer));
}

static int opt_defer_accept_set(struct session *s, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  int n = 0;
  while (v > 0 && n < UINT8_MAX && opt_defer_seconds(n) < v)
    n++;
  s->opt.defer = (uint8_t)n;
  session_publish_options(s);
  return 0;
}

static int opt_max_pacing_get(struct session *s, void *buf, uint32_t *len) {
  uint32_t v = s->opt.max_pacing != 0 ? s->opt.max_pacing : UINT32_MAX;
  return opt_give(buf, len, &v, sizeof v);
}

static int opt_max_pacing_set(struct session *s, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  s->opt.max_pacing = (uint32_t)v == UINT32_MAX ? 0 : HS_MAX((uint32_t)v, 1u);
  session_publish_options(s);
  return 0;
}

static int opt_linger_get(struct session *s, void *buf, uint32_t *len) {
  struct linger l = {.l_onoff = (s->opt.flags & ABI_OPT_LINGER) != 0, .l_linger = (int)s->opt.linger_s};
  return opt_give(buf, len, &l, sizeof l);
}

static int opt_linger_set(struct session *s, const void *buf, uint32_t len) {
  struct linger l;
  if (buf == NULL)
    return -EFAULT;
  if (len < sizeof l)
    return -EINVAL;
  memcpy(&l, buf, sizeof l);
  s->opt.flags &= ~ABI_OPT_LINGER;
  if (l.l_onoff) {
    s->opt.flags |= ABI_OPT_LINGER;
    s->opt.linger_s = l.l_linger < 0 ? 0 : (uint32_t)l.l_linger;
  }
  session_publish_options(s);
  return 0;
}

static int opt_rcvbuf_get(struct session *s, void *buf, uint32_t *len) {
  uint32_t v = s->opt.rcvbuf;
  if (v == 0 && s->life == SESSION_OPEN && s->fifos_open)
    v = s->e->figures.rcv_wnd;
  return opt_give_int(buf, len, v != 0 ? v : 131072);
}

static int opt_sndbuf_get(struct session *s, void *buf, uint32_t *len) {
  uint32_t v = s->opt.sndbuf;
  if (v == 0 && s->life == SESSION_OPEN && s->fifos_open)
    v = __atomic_load_n(&s->e->tx_limit, __ATOMIC_RELAXED);
  return opt_give_int(buf, len, v != 0 ? HS_MIN(v, ABI_FIFO_MAX) : 87040);
}

/** SO_RCVBUF and SO_SNDBUF: any value is taken and bounded, as on Linux. */
static int opt_bytes_set(struct session *s, uint32_t *field, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  uint32_t bytes = v < 0 ? ABI_FIFO_MAX : (uint32_t)v;
  *field = HS_CLAMP(bytes, 4096u, ABI_FIFO_MAX);
  session_publish_options(s);
  return 0;
}

static int opt_rcvbuf_set(struct session *s, const void *buf, uint32_t len) {
  return opt_bytes_set(s, &s->opt.rcvbuf, buf, len);
}

static int opt_sndbuf_set(struct session *s, const void *buf, uint32_t len) {
  return opt_bytes_set(s, &s->opt.sndbuf, buf, len);
}

static int opt_rcvlowat_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, s->lowat != 0 ? s->lowat : 1);
}

static int opt_rcvlowat_set(struct session *s, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  s->lowat = v < 0 ? INT32_MAX : v == 0 ? 1 : (uint32_t)v;
  s->opt.lowat = s->lowat;
  __atomic_store_n(&s->a->rx_lowat, s->lowat, __ATOMIC_RELEASE);
  session_publish_options(s);
  session_touch(s);
  return 0;
}

static int opt_error_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, ready_take_error(s));
}

static int opt_soft_error_get(struct session *s, void *buf, uint32_t *len) {
  session_settle(s);
  return opt_give_int(buf, len, ready_take_soft_error(s));
}

static int opt_peek_error_get(struct session *s, void *buf, uint32_t *len) {
  session_settle(s);
  return opt_give_int(buf, len, ready_error(s));
}

/** An integer within [lo, hi] into a 32-bit field; -EINVAL outside. */
static int opt_range_set(struct session *s, uint32_t *field, int lo, int hi, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  if (v < lo || v > hi)
    return -EINVAL;
  *field = (uint32_t)v;
  session_publish_options(s);
  return 0;
}

static int opt_keepcnt_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, s->opt.keepcnt != 0 ? s->opt.keepcnt : 9);
}

static int opt_keepcnt_set(struct session *s, const void *buf, uint32_t len) {
  return opt_range_set(s, &s->opt.keepcnt, 1, 127, buf, len);
}

static int opt_user_timeout_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, s->opt.user_timeout_ms);
}

static int opt_user_timeout_set(struct session *s, const void *buf, uint32_t len) {
  return opt_range_set(s, &s->opt.user_timeout_ms, 0, INT32_MAX, buf, len);
}

static int opt_fastopen_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, s->opt.fastopen);
}

static int opt_fastopen_set(struct session *s, const void *buf, uint32_t len) {
  return opt_range_set(s, &s->opt.fastopen, 0, INT32_MAX, buf, len);
}

static int opt_fastopen_connect_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, s->fast_connect);
}

/** As Linux: 0 or 1, before the socket is connected or listens. */
static int opt_fastopen_connect_set(struct session *s, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  session_settle(s);
  if (v < 0 || v > 1 || (s->life != SESSION_NEW && s->life != SESSION_BOUND))
    return -EINVAL;
  s->fast_connect = (uint8_t)v;
  return 0;
}

/* TCP_FASTOPEN_KEY: 16 bytes, or 32 with the key before it, whose cookies are good still. Getting: as many as were set.
 */
static int opt_fastopen_key_get(struct session *s, void *buf, uint32_t *len) {
  uint32_t n = !(s->opt.flags & ABI_OPT_TFO_KEY) ? 0 : s->opt.flags & ABI_OPT_TFO_ALT ? 32 : 16;
  static const uint8_t none[32];
  return opt_give(buf, len, n != 0 ? s->fast_key : none, n);
}

static int opt_fastopen_key_set(struct session *s, const void *buf, uint32_t len) {
  if (len != 16 && len != 32)
    return -EINVAL;
  if (s->fast_key == NULL && (s->fast_key = calloc(1, 32)) == NULL)
    return -ENOMEM;
  memcpy(s->fast_key, buf, len);
  s->opt.flags &= ~ABI_OPT_TFO_ALT;
  s->opt.flags |= ABI_OPT_TFO_KEY | (len == 32 ? ABI_OPT_TFO_ALT : 0);
  session_publish_options(s);
  return 0;
}

static int opt_fastopen_bare_get(struct session *s, void *buf, uint32_t *len) {
  return opt_flag_get(s, ABI_OPT_TFO_BARE, buf, len);
}

/** As Linux: 0 or 1, before the socket is connected. */
static int opt_fastopen_bare_set(struct session *s, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  session_settle(s);
  if (v < 0 || v > 1 || (s->life != SESSION_NEW && s->life != SESSION_BOUND && s->life != SESSION_LISTEN))
    return -EINVAL;
  return opt_flag_set(s, ABI_OPT_TFO_BARE, buf, len);
}

static int opt_notsent_lowat_get(struct session *s, void *buf, uint32_t *len) {
  uint32_t v = s->opt.notsent_lowat;
  return opt_give(buf, len, &v, sizeof v);
}

/** Bytes that may lie unsent before a write waits; 0: no limit, as on Linux with its default. */
static int opt_notsent_lowat_set(struct session *s, const void *buf, uint32_t len) {
  int v;
  int rc = opt_take_int(buf, len, &v);
  if (rc < 0)
    return rc;
  s->opt.notsent_lowat = (uint32_t)v;
  session_publish_options(s);
  session_touch(s);
  return 0;
}

static int opt_congestion_get(struct session *s, void *buf, uint32_t *len) {
  char name[16] = {0};
  uint32_t cc = s->opt.cc;
  if (cc == 0 && s->e != NULL) /* not asked for: what the engine took */
    cc = __atomic_load_n(&s->e->cc, __ATOMIC_RELAXED);
  snprintf(name, sizeof name, "%s", cc == 0 ? OPT_CC_SHIPPED : cc <= OPT_N_CC ? opt_cc_names[cc - 1] : "?");
  return opt_give(buf, len, name, sizeof name);
}

static int opt_congestion_set(struct session *s, const void *buf, uint32_t len) {
  char name[17] = {0};
  if (buf == NULL)
    return -EFAULT;
  if (len < 1)
    return -EINVAL;
  memcpy(name, buf, HS_MIN(len, 16u));
  const char *want = strcmp(name, "reno") == 0 ? "newreno" : name;
  for (uint8_t i = 0; i < OPT_N_CC; i++) {
    if (strcmp(want, opt_cc_names[i]) != 0)
      continue;
    s->opt.cc = (uint8_t)(i + 1);
    session_publish_options(s);
    return 0;
  }
  return -ENOENT;
}

/** Milliseconds since a moment of the engine's figures; 0 if it never was. */
static uint32_t opt_ago_ms(uint32_t at) {
  return at == 0 ? 0 : (uint32_t)((((clock_now_us() >> 10) - at) & UINT32_MAX) * 1024 / 1000);
}

static uint32_t opt_segments(uint32_t bytes, uint32_t mss) {
  return (bytes + mss - 1) / mss;
}

static void opt_tcp_info_more(const struct session *s, uint32_t mss, struct tcp_info *ti) {
  struct abi_tcp_more m = s->e->more;
  ti->tcpi_ca_state = m.ca_state;
  ti->tcpi_retransmits = m.retransmits;
  ti->tcpi_probes = m.probes;
  ti->tcpi_backoff = m.backoff;
  ti->tcpi_options = m.options;
  ti->tcpi_snd_wscale = m.wscale & 15u;
  ti->tcpi_rcv_wscale = m.wscale >> 4 & 15u;
  ti->tcpi_ato = m.ato_us;
  ti->tcpi_advmss = m.advmss;
  ti->tcpi_unacked = opt_segments(m.unacked, mss);
  ti->tcpi_sacked = opt_segments(m.sacked, mss);
  ti->tcpi_retrans = opt_segments(m.rexmit, mss);
  ti->tcpi_last_data_sent = opt_ago_ms(m.data_sent_at);
  ti->tcpi_last_data_recv = opt_ago_ms(m.data_rcvd_at);
  ti->tcpi_last_ack_recv = opt_ago_ms(m.ack_rcvd_at);
  ti->tcpi_rcv_rtt = m.rcv_rtt_us;
  ti->tcpi_rcv_space = m.rcv_space;
  ti->tcpi_min_rtt = m.min_rtt_us;
}

/* What the engine counts, of a record that is this session's. */
static void opt_tcp_info_figures(const struct session *s, struct tcp_info *ti) {
  struct abi_tcp_figures f = s->e->figures;
  uint32_t mss = f.snd_mss != 0 ? f.snd_mss : 536;
  ti->tcpi_state = f.tcp_state != 0 && f.tcp_state < 12 ? (uint8_t)f.tcp_state : (uint8_t)ABI_TCP_ESTABLISHED;
  ti->tcpi_rto = f.rto_us;
  ti->tcpi_snd_mss = f.snd_mss;
  ti->tcpi_rcv_mss = f.rcv_mss;
  ti->tcpi_lost = opt_segments(f.lost, mss);
  ti->tcpi_rtt = f.srtt_us;
  ti->tcpi_rttvar = f.rttvar_us;
  ti->tcpi_snd_ssthresh = f.ssthresh == UINT32_MAX ? INT32_MAX : HS_MIN(f.ssthresh / mss, (uint32_t)INT32_MAX);
  ti->tcpi_snd_cwnd = f.cwnd / mss;
  ti->tcpi_rcv_ssthresh = f.rcv_wnd;
  ti->tcpi_reordering = f.reordering;
  ti->tcpi_total_retrans = f.retrans_total;
  ti->tcpi_pmtu = f.pmtu;
  ti->tcpi_snd_wnd = f.snd_wnd;
  ti->tcpi_pacing_rate = f.pacing_kbps != 0 ? f.pacing_kbps * 125ull : UINT64_MAX; /* bytes/s; not paced: no limit */
  ti->tcpi_max_pacing_rate = s->opt.max_pacing != 0 ? s->opt.max_pacing : UINT64_MAX;
  opt_tcp_info_more(s, mss, ti);
}

/* Whether the engine's words are about the connect, or the listener, of this session. */
static int opt_is_served(const struct session *s, uint32_t state) {
  return s->e != NULL && s->cut == NULL && __atomic_load_n(&s->e->gen, __ATOMIC_ACQUIRE) == s->gen &&
         __atomic_load_n(&s->e->state, __ATOMIC_ACQUIRE) == state;
}

/** Linux's numbers from the engine's figures; tcpi_last_ack_sent is 0 there too, as are figures that nobody counts
 * (vcl/ldp/GAPS.md lists them). Of a listener: accept queue and backlog. */
static int opt_tcp_info_get(struct session *s, void *buf, uint32_t *len) {
  struct tcp_info ti;
  memset(&ti, 0, sizeof ti);
  session_settle(s);
  if (s->life == SESSION_OPEN && s->fifos_open) {
    uint32_t tx_tail = s->tx.tail, sent = s->e->tx_sent;
    opt_tcp_info_figures(s, &ti);
    ti.tcpi_bytes_acked = s->e->tx_head; /* modulo 2^32 */
    ti.tcpi_bytes_received = s->e->rx.tail;
    ti.tcpi_notsent_bytes = (int32_t)(tx_tail - sent) > 0 ? tx_tail - sent : 0;
  } else if (s->life == SESSION_LISTEN) {
    ti.tcpi_state = ABI_TCP_LISTEN;
    ti.tcpi_unacked = opt_is_served(s, ABI_SESS_LISTENING) ? __atomic_load_n(&s->e->more.unacked, __ATOMIC_RELAXED) : 0;
    ti.tcpi_sacked = s->backlog;
  } else if (s->life == SESSION_CONNECT || s->life == SESSION_DEFER) {
    if (opt_is_served(s, ABI_SESS_CONNECTING) && s->e->figures.tcp_state == ABI_TCP_SYN_SENT)
      opt_tcp_info_figures(s, &ti);
    ti.tcpi_state = ABI_TCP_SYN_SENT;
    ti.tcpi_options = ti.tcpi_snd_wscale = ti.tcpi_rcv_wscale = 0; /* offered, not agreed on */
  } else {
    ti.tcpi_state = ABI_TCP_CLOSED;
  }
  return opt_give(buf, len, &ti, sizeof ti);
}

static int opt_tos_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, s->opt.tos);
}

static int opt_tos_set(struct session *s, const void *buf, uint32_t len) {
  int n;
  int rc = opt_take_int(buf, len, &n);
  if (rc < 0)
    return rc;
  if (n < -1 || n > 255)
    return -EINVAL;
  s->opt.tos = n < 0 ? 0 : (uint8_t)n;
  session_publish_options(s);
  return 0;
}

static int opt_ttl_get(struct session *s, void *buf, uint32_t *len) {
  return opt_give_int(buf, len, s->opt.ttl != 0 ? s->opt.ttl : 64);
}

static int opt_ttl_set(struct session *s, const void *buf, uint32_t len) {
  int n;
  int rc = opt_take_int(buf, len, &n);
  if (rc < 0)
    return rc;
  if (n != -1 && (n < 1 || n > 255))
    return -EINVAL;
  s->opt.ttl = n < 0 ? 0 : (uint8_t)n;
  session_publish_options(s);
  return 0;
}

static int opt_outq_get(struct session *s, void *buf, uint32_t *len) {
  int64_t n = 0;
  session_settle(s);
  if (s->life == SESSION_OPEN && s->fifos_open && ready_tx_room(s) >= 0)
    n = fifo_prod_used(&s->tx);
  return opt_give_int(buf, len, n);
}

static int opt_outqnsd_get(struct session *s, void *buf, uint32_t *len) {
  int64_t n = 0;
  session_settle(s);
  if (s->life == SESSION_OPEN && s->fifos_open) {
    uint32_t sent = __atomic_load_n(&s->e->tx_sent, __ATOMIC_RELAXED);
    n = (int32_t)(s->tx.tail - sent);
  }
  return opt_give_int(buf, len, n < 0 ? 0 : n);
}

static int opt_atmark_get(struct session *s, void *buf, uint32_t *len) {
  session_settle(s);
  return opt_give_int(buf, len, urgent_at_mark(s));
}

static int opt_state_get(struct session *s, void *buf, uint32_t *len) {
  static const int map[] = {[SESSION_NEW] = VCL_STATE_NEW,          [SESSION_BOUND] = VCL_STATE_BOUND,
                            [SESSION_LISTEN] = VCL_STATE_LISTENING, [SESSION_CONNECT] = VCL_STATE_CONNECTING,
                            [SESSION_OFFER] = VCL_STATE_CONNECTED,  [SESSION_OPEN] = VCL_STATE_CONNECTED,
                            [SESSION_DEFER] = VCL_STATE_DEFERRED,   [SESSION_ZOMBIE] = VCL_STATE_CLOSED};
  session_settle(s);
  int state = map[s->life];
  if (s->life == SESSION_OPEN && (s->failed || s->broken != 0 || session_facts(s).state == ABI_SESS_CLOSED))
    state = VCL_STATE_CLOSED;
  return opt_give_int(buf, len, state);
}

static const struct {
  opt_get_fn *get;
  opt_set_fn *set;
} opt_table[VCL_OPT_N] = {
    [VCL_OPT_LINGER] = {opt_linger_get, opt_linger_set},
    [VCL_OPT_RCVBUF] = {opt_rcvbuf_get, opt_rcvbuf_set},
    [VCL_OPT_SNDBUF] = {opt_sndbuf_get, opt_sndbuf_set},
    [VCL_OPT_RCVLOWAT] = {opt_rcvlowat_get, opt_rcvlowat_set},
    [VCL_OPT_ERROR] = {opt_error_get, NULL},
    [VCL_OPT_KEEPCNT] = {opt_keepcnt_get, opt_keepcnt_set},
    [VCL_OPT_USER_TIMEOUT] = {opt_user_timeout_get, opt_user_timeout_set},
    [VCL_OPT_FASTOPEN] = {opt_fastopen_get, opt_fastopen_set},
    [VCL_OPT_FASTOPEN_CONNECT] = {opt_fastopen_connect_get, opt_fastopen_connect_set},
    [VCL_OPT_CORK] = {opt_cork_get, opt_cork_set},
    [VCL_OPT_QUICKACK] = {opt_quickack_get, opt_quickack_set},
    [VCL_OPT_CONGESTION] = {opt_congestion_get, opt_congestion_set},
    [VCL_OPT_TCP_INFO] = {opt_tcp_info_get, NULL},
    [VCL_OPT_TOS] = {opt_tos_get, opt_tos_set},
    [VCL_OPT_TTL] = {opt_ttl_get, opt_ttl_set},
    [VCL_OPT_OOBINLINE] = {opt_oobinline_get, opt_oobinline_set},
    [VCL_OPT_STAMP] = {opt_stamp_get, opt_stamp_set},
    [VCL_OPT_OUTQ] = {opt_outq_get, NULL},
    [VCL_OPT_OUTQNSD] = {opt_outqnsd_get, NULL},
    [VCL_OPT_STATE] = {opt_state_get, NULL},
    [VCL_OPT_ATMARK] = {opt_atmark_get, NULL},
    [VCL_OPT_SYNCNT] = {opt_syncnt_get, opt_syncnt_set},
    [VCL_OPT_LINGER2] = {opt_linger2_get, opt_linger2_set},
    [VCL_OPT_DEFER_ACCEPT] = {opt_defer_accept_get, opt_defer_accept_set},
    [VCL_OPT_MAX_PACING] = {opt_max_pacing_get, opt_max_pacing_set},
    [VCL_OPT_FASTOPEN_KEY] = {opt_fastopen_key_get, opt_fastopen_key_set},
    [VCL_OPT_FASTOPEN_BARE] = {opt_fastopen_bare_get, opt_fastopen_bare_set},
    [VCL_OPT_NOTSENT_LOWAT] = {opt_notsent_lowat_get, opt_notsent_lowat_set},
    [VCL_OPT_PEEK_ERROR] = {opt_peek_error_get, NULL},
    [VCL_OPT_SOFT_ERROR] = {opt_soft_error_get, NULL},
};

int vcl_opt_get(uint32_t h, uint32_t opt, void *buf, uint32_t *len) {
  if (opt >= VCL_OPT_N || opt_table[opt].get == NULL)
    return -ENOPROTOOPT;
  struct session *s = session_enter(h);
  if (s == NULL)
    return VPPCOM_EBADFD;
  int rc = s->kind == SESSION_STREAM ? opt_table[opt].get(s, buf, len) : -EINVAL;
  worker_leave(s->w);
  return rc;
}

int vcl_opt_set(uint32_t h, uint32_t opt, const void *buf, uint32_t len) {
  if (opt >= VCL_OPT_N || opt_table[opt].set == NULL)
    return -ENOPROTOOPT;
  struct session *s = session_enter(h);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  int rc = s->kind == SESSION_STREAM ? opt_table[opt].set(s, buf, len) : -EINVAL;
  worker_leave(w);
  return rc;
}
