/*
 * The public interface of libvppcom: sessions over a userspace host stack, by function call instead of system call.
 *
 * Source- and ABI-compatible with what programs written for the VCL library use: names, numbers and layouts are fixed.
 * Every function returns >= 0 or a negative errno value (VPPCOM_E...) unless stated otherwise. A session handle carries
 * its worker's index in the upper 8 bits and the session's index in the lower 24. A worker belongs to one thread at a
 * time. The library starts no threads, prints nothing on standard output, installs no signal handlers and never
 * aborts. Which test covers which function and attribute: tests/unit/vcl/CONTRACT.md (checked by a lint).
 */
#ifndef HS_VPPCOM_H
#define HS_VPPCOM_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define INVALID_SESSION_ID ((uint32_t)~0u)

#define VPPCOM_CONF_DEFAULT                "/etc/vpp/vcl.conf"
#define VPPCOM_ENV_CONF                    "VCL_CONFIG"
#define VPPCOM_ENV_DEBUG                   "VCL_DEBUG"
#define VPPCOM_ENV_APP_NAMESPACE_ID        "VCL_APP_NAMESPACE_ID"
#define VPPCOM_ENV_APP_NAMESPACE_SECRET    "VCL_APP_NAMESPACE_SECRET"
#define VPPCOM_ENV_APP_SCOPE_LOCAL         "VCL_APP_SCOPE_LOCAL"
#define VPPCOM_ENV_APP_SCOPE_GLOBAL        "VCL_APP_SCOPE_GLOBAL"
#define VPPCOM_ENV_APP_USE_MQ_EVENTFD      "VCL_APP_USE_MQ_EVENTFD"
#define VPPCOM_ENV_VPP_SAPI_SOCKET         "VCL_VPP_SAPI_SOCKET"
#define VPPCOM_ENV_APP_PROXY_TRANSPORT_TCP "VCL_APP_PROXY_TRANSPORT_TCP"
#define VPPCOM_ENV_APP_PROXY_TRANSPORT_UDP "VCL_APP_PROXY_TRANSPORT_UDP"

typedef enum {
  VPPCOM_PROTO_TCP = 0,
  VPPCOM_PROTO_UDP = 1,
  VPPCOM_PROTO_NONE = 2,
  VPPCOM_PROTO_TLS = 3,
  VPPCOM_PROTO_QUIC = 4,
  VPPCOM_PROTO_DTLS = 5,
  VPPCOM_PROTO_SRTP = 6,
  VPPCOM_PROTO_HTTP = 7
} vppcom_proto_t;

typedef enum { VPPCOM_IS_IP6 = 0, VPPCOM_IS_IP4 = 1 } vppcom_is_ip4_t;

typedef enum {
  VPPCOM_OK = 0,
  VPPCOM_EAGAIN = -EAGAIN,
  VPPCOM_EWOULDBLOCK = -EWOULDBLOCK,
  VPPCOM_EINPROGRESS = -EINPROGRESS,
  VPPCOM_EFAULT = -EFAULT,
  VPPCOM_ENOMEM = -ENOMEM,
  VPPCOM_EINVAL = -EINVAL,
  VPPCOM_EBADFD = -EBADFD,
  VPPCOM_EAFNOSUPPORT = -EAFNOSUPPORT,
  VPPCOM_ECONNABORTED = -ECONNABORTED,
  VPPCOM_ECONNRESET = -ECONNRESET,
  VPPCOM_ENOTCONN = -ENOTCONN,
  VPPCOM_ECONNREFUSED = -ECONNREFUSED,
  VPPCOM_ETIMEDOUT = -ETIMEDOUT,
  VPPCOM_EEXIST = -EEXIST,
  VPPCOM_ENOPROTOOPT = -ENOPROTOOPT,
  VPPCOM_EPIPE = -EPIPE,
  VPPCOM_ENOENT = -ENOENT,
  VPPCOM_EADDRINUSE = -EADDRINUSE,
  VPPCOM_ENOTSUP = -ENOTSUP
} vppcom_error_t;

