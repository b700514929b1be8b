/*
 * vppcom_session_attr: one table row per operation number, in the order of the public enum.
 *
 * Called by the program's threads under the worker's mutex. Each operation does what it says or says -EOPNOTSUPP; the
 * ones that have no meaning for a byte stream over IP are refused (GAPS.md lists them).
 */
#include "base/bits.h"
#include "vcl_app.h"
#include "vcl_peers.h"
#include "vcl_session.h"

#include <fcntl.h>
#include <sys/socket.h>

typedef int attr_fn(struct session *s, void *buf, uint32_t *len);

static int attr_give(void *buf, uint32_t *len, uint32_t v) {
  if (buf == NULL || len == NULL || *len < sizeof v)
    return VPPCOM_EINVAL;
  memcpy(buf, &v, sizeof v);
  *len = sizeof v;
  return 0;
}

static int attr_take(const void *buf, const uint32_t *len, uint32_t *v) {
  if (buf == NULL || len == NULL || *len < sizeof *v)
    return VPPCOM_EINVAL;
  memcpy(v, buf, sizeof *v);
  return 0;
}

/** Bytes, or for a listener connections, that can be taken now. */
static int attr_nread(struct session *s, void *buf, uint32_t *len) {
  (void)buf;
  (void)len;
  session_settle(s);
  if (session_is_dgram(s))
    return dgram_nread(s);
  if (s->life == SESSION_LISTEN)
    return (int)s->n_offers;
  int64_t used = s->fifos_open ? urgent_readable(s) - (int64_t)s->handed : 0;
  return used > 0 ? (int)HS_MIN(used, (int64_t)INT32_MAX) : 0;
}

static int attr_nwrite(struct session *s, void *buf, uint32_t *len) {
  (void)buf;
  (void)len;
  session_settle(s);
  if (s->life != SESSION_OPEN || !s->fifos_open || s->shut_wr || s->broken != 0)
    return 0;
  struct session_facts f = session_facts(s);
  if (f.state == ABI_SESS_CLOSED || f.state == ABI_SESS_CLOSING || (f.flags & ABI_SE_RESET) != 0)
    return 0; /* as a write says */
  int64_t room = ready_tx_room(s);
  return room > 0 ? (int)HS_MIN(room, (int64_t)INT32_MAX) : 0;
}

static int attr_nwriteq(struct session *s, void *buf, uint32_t *len) {
  uint32_t n = 0;
  session_settle(s);
  if (s->life == SESSION_OPEN && s->fifos_open && ready_tx_room(s) >= 0)
    n = fifo_prod_used(&s->tx);
  if (buf == NULL)
    return (int)n;
  int rc = attr_give(buf, len, n);
  return rc < 0 ? rc : (int)n;
}

static int attr_get_flags(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, (uint32_t)O_RDWR | (s->nonblock ? (uint32_t)O_NONBLOCK : 0u));
}

static int attr_set_flags(struct session *s, void *buf, uint32_t *len) {
  uint32_t v;
  int rc = attr_take(buf, len, &v);
  if (rc == 0)
    s->nonblock = (v & O_NONBLOCK) != 0;
  return rc;
}

static int attr_endpoint(void *buf, uint32_t *len, const struct abi_endpoint *ep) {
  if (buf == NULL || len == NULL || *len < sizeof(vppcom_endpt_t))
    return VPPCOM_EINVAL;
  connect_fill(ep, buf);
  *len = sizeof(vppcom_endpt_t);
  return 0;
}

static int attr_get_local(struct session *s, void *buf, uint32_t *len) {
  struct abi_endpoint ep = s->local;
  session_settle(s);
  if (s->life == SESSION_OPEN || s->life == SESSION_CONNECT) {
    if (session_facts(s).state != ABI_SESS_FREE && s->e->local.family != 0)
      ep = s->e->local;
  }
  if (ep.family == 0)
    ep.family = s->domain == 6 ? 6 : 4;
  return attr_endpoint(buf, len, &ep);
}

static int attr_set_local(struct session *s, void *buf, uint32_t *len) {
  if (len == NULL || *len < sizeof(vppcom_endpt_t))
    return VPPCOM_EINVAL;
  if (s->life != SESSION_NEW)
    return VPPCOM_EINVAL;
  return connect_endpoint(buf, &s->local); /* a wish; bind makes it so */
}

