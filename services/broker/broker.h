/*
 * The broker as its files share it: one struct, one thread, one loop. What must outlive the process is in the registry
 * and policy segments; everything here is rebuilt from them and from what the services and apps say.
 */
#ifndef HS_BROKER_BROKER_H
#define HS_BROKER_BROKER_H

#include "abi/policy.h"
#include "attach.pb-c.h"
#include "base/list.h"
#include "control.pb-c.h"
#include "registry.h"
#include "shm/rules.h"
#include "svc/chan.h"
#include "svc/custody.h"
#include "svc/svc.h"

#define BROKER_LISTEN_MAX 16384u
#define BROKER_SLOTS_MIN  16u /* a worker's sessions at least */
#define BROKER_SERVICES   5u  /* indices are enum custody_service */

/* Counters of the broker's stats page: id, help, severity. */
#define BROKER_STATS(X)                                                                                                \
  X(HELLO, "broker.hello", "processes that attached", 0)                                                               \
  X(RETURNED, "broker.returned", "processes that came back with their token", 0)                                       \
  X(REFUSED, "broker.refused", "requests answered with an error", 1)                                                   \
  X(BAD_MESSAGE, "broker.bad-message", "connections closed for a message that can't be read", 1)                       \
  X(WORKERS, "broker.workers", "workers made", 0)                                                                      \
  X(DEATHS, "broker.deaths", "processes proved dead", 0)                                                               \
  X(DRAINED, "broker.drained", "workers whose memory was returned", 0)                                                 \
  X(LIED, "broker.lied", "workers detached for what they wrote", 2)                                                    \
  X(TIMEOUTS, "broker.timeouts", "requests that waited too long for the engine", 1)                                    \
  X(LISTENS, "broker.listens", "listeners made", 0)                                                                    \
  X(PAIRS, "broker.pairs", "pairs of workers made for cut-through", 0)                                                 \
  X(PAIR_LIED, "broker.pair-lied", "pairs ended for what the other side wrote", 2)                                     \
  X(LIMIT_SESSIONS, "broker.limit-sessions", "workers refused: limit of sessions of an app or namespace", 1)           \
  X(LIMIT_LISTENERS, "broker.limit-listeners", "listeners refused: limit of listeners of an app or namespace", 1)      \
  X(LIMIT_MEMORY, "broker.limit-memory", "workers, listeners refused: limit of memory of an app or namespace", 1)      \
  X(PARTS, "broker.parts", "parts of memory of written bytes handed out", 0)                                           \
  X(LIMIT_PARTS, "broker.limit-parts", "parts refused: limit of memory of an app or namespace", 1)
enum broker_stat {
#define X(id, name, help, sev) BROKER_STAT_##id,
  BROKER_STATS(X)
#undef X
      BROKER_STAT_N
};

enum boot_state { BOOT_WAIT = 0, BOOT_REGISTRY, BOOT_ITEMS, BOOT_DONE };

/** One item's private side, at the index of its registry record. */
struct vault_item {
  int fd;       /* -1 = not here (yet) */
  uint8_t have; /* services (1 << n) that hold a dup */
  uint8_t sent; /* services it was sent to */
  uint8_t asked;
};

/** A service's conversation on the custody socket. */
struct vault_svc {
  struct broker *b;
  struct list link; /* those that have not said who they are */
  struct chan *ch;
  uint32_t service; /* 0 = not known yet */
  uint32_t pid;
  int hello;                  /* its whole vault was shown */
  int ready;                  /* we said Ready */
  struct custody_item *shown; /* what Hello showed, until it was compared with the registry */
  uint32_t n_shown;
};

/** An app process's conversation on an attach socket. */
struct conn {
  struct broker *b;
  struct list link;
  struct chan *ch;
  struct attach_cred cred;
  uint32_t ns;      /* of the socket it came by */
  uint32_t proc;    /* registry index or REGISTRY_NONE before Hello */
  uint32_t waiting; /* requests that are not answered yet */
  usec_t since;     /* accepted at */
};

enum pend_what { PEND_HELLO, PEND_ADD, PEND_LIVE, PEND_POLICY, PEND_UNBIND, PEND_PART };

/** A request whose answer waits for the engine. */
struct pend {
  struct list link;
  struct conn *conn;
  uint32_t seq;
  enum pend_what what;
  usec_t deadline;
  uint32_t idx;        /* process, worker, bind or item index */
  uint64_t id;         /* … and its id, so that a reused record is no match */
  uint32_t policy_gen; /* PEND_POLICY */
  int app_fd;          /* PEND_HELLO: the app's end of the bell */
};

