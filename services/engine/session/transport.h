/*
 * A transport as the session layer sees it: tcp and udp now; tls, quic later. Nothing above this struct knows which it
 * is.
 *
 * A transport is registered by protocol number (transport_add). A session carries a pointer to its ops and
 * `TRANSPORT_PRIV` bytes of room for the transport's own per-session data (session.priv: struct tcp_conn), or the
 * address of up to TRANSPORT_OUTER bytes of it (struct udp_conn).
 * How its fifos grow is a transport's own affair, at any call: fifo_prod_size_set(&s->rx, …) is what it takes from its
 * peer, s->e->tx_limit (a release store) what it lets the app write; an app's wishes come with `options`.
 * Toys that the session layer serves as it is: tests/sim/sim_udp.c (datagrams), sim_toy.c (streams: connect, accept,
 * backlog). What only TCP's table has room for: an offer that nobody took moves to another process, else it is reset.
 * All calls come from the engine worker's thread. An op that a transport has no use for is NULL, except output and
 * abort.
 */
#ifndef HS_ENGINE_TRANSPORT_H
#define HS_ENGINE_TRANSPORT_H

#include "base/bytes.h"
#include "pkt.h"

struct worker;  /* engine worker, session/worker.h */
struct session; /* session/session.h */
struct app_worker;
struct abi_request;
struct abi_options;

#define TRANSPORT_PRIV  208u /* an idle connection of TCP shall be small; more is borrowed from worker.outers */
#define TRANSPORT_OUTER 512u
#define TRANSPORTS_MAX  8u /* VCL numbers */

/** Which of several engine workers has a flow: where nicio sends its frames (wire/flow.h). */
enum transport_spread {
  TRANSPORT_FIRST, /* the first: nicio knows no other way for it */
  TRANSPORT_FLOW,  /* by both ends */
  TRANSPORT_PORT,  /* by our port alone */
};

struct transport_ops {
  const char *name;
  uint8_t proto;      /* VCL number: 0 TCP, 1 UDP */
  uint8_t ip_proto;   /* 6, 17; 0 = rides on another transport */
  uint8_t spread;     /* enum transport_spread */
  uint32_t priv_size; /* bytes of struct session.priv that it uses */
  int (*init)(struct worker *w);
  /** Active open of `s`, whose record names the endpoints. 0 or -errno (told to the app). */
  int (*connect)(struct worker *w, struct session *s, usec_t now);
  /** Bytes that may ride on a connect to `remote`; 0 none, -EOPNOTSUPP switched off. NULL: never any. */
  int (*early)(struct worker *w, uint32_t vrf, const struct abi_endpoint *remote, uint32_t flags,
               usec_t now); /* ABI_OPT_* */
  /** Datagrams: `s` begins to send and receive, as `req` says. 0 or -errno, then there is no session. */
  int (*open)(struct worker *w, struct session *s, const struct abi_request *req, usec_t now);
  /** Datagrams: a further request of an open session, possibly for the second time. 0 or -errno, told to the app. */
  int (*request)(struct worker *w, struct session *s, const struct abi_request *req, usec_t now);
  /** A datagram for this protocol came. 0 taken, -ENOENT nobody there. */
  int (*input)(struct worker *w, struct pkt *p, usec_t now);
  /** The app published bytes, or frames are free again: send. 1 = stopped for want of frames. */
  int (*output)(struct worker *w, struct session *s, usec_t now);
  /** The app consumed bytes of the rx fifo. */
  void (*consumed)(struct worker *w, struct session *s, usec_t now);
  void (*shutdown)(struct worker *w, struct session *s, usec_t now);
  void (*close)(struct worker *w, struct session *s, usec_t now);
  void (*abort)(struct worker *w, struct session *s, int err, usec_t now);
  /** The app changed options; what they were when it opened the session, connect and open find in its half. */
  void (*options)(struct worker *w, struct session *s, const struct abi_options *opt, usec_t now);
  /** Streams: whether a closed session still has something to say to its peer, so that it counts as an orphan. 0 no, 1,
   * -ENOBUFS: it has, but there are too many of them. */
  int (*lingers)(struct worker *w, struct session *s);
  /** Streams: an app has taken the session that was offered. */
  void (*accepted)(struct worker *w, struct session *s);
  /** Who has one of our ports that no listener has: a session, or a proxy. 1 with its namespace in *ns, 0 nobody. */
  int (*port_ns)(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint16_t port, uint32_t *ns);
  /** The listener of this entry of the policy is gone, or another one's: what was kept for it is forgotten. */
  void (*unlisten)(struct worker *w, uint32_t entry);
  /** A process may take this finished handshake now: offer it. */
  void (*accept_ready)(struct worker *w, struct session *s, usec_t now);
  /** The way out was gone and is back: what waits for a time-out may go at once. */
  void (*path_back)(struct worker *w, struct session *s);
  void (*timer)(struct worker *w, struct session *s, usec_t now);
  void (*icmp)(struct worker *w, struct session *s, int kind, int err, uint32_t mtu, uint32_t seq, usec_t now);
  /** Walk the durable table and take every connection back. Number adopted or -errno. */
  int (*adopt)(struct worker *w, usec_t now);
  /** The record alone says that `s`, bound to it by now, was open: go on. 0 or -errno: the record is reset. */
  int (*adopt_record)(struct worker *w, struct session *s, usec_t now);
};

struct tcp_seg_in;
struct tcp_seg_out;

/** Send `out` as the answer to a segment that no session took; it carries no payload. */
void transport_tcp_reply(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg,
                         const struct tcp_seg_out *out);
extern const struct transport_ops transport_tcp;
extern const struct transport_ops transport_udp;

/** Registers under ops->proto and ops->ip_proto. 0, -EINVAL (number, or priv_size beyond TRANSPORT_OUTER), -EEXIST. */
int transport_add(struct worker *w, const struct transport_ops *ops);
/** NULL: there is none. */
const struct transport_ops *transport_of(const struct worker *w, uint32_t proto);
const struct transport_ops *transport_of_ip(const struct worker *w, uint8_t ip_proto);
/** Index of the engine worker, of all, that has a flow of this transport; `ops` may be NULL. */
uint32_t transport_worker(const struct worker *w, const struct transport_ops *ops, const struct ip_addr *local,
                          uint16_t lport, const struct ip_addr *remote, uint16_t rport);

#endif