/* vppcom_endpt_tlv_t.data_type: of a protocol's number, and 127 for IP. */
#define VCL_UDP_OPTS_BASE ((uint32_t)VPPCOM_PROTO_UDP << 16)
#define VCL_UDP_SEGMENT   (VCL_UDP_OPTS_BASE + 0) /* uint16_t: one send is cut into datagrams of so many bytes */
#define VCL_IP_OPTS_BASE  (127u << 16)
#define VCL_IP_PKTINFO    (VCL_IP_OPTS_BASE + 1) /* 4 or 16 bytes: the local address of a datagram */

/** Extra data beside an endpoint: type, length in bytes, then the bytes. */
typedef struct vppcom_endpt_tlv_t_ {
  uint32_t data_type;
  uint32_t data_len;
  uint8_t data[];
} vppcom_endpt_tlv_t;

/** An address and port. `ip` points at the caller's 4 or 16 bytes (network order); where the library fills an endpoint
 * in, it must point at 16 bytes of room. */
typedef struct vppcom_endpt_t_ {
  union {
    uint8_t unused;
    uint8_t is_cut_thru;
  };
  uint8_t is_ip4; /* vppcom_is_ip4_t */
  uint8_t *ip;
  uint16_t port; /* network order */
  uint64_t unused2;
  uint32_t app_tlv_len; /* bytes of app_tlvs */
  vppcom_endpt_tlv_t *app_tlvs;
} vppcom_endpt_t;

typedef uint32_t vcl_session_handle_t;

/** Operations of vppcom_session_attr: numbered from 0 in this order for ever. */
typedef enum {
  VPPCOM_ATTR_GET_NREAD,
  VPPCOM_ATTR_GET_NWRITE,
  VPPCOM_ATTR_GET_FLAGS,
  VPPCOM_ATTR_SET_FLAGS,
  VPPCOM_ATTR_GET_LCL_ADDR,
  VPPCOM_ATTR_SET_LCL_ADDR,
  VPPCOM_ATTR_GET_PEER_ADDR,
  VPPCOM_ATTR_GET_UNUSED,
  VPPCOM_ATTR_SET_UNUSED,
  VPPCOM_ATTR_GET_PROTOCOL,
  VPPCOM_ATTR_GET_LISTEN,
  VPPCOM_ATTR_GET_ERROR,
  VPPCOM_ATTR_GET_TX_FIFO_LEN,
  VPPCOM_ATTR_SET_TX_FIFO_LEN,
  VPPCOM_ATTR_GET_RX_FIFO_LEN,
  VPPCOM_ATTR_SET_RX_FIFO_LEN,
  VPPCOM_ATTR_GET_REUSEADDR,
  VPPCOM_ATTR_SET_REUSEADDR,
  VPPCOM_ATTR_GET_REUSEPORT,
  VPPCOM_ATTR_SET_REUSEPORT,
  VPPCOM_ATTR_GET_BROADCAST,
  VPPCOM_ATTR_SET_BROADCAST,
  VPPCOM_ATTR_GET_V6ONLY,
  VPPCOM_ATTR_SET_V6ONLY,
  VPPCOM_ATTR_GET_KEEPALIVE,
  VPPCOM_ATTR_SET_KEEPALIVE,
  VPPCOM_ATTR_GET_TCP_NODELAY,
  VPPCOM_ATTR_SET_TCP_NODELAY,
  VPPCOM_ATTR_GET_TCP_KEEPIDLE,
  VPPCOM_ATTR_SET_TCP_KEEPIDLE,
  VPPCOM_ATTR_GET_TCP_KEEPINTVL,
  VPPCOM_ATTR_SET_TCP_KEEPINTVL,
  VPPCOM_ATTR_GET_TCP_USER_MSS,
  VPPCOM_ATTR_SET_TCP_USER_MSS,
  VPPCOM_ATTR_SET_CONNECTED,
  VPPCOM_ATTR_SET_CKPAIR,
  VPPCOM_ATTR_SET_VRF,
  VPPCOM_ATTR_GET_VRF,
  VPPCOM_ATTR_GET_DOMAIN,
  VPPCOM_ATTR_SET_ENDPT_EXT_CFG,
  VPPCOM_ATTR_SET_DSCP,
  VPPCOM_ATTR_SET_IP_PKTINFO,
  VPPCOM_ATTR_GET_IP_PKTINFO,
  VPPCOM_ATTR_GET_ORIGINAL_DST, /* streams: where the client meant to connect to, before a session rule redirected it */
  VPPCOM_ATTR_GET_NWRITEQ,
  VPPCOM_ATTR_GET_EXT_ENDPT, /* the local address as the peer sees it: nothing translates it */
  VPPCOM_ATTR_GET_COOKIE,
  VPPCOM_ATTR_SET_COOKIE,
  VPPCOM_ATTR_GET_STREAM_FLAGS,
  VPPCOM_ATTR_SET_STREAM_FLAGS,
  VPPCOM_ATTR_GET_APP_PROTO_ERR_CODE,
  VPPCOM_ATTR_SET_APP_PROTO_ERR_CODE
} vppcom_attr_op_t;