struct proc_rt {
  struct conn *conn;
  int bell_fd; /* watched for HUP; -1 = not watched */
  struct broker *b;
};
struct worker_rt {
  int live;       /* the present engine serves it */
  uint32_t slots; /* limit.c: of its segments, 0 = not looked at yet */
};
struct bind_rt {
  uint32_t next;   /* of the same port */
  uint32_t policy; /* entry, or REGISTRY_NONE */
};

struct attach_sock {
  struct broker *b;
  int fd;
  uint32_t ns;
};

struct broker {
  struct svc svc;
  /* boot */
  enum boot_state boot;
  uint32_t boot_from; /* service that was asked for the registry */
  /* custody */
  struct registry reg;
  struct vault_item *item; /* [reg.n_items] */
  int custody_fd;
  struct vault_svc *vsvc[BROKER_SERVICES];
  struct list vsvc_new;
  /* policy */
  struct seg policy_seg;
  struct abi_policy *policy;
  struct abi_listen_entry *entry;
  uint32_t n_entries;
  uint32_t policy_seen;
  int policy_seen_valid;
  /* rules */
  struct rules_edit rules;
  int rules_due;         /* changed since they were compiled */
  uint32_t rules_policy; /* policy_gen with which the bank in force was announced */
  /* apps */
  struct attach_sock attach[1 + CONFIG_NS_MAX];
  uint32_t n_attach;
  struct list conns;
  uint32_t n_conns;
  int conn_timer;
  struct list pends;
  int pend_timer;
  struct proc_rt *proc;
  struct worker_rt *worker;
  struct bind_rt *bind;
  uint32_t bind_high;     /* binds [0, high) were ever used */
  uint32_t *port_head[2]; /* [65536] first bind of a port, TCP and UDP */
  struct list pairs;      /* pair.c: of workers, for cut-through; not beyond our own death */
  uint32_t pair_turn;     /* which of the workers behind a port is next */
  /* figures */
  struct seg stats_seg;
  uint64_t *stat;
};

static inline void broker_count(struct broker *b, enum broker_stat s) {
  if (b->stat != NULL)
    __atomic_store_n(&b->stat[s], b->stat[s] + 1, __ATOMIC_RELAXED);
}

/* broker.c: on a zero-filled struct; fini before svc_stop */
void broker_init(struct broker *b);
void broker_fini(struct broker *b);

/* boot.c: fresh start or restore */
void boot_step(struct broker *b);
/** The registry came back from `service` (fd is taken over). */
void boot_registry(struct broker *b, uint32_t service, int fd);

/* vault.c: items and who holds them */
void vault_tables(struct broker *b);
void vault_free(struct broker *b);
uint32_t vault_by_id(const struct broker *b, uint64_t id);
/** Item `idx` has this fd (taken over) from now on and goes to every service that should hold it. */
void vault_put(struct broker *b, uint32_t idx, int fd);
/** Give everything that `service` lacks. */
void vault_give_all(struct broker *b, uint32_t service);
void vault_give_round(struct broker *b, uint32_t idx);
/** Take an item back from everybody, close it, free its record. */
void vault_drop(struct broker *b, uint32_t idx);
int vault_engine_has(const struct broker *b, uint32_t idx);
/** New segment: item RESERVED → memfd → item's fd, given round if `round`. Index or -errno. */
int vault_seg_new(struct broker *b, const char *name, uint32_t seg_kind, uint64_t id, uint64_t owner, uint64_t size,
                  const void *geom, int round);

/* custody_srv.c: the conversation with the services */
int custody_srv_start(struct broker *b);
void custody_srv_stop(struct broker *b);
int custody_srv_send_give(struct broker *b, uint32_t service, uint32_t idx, int fd);
void custody_srv_send_drop(struct broker *b, uint32_t service, uint64_t id);
/** Ask for items back; n ≤ 4096 ids. */
void custody_srv_welcome(struct broker *b, uint32_t service, const uint64_t *need, size_t n);
void custody_srv_ready(struct broker *b, uint32_t service);
void custody_srv_policy(struct broker *b);
void custody_srv_worker_dead(struct broker *b, uint64_t worker_id);

/* attach_srv.c: connections of apps, replies, requests that wait */
int attach_srv_start(struct broker *b);
void attach_srv_open(struct broker *b); /* from here on apps are served */
void attach_srv_stop(struct broker *b);
void attach_srv_request(struct broker *b, struct conn *c, const uint8_t *buf, size_t len);
int attach_srv_reply(struct conn *c, Hoststack__Attach__Reply *r, const int *fds, int n_fds);
/** rc: 0 or -errno. */
void attach_srv_answer(struct conn *c, uint32_t seq, int rc, const char *text);
struct pend *pend_new(struct conn *c, uint32_t seq, enum pend_what what, uint32_t idx, uint64_t id);
/** Answers what no longer waits. Called after everything the engine says. */
void pend_check(struct broker *b);
/** Forget the requests of a connection (NULL: of all). */
void pend_drop(struct broker *b, const struct conn *c);