static int attr_get_peer(struct session *s, void *buf, uint32_t *len) {
  session_settle(s);
  if (s->life != SESSION_OPEN || s->failed || !s->fifos_open || (session_is_dgram(s) && !s->connected))
    return VPPCOM_ENOTCONN;
  struct abi_endpoint ep = s->e->remote;
  return attr_endpoint(buf, len, &ep);
}

/** Where the client meant to connect to, whatever an egress or ingress rule made of that. */
static int attr_original(struct session *s, void *buf, uint32_t *len) {
  session_settle(s);
  if (session_is_dgram(s) && (s->listener == UINT32_MAX || !s->connected))
    return -EOPNOTSUPP; /* rules redirect streams alone; what was accepted is where it was sent to */
  if (s->life != SESSION_OPEN || s->failed || !s->fifos_open)
    return VPPCOM_ENOTCONN;
  int accepted = s->listener != UINT32_MAX; /* what an ingress rule redirects keeps its address */
  struct abi_endpoint ep = accepted ? s->e->local : s->e->remote;
  const struct abi_endpoint *meant = NULL;
  if (s->cut == NULL && (session_facts(s).flags & ABI_SE_REDIRECTED))
    meant = worker_view_meant(&s->home->view, s->slot);
  if (meant != NULL)
    ep = *meant;
  return attr_endpoint(buf, len, &ep);
}

/** As the peer sees it: nothing between here and the network translates addresses. */
static int attr_external(struct session *s, void *buf, uint32_t *len) {
  session_settle(s);
  if (s->life != SESSION_OPEN || s->failed || !s->fifos_open || (session_is_dgram(s) && !s->connected))
    return VPPCOM_ENOTCONN;
  return attr_get_local(s, buf, len);
}

static int attr_unsupported(struct session *s, void *buf, uint32_t *len) {
  (void)s;
  (void)buf;
  (void)len;
  return -EOPNOTSUPP;
}

static int attr_protocol(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, s->proto);
}

static int attr_listen(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, s->life == SESSION_LISTEN || peers_listens(s));
}

/** Datagrams, as VPP's test programs use it before bind, with no value: peers get sessions of their own, by accept.
 * What is connected already, or of its nature, stays so. */
static int attr_set_connected(struct session *s, void *buf, uint32_t *len) {
  (void)buf;
  (void)len;
  session_settle(s);
  int rc = session_is_dgram(s) && !s->connected ? peers_begin(s) : 0;
  return rc < 0 ? -EOPNOTSUPP : 0; /* one that chose its port by sending */
}

static int attr_error(struct session *s, void *buf, uint32_t *len) {
  if (buf == NULL || len == NULL || *len < sizeof(uint32_t))
    return VPPCOM_EINVAL;
  return attr_give(buf, len, (uint32_t)ready_take_error(s));
}

static int attr_get_tx_len(struct session *s, void *buf, uint32_t *len) {
  uint32_t v = s->opt.sndbuf;
  session_settle(s);
  if (v == 0 && s->fifos_open)
    v = HS_MIN(__atomic_load_n(&s->e->tx_limit, __ATOMIC_RELAXED), ABI_FIFO_MAX);
  return attr_give(buf, len, v);
}

static int attr_get_rx_len(struct session *s, void *buf, uint32_t *len) {
  uint32_t v = s->opt.rcvbuf;
  session_settle(s);
  if (v == 0 && s->fifos_open)
    v = s->e->figures.rcv_wnd;
  return attr_give(buf, len, v);
}

/** Bytes of a fifo: 0 = the engine's policy. What no fifo can be is taken as the nearest, and told so. */
static int attr_fifo_len(struct session *s, uint32_t *field, uint32_t least, const void *buf, const uint32_t *len) {
  uint32_t v;
  int rc = attr_take(buf, len, &v);
  if (rc < 0)
    return rc;
  *field = v == 0 ? 0 : HS_MIN(HS_MAX(v, least), ABI_FIFO_MAX);
  session_publish_options(s);
  return 0;
}

static int attr_set_tx_len(struct session *s, void *buf, uint32_t *len) {
  return attr_fifo_len(s, &s->opt.sndbuf, SESSION_TX_LEAST, buf, len);
}