/** A contiguous piece of a receive or send fifo, or of the caller's memory (write_segments). */
typedef struct vppcom_data_segment_ {
  unsigned char *data;
  uint32_t len;
} vppcom_data_segment_t;

/** One entry of vppcom_poll: events and revents hold POLL* bits of <poll.h>; fds_ndx is the caller's. */
typedef struct vcl_poll_ {
  uint32_t fds_ndx;
  vcl_session_handle_t sh;
  short events;
  short revents;
} vcl_poll_t;

typedef struct vppcom_cert_key_pair_ {
  char *cert;
  char *key;
  uint32_t cert_len;
  uint32_t key_len;
} vppcom_cert_key_pair_t;

/** A word of a session bitmap for vppcom_select; bit n is session index n of the calling worker. */
typedef unsigned long vcl_si_set;

/** What a vcl.conf file says; for vppcom_app_create_with_config. Zero means default; sizes in bytes, times in seconds.
 * Strings are the caller's and are copied. */
typedef struct vppcom_cfg_t_ {
  uint64_t heapsize;    /* accepted, not needed here */
  uint32_t max_workers; /* 1 .. 128 */
  uint64_t segment_baseva;
  uint64_t segment_size;     /* memory for received bytes of one worker that is kept, 0 = default */
  uint64_t add_segment_size; /* step by which it grows, and is given back, beyond that; 0 = default */
  uint32_t preallocated_fifo_pairs;
  uint32_t rx_fifo_size;
  uint32_t tx_fifo_size;
  uint32_t event_queue_size; /* sessions of one worker */
  uint32_t listen_queue_size;
  uint8_t app_proxy_transport_tcp; /* its first listener gets what nobody in its namespace listens for */
  uint8_t app_proxy_transport_udp; /* its first UDP listener: datagrams to ports that nobody has */
  uint8_t app_scope_local;
  uint8_t app_scope_global;
  uint8_t *namespace_id;
  uint64_t namespace_secret;
  uint8_t use_mq_eventfd;
  double app_timeout;     /* how long bind and listen wait for the broker */
  double session_timeout; /* how long a blocking connect waits; 0 = as long as TCP does */
  char *event_log_path;
  uint8_t *vpp_app_socket_api; /* path of the broker's attach socket */
  uint8_t *vpp_bapi_socket_name;
  uint32_t tls_engine;
  uint8_t mt_wrk_supported; /* multi-thread-workers */
  uint8_t huge_page;
  uint8_t app_original_dst; /* GET_ORIGINAL_DST always tells */
} vppcom_cfg_t;

/* --- application and workers --- */