/* hello.c, workers.c: the handlers. rc 0 = answered or waiting; else -errno is answered with *text. */
int hello_on(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Hello *h, const char **text);
int hello_done(struct broker *b, struct pend *p);
int workers_on_add(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__AddWorker *m,
                   const char **text);
int workers_add_done(struct broker *b, struct pend *p);
int workers_on_mapped(struct broker *b, struct conn *c, uint32_t seq, uint64_t worker_id, const char **text);
/** What a worker's program says of itself so far (abi/worker.h); zeros while there is no A. Claims, only shown. */
struct workers_words {
  uint32_t on_stack, on_kernel; /* sockets */
  uint32_t lost;                /* datagrams that found no room at their receiver, by cut-through */
  uint32_t late;                /* sleeps whose ceiling found work that nobody rang for: lost wake-ups */
};
void workers_words(const struct broker *b, uint32_t w, struct workers_words *out);
int workers_on_remove(struct broker *b, struct conn *c, uint32_t seq, uint64_t worker_id, const char **text);
/** Index of a live worker that belongs to the connection's process, or REGISTRY_NONE. */
uint32_t workers_of_conn(const struct broker *b, const struct conn *c, uint64_t worker_id);
/** The same of its application. */
uint32_t workers_of_app(const struct broker *b, const struct conn *c, uint64_t worker_id);

/* parts.c: parts of A segments */
int parts_on_add(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__AddPart *m,
                 const char **text);
int parts_on_mapped(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__PartMapped *m,
                    const char **text);
int parts_on_drop(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__DropPart *m,
                  const char **text);
int parts_done(struct broker *b, struct pend *p);
/** All that a worker has, from everybody. */
void parts_drop_worker(struct broker *b, uint64_t worker_id);
uint32_t parts_count(const struct broker *b, uint64_t worker_id);
/** Bytes that they count against limits. */
uint64_t parts_memory(const struct broker *b, uint64_t worker_id);

/* ns.c */
/** Namespace number for a Hello on socket `sock_ns`, 0 = default. Returns it or -errno. */
int ns_check(const struct broker *b, uint32_t sock_ns, const char *id, uint64_t secret, const char **text);
const char *ns_name(const struct broker *b, uint32_t ns);
/** Number of a namespace by its id, "" and "default" are 0; -ENOENT. */
int ns_find(const struct broker *b, const char *id);

/** Of an app, 0 if there is no such app. */
uint32_t ns_of_app(const struct broker *b, uint64_t app_id);
uint32_t ns_of_worker(const struct broker *b, uint64_t worker_id);

/* limit.c: what apps and namespaces use and may use */
struct limit_use {
  uint32_t apps, workers;
  uint64_t sessions; /* slots of workers that are not draining */
  uint32_t listeners;
  uint64_t memory; /* bytes of all segments, also of those that drain */
};
/** Use of one app, or with app_id 0 of namespace `ns`. */
void limit_use(const struct broker *b, uint64_t app_id, uint32_t ns, struct limit_use *u);
/** The configured limit of a namespace; NULL: the default one has none. */
const struct config_limit *limit_of_ns(const struct broker *b, uint32_t ns);
/** A new worker of the app: `*slots` is lowered to what is left. 0, -EMFILE (app's sessions), -ENFILE (namespace's),
 * -ENOMEM. */
int limit_worker(struct broker *b, uint64_t app_id, uint32_t *slots, const char **text);
/** A new listener of the app, shares excepted. 0 or -ENOBUFS. */
int limit_listener(struct broker *b, uint64_t app_id, const char **text);
/** `size` bytes more for what the app writes, promised from now on (0: as they are touched). 0 or -ENOMEM. */
int limit_part(struct broker *b, uint64_t app_id, uint64_t size, const char **text);
/** Bytes of memory that a segment has, 0 if it is not here. */
uint64_t limit_seg_memory(const struct broker *b, uint64_t seg_id);

/* ports.c: who holds which local address and port */
int ports_tables(struct broker *b);
void ports_free(struct broker *b);
/** Conflict of `n` with what is held; `listening` = it is about to listen. `skip`: bind not to look at. 0 or
 * -EADDRINUSE. */