static int attr_set_rx_len(struct session *s, void *buf, uint32_t *len) {
  return attr_fifo_len(s, &s->opt.rcvbuf, 1, buf, len);
}

static int attr_set_bit(const void *buf, const uint32_t *len, uint8_t *field, uint8_t bit) {
  uint32_t v;
  int rc = attr_take(buf, len, &v);
  if (rc == 0)
    *field = (uint8_t)(v != 0 ? *field | bit : *field & ~bit);
  return rc;
}

static int attr_get_reuseaddr(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, s->reuse & 1u);
}
static int attr_set_reuseaddr(struct session *s, void *buf, uint32_t *len) {
  return attr_set_bit(buf, len, &s->reuse, 1);
}
static int attr_get_reuseport(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, (s->reuse >> 1) & 1u);
}
static int attr_set_reuseport(struct session *s, void *buf, uint32_t *len) {
  return attr_set_bit(buf, len, &s->reuse, 2);
}
static int attr_get_v6only(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, s->v6only);
}
static int attr_set_v6only(struct session *s, void *buf, uint32_t *len) {
  if (s->life != SESSION_NEW)
    return VPPCOM_EINVAL;
  return attr_set_bit(buf, len, &s->v6only, 1);
}

static int attr_flag_get(const struct session *s, uint32_t bit, void *buf, uint32_t *len) {
  return attr_give(buf, len, (s->opt.flags & bit) != 0);
}
static int attr_flag_set(struct session *s, uint32_t bit, const void *buf, const uint32_t *len) {
  uint32_t v;
  int rc = attr_take(buf, len, &v);
  if (rc < 0)
    return rc;
  s->opt.flags = v != 0 ? s->opt.flags | bit : s->opt.flags & ~bit;
  session_publish_options(s);
  return 0;
}
static int attr_get_broadcast(struct session *s, void *buf, uint32_t *len) {
  return attr_flag_get(s, ABI_OPT_BROADCAST, buf, len);
}
static int attr_set_broadcast(struct session *s, void *buf, uint32_t *len) {
  return attr_flag_set(s, ABI_OPT_BROADCAST, buf, len);
}
static int attr_get_keepalive(struct session *s, void *buf, uint32_t *len) {
  return attr_flag_get(s, ABI_OPT_KEEPALIVE, buf, len);
}
static int attr_set_keepalive(struct session *s, void *buf, uint32_t *len) {
  return attr_flag_set(s, ABI_OPT_KEEPALIVE, buf, len);
}
static int attr_get_nodelay(struct session *s, void *buf, uint32_t *len) {
  return attr_flag_get(s, ABI_OPT_NODELAY, buf, len);
}
static int attr_set_nodelay(struct session *s, void *buf, uint32_t *len) {
  uint8_t more = s->more;
  s->more = 0; /* as Linux: what MSG_MORE holds back is sent */
  int rc = attr_flag_set(s, ABI_OPT_NODELAY, buf, len);
  s->more = rc < 0 ? more : 0;
  return rc;
}

/** A number of seconds within Linux's bounds. */
static int attr_seconds(struct session *s, uint32_t *field, const void *buf, const uint32_t *len) {
  uint32_t v;
  int rc = attr_take(buf, len, &v);
  if (rc < 0)
    return rc;
  if (v < 1 || v > 32767)
    return VPPCOM_EINVAL;
  *field = v;
  session_publish_options(s);
  return 0;
}
static int attr_get_keepidle(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, s->opt.keepidle_s != 0 ? s->opt.keepidle_s : 7200);
}
static int attr_set_keepidle(struct session *s, void *buf, uint32_t *len) {
  return attr_seconds(s, &s->opt.keepidle_s, buf, len);
}
static int attr_get_keepintvl(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, s->opt.keepintvl_s != 0 ? s->opt.keepintvl_s : 75);
}
static int attr_set_keepintvl(struct session *s, void *buf, uint32_t *len) {
  return attr_seconds(s, &s->opt.keepintvl_s, buf, len);
}