/** Reads the configuration (VCL_CONFIG), attaches to the broker; the calling thread becomes worker 0. 0 or -errno:
 * -ECONNREFUSED no broker answers (for 1 s, if its socket is there: it may be restarting), -EACCES namespace or secret
 * refused, -EEXIST created already, -ENAMETOOLONG a namespace or socket that cannot be. */
int vppcom_app_create(const char *app_name);
/** The same, from a filled-in configuration instead of a file. */
int vppcom_app_create_with_config(const vppcom_cfg_t *cfg);
/** Closes all sessions of all workers and detaches. */
void vppcom_app_destroy(void);

/** Makes the calling thread a worker of its own. 0, -EEXIST if it is one, -ENOSPC past max-workers, -errno. */
int vppcom_worker_register(void);
/** Ends the worker that the calling thread registered, whomever it acts as; all of its sessions are closed. */
void vppcom_worker_unregister(void);
/** Index of the calling thread's worker, -1 if it is none. */
int vppcom_worker_index(void);
/** Lets the calling thread act as another worker, which must be idle: the way to serve a session that this one
 * accepted. Sessions stay with their worker; no call moves one. Nothing happens if there is no such worker. */
void vppcom_worker_index_set(int index);
/** Both: one kernel descriptor per worker that becomes readable when work appears; wait on it edge-triggered, never
 * read it. Valid at once after create or register, the same across a restart of any service. -EINVAL without a worker.
 */
int vppcom_worker_mqs_epfd(void);
int vppcom_mq_epoll_fd(void);
/** 1 when the stack has let go of this worker for good. */
int vppcom_worker_is_detached(void);

/* --- sessions --- */

/** Returns a handle, or exactly -1 with errno set (EPROTONOSUPPORT, EMFILE, ENOMEM, ...). No message is exchanged. */
int vppcom_session_create(uint8_t proto, uint8_t is_nonblocking);
int vppcom_session_close(uint32_t session_handle);
/** Closes at once: unsent data is dropped, the peer gets a reset. */
int vppcom_session_terminate(uint32_t session_handle);
int vppcom_session_bind(uint32_t session_handle, vppcom_endpt_t *ep);
int vppcom_session_listen(uint32_t session_handle, uint32_t q_len);
/** flags: O_NONBLOCK for the accepted session. Fills client_ep (may be NULL). Returns a handle, -EAGAIN, -errno. */
int vppcom_session_accept(uint32_t listen_session_handle, vppcom_endpt_t *client_ep, uint32_t flags);
/** 0, -EINPROGRESS (nonblocking), -ECONNREFUSED, -ETIMEDOUT, -EHOSTUNREACH, ... */
int vppcom_session_connect(uint32_t session_handle, vppcom_endpt_t *server_ep);
/** Opens a stream of a multiplexed transport: -EOPNOTSUPP as long as there is none. */
int vppcom_session_stream_connect(uint32_t session_handle, uint32_t parent_session_handle);
/** Bytes, 0 at the end of the stream, -EAGAIN, -ECONNRESET, ... */
int vppcom_session_read(uint32_t session_handle, void *buf, size_t n);
/** Bytes taken (possibly fewer than n on a nonblocking session), -EAGAIN, -EPIPE after shutdown, -ECONNRESET, ... */
int vppcom_session_write(uint32_t session_handle, void *buf, size_t n);
/** Write, then push what was held back (TCP_CORK) to the wire. */
int vppcom_session_write_msg(uint32_t session_handle, void *buf, size_t n);
/** flags: MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL, MSG_TRUNC; ep (may be NULL) is filled with the peer. */
int vppcom_session_recvfrom(uint32_t session_handle, void *buffer, uint32_t buflen, int flags, vppcom_endpt_t *ep);
/** flags: MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE; ep is ignored on a connected stream. */
int vppcom_session_sendto(uint32_t session_handle, void *buffer, uint32_t buflen, int flags, vppcom_endpt_t *ep);
/** how: SHUT_RD, SHUT_WR, SHUT_RDWR. */
int vppcom_session_shutdown(uint32_t session_handle, int how);
/** Zero-copy read: up to n_segments pieces of at most max_bytes in all, which stay until free_segments or close. The
 * next call goes on behind them, freed or not (-EAGAIN when there is no more yet). Returns bytes covered in all, else
 * as read. Not to be mixed with read: that starts at the first byte that is not freed. */
