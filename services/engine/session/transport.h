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
 * All calls come from the engine worker's thread. output and abort are every transport's, input everyone's that has an
 * ip_proto; any other op may be NULL, and beside each stands what happens then.
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
  /** The worker is being made. 0 or -errno, then there is none. NULL: nothing to make. */
  int (*init)(struct worker *w);
  /** Active open of `s`, whose record names the endpoints. 0 or -errno (told to the app). NULL: EPROTONOSUPPORT. */
  int (*connect)(struct worker *w, struct session *s, usec_t now);
  /** An app asks what may ride on its connect to `remote` (ABI_REQ_FAST); flags: ABI_OPT_*. Bytes: it is told, and
   * connects with them; 0: connect now, with none; -EOPNOTSUPP: switched off. NULL: as 0. */
  int (*early)(struct worker *w, uint32_t vrf, const struct abi_endpoint *remote, uint32_t flags, usec_t now);
  /** Datagrams: `s` begins to send and receive, as `req` says. 0 or -errno, then there is no session. NULL:
   * EPROTONOSUPPORT. */
  int (*open)(struct worker *w, struct session *s, const struct abi_request *req, usec_t now);
  /** Datagrams: a further request of an open session, possibly for the second time. 0 or -errno, told to the app. NULL:
   * it is never answered. */
  int (*request)(struct worker *w, struct session *s, const struct abi_request *req, usec_t now);
  /** A datagram for this protocol came. 0 taken, -ENOENT nobody there. NULL: only without an ip_proto. */
  int (*input)(struct worker *w, struct pkt *p, usec_t now);
  /** The app published bytes, or frames are free again: send. 1 = stopped for want of frames. Never NULL. */
  int (*output)(struct worker *w, struct session *s, usec_t now);
  /** The app consumed bytes of the rx fifo, perhaps none. NULL: the fifo's head says enough. */
  void (*consumed)(struct worker *w, struct session *s, usec_t now);
  /** The app has written all it will write. NULL: the peer learns of it by the close. */
  void (*shutdown)(struct worker *w, struct session *s, usec_t now);
  /** The app is gone; what it wrote is still sent. NULL: aborted, with err 0. */
  void (*close)(struct worker *w, struct session *s, usec_t now);
  /** It ends now; the app is told err unless that is 0. Never NULL. */
  void (*abort)(struct worker *w, struct session *s, int err, usec_t now);
  /** The app changed options; what they were when it opened the session, connect and open find in its half. NULL: they
   * count as seen. */
  void (*options)(struct worker *w, struct session *s, const struct abi_options *opt, usec_t now);
  /** Streams: whether a closed session still has something to say to its peer, so that it counts as an orphan. 0 no, 1,
   * -ENOBUFS: it has, but there are too many of them. NULL: no. */
  int (*lingers)(struct worker *w, struct session *s);
  /** Streams: an app has taken the session that was offered. NULL: nothing waits for that. */
  void (*accepted)(struct worker *w, struct session *s);
  /** Streams: a process may take this finished handshake now: offer it. NULL: connections do not come to it, what
   * listens is a session like any other (transport_is_stream). */
  void (*accept_ready)(struct worker *w, struct session *s, usec_t now);
  /** Streams: the listener that this entry of the policy had is gone; and once more when the entry gets another one:
   * what was kept for it is forgotten. NULL: nothing is kept. */
  void (*unlisten)(struct worker *w, uint32_t entry);
  /** Datagrams: who has one of our ports that no listener has, by the transport's own rules: a session that chose it, a
   * proxy. 1 with its namespace in *ns; 0 nobody, *ns is then not looked at. NULL: nobody. */
  int (*port_ns)(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint16_t port, uint32_t *ns);
  /** The way out was gone and is back: what waits for a time-out may go at once. NULL: it waits. */
  void (*path_back)(struct worker *w, struct session *s);
  /** The session's timer (session.timer) is due. NULL: it arms none. */
  void (*timer)(struct worker *w, struct session *s, usec_t now);
  /** ICMP says something of what was sent: kind, errno, the next hop's mtu if it is about that, the sequence number
   * that it quotes. NULL: ignored. */
  void (*icmp)(struct worker *w, struct session *s, int kind, int err, uint32_t mtu, uint32_t seq, usec_t now);
  /** A successor begins: walk the durable table and take every connection back. Number adopted or -errno. NULL: it has
   * no table. */
  int (*adopt)(struct worker *w, usec_t now);
  /** A successor, too: the record alone says that `s`, bound to it by now, was open: go on. 0 or -errno: the record is
   * reset. NULL: records without a place in a table are reset. */
  int (*adopt_record)(struct worker *w, struct session *s, usec_t now);
};

/** Whether connections come to its listeners and are accepted there. */
static inline int transport_is_stream(const struct transport_ops *ops) {
  return ops && ops->accept_ready;
}

struct tcp_seg_in;
struct tcp_seg_out;

/** Send `out` as the answer to a segment that no session took; it carries no payload. */
void transport_tcp_reply(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg,
                         const struct tcp_seg_out *out);
extern const struct transport_ops transport_tcp;
extern const struct transport_ops transport_udp;

/** Registers under ops->proto and ops->ip_proto. 0, -EINVAL (number, priv_size beyond TRANSPORT_OUTER, an op is
 * missing), -EEXIST. */
int transport_add(struct worker *w, const struct transport_ops *ops);
/** NULL: there is none. */
const struct transport_ops *transport_of(const struct worker *w, uint32_t proto);
const struct transport_ops *transport_of_ip(const struct worker *w, uint8_t ip_proto);
/** Index of the engine worker, of all, that has a flow of this transport; `ops` may be NULL. */
uint32_t transport_worker(const struct worker *w, const struct transport_ops *ops, const struct ip_addr *local,
                          uint16_t lport, const struct ip_addr *remote, uint16_t rport);

#endif