/** The MSS in use, else the one asked for, else RFC 9293 3.7.1's default. */
static int attr_get_mss(struct session *s, void *buf, uint32_t *len) {
  uint32_t v = 0;
  session_settle(s);
  if (s->life == SESSION_OPEN && s->fifos_open)
    v = s->e->figures.snd_mss != 0 ? s->e->figures.snd_mss : __atomic_load_n(&s->e->mss, __ATOMIC_RELAXED);
  if (v == 0)
    v = s->opt.mss != 0 ? s->opt.mss : 536;
  return attr_give(buf, len, v);
}
static int attr_set_mss(struct session *s, void *buf, uint32_t *len) {
  uint32_t v;
  int rc = attr_take(buf, len, &v);
  if (rc < 0)
    return rc;
  if (v != 0 && (v < 88 || v > 32767))
    return VPPCOM_EINVAL;
  s->opt.mss = v;
  session_publish_options(s);
  return 0;
}

static int attr_get_vrf(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, s->w->broker.vrf);
}
static int attr_set_vrf(struct session *s, void *buf, uint32_t *len) {
  uint32_t v;
  if (s->life != SESSION_NEW)
    return VPPCOM_EINVAL;
  int rc = attr_take(buf, len, &v);
  if (rc < 0)
    return rc;
  return v == s->w->broker.vrf ? 0 : -ENODEV; /* a namespace is in one, and so are its sessions */
}

static int attr_domain(struct session *s, void *buf, uint32_t *len) {
  session_settle(s);
  uint32_t family = s->domain != 0 ? s->domain : s->local.family;
  if (s->life == SESSION_OPEN && s->fifos_open && s->e->local.family != 0)
    family = s->e->local.family;
  return attr_give(buf, len, family == 6 ? (uint32_t)AF_INET6 : (uint32_t)AF_INET);
}

static int attr_set_dscp(struct session *s, void *buf, uint32_t *len) {
  if (buf == NULL || len == NULL || *len < 1)
    return VPPCOM_EINVAL;
  uint8_t dscp = *(const uint8_t *)buf;
  if (dscp > 63)
    return VPPCOM_EINVAL;
  s->opt.tos = (uint8_t)((unsigned)dscp << 2 | (s->opt.tos & 3u)); /* RFC 2474 3 */
  session_publish_options(s);
  return 0;
}

static int attr_get_cookie(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, s->cookie);
}
static int attr_set_cookie(struct session *s, void *buf, uint32_t *len) {
  return attr_take(buf, len, &s->cookie);
}
static int attr_get_app_err(struct session *s, void *buf, uint32_t *len) {
  return attr_give(buf, len, s->app_err);
}
static int attr_set_app_err(struct session *s, void *buf, uint32_t *len) {
  return attr_take(buf, len, &s->app_err);
}

/** Whether recvfrom says where a datagram was sent to. */
static int attr_get_pktinfo(struct session *s, void *buf, uint32_t *len) {
  return session_is_dgram(s) ? attr_give(buf, len, s->pktinfo) : -EOPNOTSUPP;
}
static int attr_set_pktinfo(struct session *s, void *buf, uint32_t *len) {
  return session_is_dgram(s) ? attr_set_bit(buf, len, &s->pktinfo, 1) : -EOPNOTSUPP;
}