int vppcom_session_read_segments(uint32_t session_handle, vppcom_data_segment_t *ds, uint32_t n_segments,
                                 uint32_t max_bytes);
/** Gathered write of n_segments pieces of the caller's memory. Returns bytes taken, else as write. */
int vppcom_session_write_segments(uint32_t session_handle, vppcom_data_segment_t *ds, uint32_t n_segments);
/** The first n_bytes of what read_segments gave and was not freed yet are done with; more than that is not taken. */
void vppcom_session_free_segments(uint32_t session_handle, uint32_t n_bytes);
/** op: vppcom_attr_op_t; buffer and *buflen in and out as the operation needs. -EINVAL: no such op, too little room, a
 * value out of range, or set too late (LCL_ADDR, V6ONLY, VRF: before bind and connect); -EOPNOTSUPP: this session has
 * nothing of the kind; -EBADFD: no session, or an epoll set. */
int vppcom_session_attr(uint32_t session_handle, uint32_t op, void *buffer, uint32_t *buflen);

/** Parts of a handle, whether there is such a session or not; -1 of INVALID_SESSION_ID. */
int vppcom_session_index(vcl_session_handle_t session_handle);
int vppcom_session_worker(vcl_session_handle_t session_handle);
/** 1 when the session is a stream of a multiplexed connection. */
int vppcom_session_is_stream(vcl_session_handle_t session_handle);
/** 1 when connections can be accepted from the session beside data being read (multiplexed transports). */
int vppcom_session_is_connectable_listener(uint32_t session_handle);
/** Handle of the listener that an accepted session came from, or -errno's bits: VPPCOM_EBADFD, VPPCOM_ENOENT. */
int vppcom_session_listener(uint32_t session_handle);
/** Sessions of this listener that were accepted and are still open. */
int vppcom_session_n_accepted(uint32_t session_handle);
/** The pending error as a negative errno, 0 when there is none; does not clear it. */
int vppcom_session_get_error(uint32_t session_handle);

/* --- events --- */

int vppcom_epoll_create(void);
/** op: EPOLL_CTL_ADD, MOD, DEL (event may be NULL). As Linux: -EEXIST, -ENOENT, -EINVAL, -EBADFD. */
int vppcom_epoll_ctl(uint32_t vep_handle, int op, uint32_t session_handle, struct epoll_event *event);
/** wait_for_time in seconds; 0 polls, negative waits for ever. Number of events, -EINTR. */
int vppcom_epoll_wait(uint32_t vep_handle, struct epoll_event *events, int maxevents, double wait_for_time);
/** Bitmaps of session indices, n_bits long, in and out; any may be NULL. Bits set in all, 0 on time-out. */
int vppcom_select(int n_bits, vcl_si_set *read_map, vcl_si_set *write_map, vcl_si_set *except_map,
                  double wait_for_time);
int vppcom_poll(vcl_poll_t *vp, uint32_t n_sids, double wait_for_time);

/* --- TLS: refused with -EOPNOTSUPP until there is such a transport --- */

int vppcom_add_cert_key_pair(vppcom_cert_key_pair_t *ckpair);
int vppcom_del_cert_key_pair(uint32_t ckpair_index);

/* --- text --- */

const char *vppcom_proto_str(vppcom_proto_t proto);
const char *vppcom_retval_str(int retval);
/** "tcp", "udp", ... in any case. 0 or -EINVAL. */
int vppcom_unformat_proto(uint8_t *proto, char *proto_str);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
