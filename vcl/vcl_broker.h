/*
 * The conversation with the broker on the attach socket: one per worker, one request at a time.
 *
 * Blocking with a deadline. A lost connection is made again with the token that the first Hello gave, and the request
 * is repeated: all requests are idempotent. Callers hold `lock`. A request can take seconds: whoever makes one with a
 * worker's mutex held (cut-through, rejoin.c, parts.c) only tries for `lock`, and bounds the wait (hurry_us, a deadline
 * of its own) or goes step by step.
 */
#ifndef HS_VCL_BROKER_H
#define HS_VCL_BROKER_H

#include "abi/session.h"
#include "base/bytes.h"
#include "shm/session.h"
#include "vcl_config.h"

#include <pthread.h>

#define BROKER_TOKEN 16

/** A request about a part of A, and its reply (broker_part.c). */
enum broker_part_ask { BROKER_PART_ADD, BROKER_PART_MAPPED, BROKER_PART_DROP };
struct broker_part {
  enum broker_part_ask ask;
  uint32_t seq; /* of the request that is under way; 0: none, or its connection has ended */
  int have;     /* the reply has come: */
  int rc;       /* 0 or -errno */
  int fd;       /* ADD: the part, whoever takes the reply owns it; -1: none */
  uint64_t place, size;
};

struct broker {
  pthread_mutex_t lock;
  const struct vcl_config *cfg;
  char app_name[64];
  int fd;       /* attach socket, -1 while there is none */
  int bell;     /* our end of the socketpair */
  int doorbell; /* eventfd of the engine */
  uint32_t seq;
  uint32_t app_timeout_ms;
  uint32_t vrf; /* of our namespace */
  uint8_t token[BROKER_TOKEN];
  uint8_t parent[BROKER_TOKEN];
  int have_token, have_parent;
  uint64_t app_id, proc_id;
  usec_t hurry_us; /* not 0: in place of the application's time-out */
  uint32_t calls;  /* connections that have ended */
  int greeting;    /* BROKER_STEP_HELLO is under way on fd: whoever wants to wait for an answer hangs up first */
  struct broker_part part;
};

/** What Bind, Listen and Unbind speak about. */
struct broker_slot {
  uint64_t worker_id;
  uint32_t slot, gen;
};

void broker_init(struct broker *b, const struct vcl_config *cfg, const char *app_name);
/** First Hello, as a process of its own or of `parent`'s app (token, may be NULL). 0, -ECONNREFUSED, -ENOENT,
 * -EACCES, -ETIMEDOUT, … */
int broker_hello(struct broker *b, const uint8_t *parent);
/** Closes the socket, the bell and the doorbell. */
void broker_fini(struct broker *b);

/** AddWorker and WorkerMapped; *v is open afterwards. */
int broker_add_worker(struct broker *b, struct worker_view *v, uint64_t *worker_id);
void broker_remove_worker(struct broker *b, uint64_t worker_id);
/** In abi_request.reuse as broker_bind takes it: this app's other workers may hold the same address and port. */
#define BROKER_APP_SHARE 0x4u
/** nowait: -EAGAIN at once when no broker answers. *ep in: wish, out: what was got. */
int broker_bind(struct broker *b, const struct broker_slot *s, const struct abi_request *rq, struct abi_endpoint *ep,
                int nowait);
/** share_of 0 or an inherited listener's id. *id: the listener's. */
int broker_listen(struct broker *b, const struct broker_slot *s, uint32_t backlog, uint32_t share_of, uint32_t *id,
                  int nowait);
/** When a request that is made now gives up. */
usec_t broker_deadline(const struct broker *b);

/* One step at a time, for a worker that comes back while its program does other things. */
enum broker_step { BROKER_STEP_HELLO, BROKER_STEP_WORKER, BROKER_STEP_MAPPED };
struct broker_worker { /* what BROKER_STEP_WORKER brings; the caller owns the descriptors */
  uint64_t id;
  int fd_e, fd_a;
};
/** Sends the step's request (HELLO connects first). worker_id: of MAPPED. 0 or -errno. */
int broker_step_begin(struct broker *b, enum broker_step step, uint64_t worker_id);
/** The connection of a step that failed is closed. */
void broker_step_quit(struct broker *b);
/** Its reply: 0, -EAGAIN while there is none, -errno. */
int broker_step_end(struct broker *b, enum broker_step step, struct broker_worker *out);
/** Sends a request about a part, which nobody waits for. n, whole: of ADD; place: of the others. 0, -EPIPE. */
int broker_part_begin(struct broker *b, enum broker_part_ask ask, uint64_t worker_id, uint32_t n, int whole,
                      uint64_t place);
/** Its reply: 0, -EAGAIN while there is none, -EPIPE when its connection has ended, else as the broker said. */
int broker_part_end(struct broker *b, struct broker_part *out);
void broker_part_forget(struct broker *b);
/** The conversation `from` becomes b's; b's descriptors are closed, its lock stays as it is. */
void broker_take(struct broker *b, struct broker *from);
/** Waits a short moment only; -EAGAIN when the broker is away: to be said again later. */
int broker_unbind(struct broker *b, const struct broker_slot *s);

/** What Pair brings; the caller owns the descriptors. */
#define BROKER_OWN_MAX 16u
struct broker_pair {
  uint64_t id; /* 0: none */
  uint32_t listener_id, slot, backlog, shares, port_lo, port_hi;
  int own_address;
  uint8_t own[BROKER_OWN_MAX][16]; /* addresses of the stack, IPv4 as ::ffff:a.b.c.d */
  uint32_t n_own;
  int fds[3]; /* own segment, the other's, socket */
  int n_fds;
};
/** May a connect to `to` go over a pair? proto: 0 TCP, 1 UDP. `have`: those that we hold. -EAGAIN, -ETIMEDOUT: the
 * broker is away. */
int broker_pair(struct broker *b, uint64_t worker_id, uint8_t proto, const struct abi_endpoint *to, uint64_t *have,
                uint32_t n_have, usec_t deadline, struct broker_pair *out);
int broker_pair_gone(struct broker *b, uint64_t worker_id, uint64_t pair_id, int lied);

#endif