int ports_conflict(const struct broker *b, const struct abi_reg_bind *n, int listening, uint32_t skip);
/** Is the address ours, and one that namespace `ns` may use, or a wildcard? 0 or -EADDRNOTAVAIL. */
int ports_address_ok(const struct broker *b, uint32_t ns, uint8_t proto, const uint8_t ip[16]);
/** A free ephemeral port for `n`, or -EADDRINUSE. */
int ports_pick(struct broker *b, const struct abi_reg_bind *n);
uint32_t ports_add(struct broker *b, const struct abi_reg_bind *n);
void ports_remove(struct broker *b, uint32_t idx);
uint32_t ports_find(const struct broker *b, uint64_t worker_id, uint32_t slot, uint32_t gen);
int ports_is_wild(const uint8_t ip[16]);

/* listen.c: Bind, Listen, Unbind */
int listen_on_bind(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Bind *m, const char **text);
int listen_on_listen(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Listen *m,
                     const char **text);
int listen_on_unbind(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Unbind *m,
                     const char **text);
int listen_done(struct broker *b, struct pend *p);
/** Everything that a worker holds. Returns listeners removed; the policy is published. */
void listen_drop_worker(struct broker *b, uint64_t worker_id);

/* pair.c: cut-through */
int pair_on_pair(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Pair *m, const char **text);
int pair_on_gone(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__PairGone *m,
                 const char **text);
/** A worker is gone: its pairs are not shown any more; the other sides find out by themselves. */
void pair_drop_worker(struct broker *b, uint64_t worker_id);
void pair_fini(struct broker *b);
/** Walks the pairs' sessions: cb(ctx, ...) once per connection that both sides hold or the client has asked for. */
typedef void pair_each_fn(void *ctx, uint64_t client_worker, uint64_t server_worker, const struct abi_sess_app *client,
                          const struct abi_sess_app *server);
void pair_each(const struct broker *b, pair_each_fn *fn, void *ctx);

/* pair_ctl.c */
int pair_ctl_sessions(const struct broker *b, uint32_t offset, uint32_t limit, uint8_t **reply, size_t *reply_len);

/* policy.c: the table the engine reads */
int policy_open(struct broker *b, uint32_t item);
void policy_close(struct broker *b);
/** Make an entry. Index or REGISTRY_NONE. */
uint32_t policy_add(struct broker *b, const struct abi_listen_entry *e);
void policy_backlog(struct broker *b, uint32_t idx, uint32_t backlog);
void policy_remove(struct broker *b, uint32_t idx);
/** policy_gen + 1 and tell the engine. Returns the new generation. */
uint32_t policy_publish(struct broker *b);
/** After a crash: odd generations are made even, entries of workers that are not live are freed. */
void policy_repair(struct broker *b);

/* rule.c: session rules */
int rule_open(struct broker *b, uint32_t item);
void rule_close(struct broker *b);
/** The records changed: compiled now, or as soon as the engine leaves the bank that is to be written. */
void rule_changed(struct broker *b);
void rule_tick(struct broker *b);
/** Whether all workers of the engine go by the rules as they are. */
int rule_in_force(const struct broker *b);
/** Whether an app of a namespace may connect to one of our own addresses without the engine's looking at it. */
int rule_cut_ok(const struct broker *b, uint32_t ns, uint8_t proto, const uint8_t ip[16], uint16_t port);

/* rule_ctl.c: control requests; 0 or -errno of packing */
int rule_ctl_add(struct broker *b, const Hoststack__Control__AddRule *m, uint8_t **reply, size_t *reply_len);
int rule_ctl_del(struct broker *b, const Hoststack__Control__DelRule *m, uint8_t **reply, size_t *reply_len);
int rule_ctl_show(const struct broker *b, const Hoststack__Control__ShowRule *m, uint8_t **reply, size_t *reply_len);

/* death.c */
int death_watch(struct broker *b, uint32_t proc);
void death_proc(struct broker *b, uint32_t proc);
/** The rest of a death that was begun: its workers drain. Also after a broker that died in the middle of it. */
void death_finish(struct broker *b, uint32_t proc);
void death_worker(struct broker *b, uint32_t worker, const char *why);
void death_drained(struct broker *b, uint64_t worker_id);
void death_lied(struct broker *b, uint64_t worker_id, const char *why);
/** Workers that still drain, to an engine that has just come. */
void death_repeat(struct broker *b);
/** Frees a dead process's records when its last worker is gone, and its app with the last process. */
void death_collect(struct broker *b, uint32_t proc);
void death_collect_app(struct broker *b, uint64_t app_id);

/* ctl.c */
int broker_ctl(void *ctx, const uint8_t *req, size_t req_len, uint8_t **reply, size_t *reply_len);

#endif