static attr_fn *const attr_table[] = {
    [VPPCOM_ATTR_GET_NREAD] = attr_nread,
    [VPPCOM_ATTR_GET_NWRITE] = attr_nwrite,
    [VPPCOM_ATTR_GET_FLAGS] = attr_get_flags,
    [VPPCOM_ATTR_SET_FLAGS] = attr_set_flags,
    [VPPCOM_ATTR_GET_LCL_ADDR] = attr_get_local,
    [VPPCOM_ATTR_SET_LCL_ADDR] = attr_set_local,
    [VPPCOM_ATTR_GET_PEER_ADDR] = attr_get_peer,
    [VPPCOM_ATTR_GET_UNUSED] = attr_unsupported,
    [VPPCOM_ATTR_SET_UNUSED] = attr_unsupported,
    [VPPCOM_ATTR_GET_PROTOCOL] = attr_protocol,
    [VPPCOM_ATTR_GET_LISTEN] = attr_listen,
    [VPPCOM_ATTR_GET_ERROR] = attr_error,
    [VPPCOM_ATTR_GET_TX_FIFO_LEN] = attr_get_tx_len,
    [VPPCOM_ATTR_SET_TX_FIFO_LEN] = attr_set_tx_len,
    [VPPCOM_ATTR_GET_RX_FIFO_LEN] = attr_get_rx_len,
    [VPPCOM_ATTR_SET_RX_FIFO_LEN] = attr_set_rx_len,
    [VPPCOM_ATTR_GET_REUSEADDR] = attr_get_reuseaddr,
    [VPPCOM_ATTR_SET_REUSEADDR] = attr_set_reuseaddr,
    [VPPCOM_ATTR_GET_REUSEPORT] = attr_get_reuseport,
    [VPPCOM_ATTR_SET_REUSEPORT] = attr_set_reuseport,
    [VPPCOM_ATTR_GET_BROADCAST] = attr_get_broadcast,
    [VPPCOM_ATTR_SET_BROADCAST] = attr_set_broadcast,
    [VPPCOM_ATTR_GET_V6ONLY] = attr_get_v6only,
    [VPPCOM_ATTR_SET_V6ONLY] = attr_set_v6only,
    [VPPCOM_ATTR_GET_KEEPALIVE] = attr_get_keepalive,
    [VPPCOM_ATTR_SET_KEEPALIVE] = attr_set_keepalive,
    [VPPCOM_ATTR_GET_TCP_NODELAY] = attr_get_nodelay,
    [VPPCOM_ATTR_SET_TCP_NODELAY] = attr_set_nodelay,
    [VPPCOM_ATTR_GET_TCP_KEEPIDLE] = attr_get_keepidle,
    [VPPCOM_ATTR_SET_TCP_KEEPIDLE] = attr_set_keepidle,
    [VPPCOM_ATTR_GET_TCP_KEEPINTVL] = attr_get_keepintvl,
    [VPPCOM_ATTR_SET_TCP_KEEPINTVL] = attr_set_keepintvl,
    [VPPCOM_ATTR_GET_TCP_USER_MSS] = attr_get_mss,
    [VPPCOM_ATTR_SET_TCP_USER_MSS] = attr_set_mss,
    [VPPCOM_ATTR_SET_CONNECTED] = attr_set_connected,
    [VPPCOM_ATTR_SET_CKPAIR] = attr_unsupported, /* TLS */
    [VPPCOM_ATTR_SET_VRF] = attr_set_vrf,
    [VPPCOM_ATTR_GET_VRF] = attr_get_vrf,
    [VPPCOM_ATTR_GET_DOMAIN] = attr_domain,
    [VPPCOM_ATTR_SET_ENDPT_EXT_CFG] = attr_unsupported, /* TLS, QUIC */
    [VPPCOM_ATTR_SET_DSCP] = attr_set_dscp,
    [VPPCOM_ATTR_SET_IP_PKTINFO] = attr_set_pktinfo,
    [VPPCOM_ATTR_GET_IP_PKTINFO] = attr_get_pktinfo,
    [VPPCOM_ATTR_GET_ORIGINAL_DST] = attr_original,
    [VPPCOM_ATTR_GET_NWRITEQ] = attr_nwriteq,
    [VPPCOM_ATTR_GET_EXT_ENDPT] = attr_external,
    [VPPCOM_ATTR_GET_COOKIE] = attr_get_cookie,
    [VPPCOM_ATTR_SET_COOKIE] = attr_set_cookie,
    [VPPCOM_ATTR_GET_STREAM_FLAGS] = attr_unsupported, /* QUIC */
    [VPPCOM_ATTR_SET_STREAM_FLAGS] = attr_unsupported,
    [VPPCOM_ATTR_GET_APP_PROTO_ERR_CODE] = attr_get_app_err,
    [VPPCOM_ATTR_SET_APP_PROTO_ERR_CODE] = attr_set_app_err,
};

int vppcom_session_attr(uint32_t session_handle_in, uint32_t op, void *buffer, uint32_t *buflen) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  int rc = s->kind == SESSION_STREAM ? VPPCOM_EINVAL : VPPCOM_EBADFD;
  if (s->kind == SESSION_STREAM && op < sizeof attr_table / sizeof attr_table[0])
    rc = attr_table[op](s, buffer, buflen);
  worker_leave(w);
  return rc;
}
