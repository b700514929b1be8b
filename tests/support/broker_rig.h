/*
 * A real hs-broker in a run dir of its own, with doubles of engine, nicio and api (custody clients in this process) and
 * of app processes. One thread: whatever waits, waits by turning the loop. Used by the broker's tests.
 */
#ifndef HS_TESTS_BROKER_RIG_H
#define HS_TESTS_BROKER_RIG_H

#include "abi/frame.h"
#include "abi/policy.h"
#include "attach.pb-c.h"
#include "shm/session.h"
#include "svc/custody.h"
#include "svc/loop.h"

#include <sys/types.h>

#define RIG_WAIT_MS 30000
#define RIG_CORE_ITEMS                                                                                                 \
  (10u + ABI_LINKS_MAX) /* registry, policy, rules, packet, tcb, 4 stats pages, a bell per link and nicio's */

/** Double of a service. */
struct rig_svc {
  struct broker_rig *rig;
  struct custody *cust;
  unsigned items, drops, ready, policies;
  uint32_t policy_gen, epoch;
  uint64_t dead[32];
  unsigned n_dead;
  int auto_live, auto_policy, auto_drain;
  int a_before_sealed; /* an A segment came without its seals: must stay 0 */
};

struct broker_rig {
  char dir[64], conf[80], attach[80];
  pid_t pid;
  int status;  /* of the last broker that ended */
  int respawn; /* a broker that ends is started again, without faults */
  unsigned respawned;
  struct loop *loop;
  struct rig_svc engine, nicio, api;
};

/** An app process. */
struct rig_app {
  struct broker_rig *rig;
  int fd, bell, door;
  uint64_t app_id, proc_id, worker_id;
  uint8_t token[16];
  int have_token;
  const char *ns; /* namespace that it asks for, NULL = none; set after rig_app_init */
  uint32_t seq;
  struct worker_view view;
  int mapped;
};

typedef Hoststack__Attach__Request rig_request;
typedef Hoststack__Attach__Reply rig_reply;

/** extra: further YAML, may be "". */
void rig_open(struct broker_rig *r, const char *broker_keys);
void rig_close(struct broker_rig *r);
/** fault: HS_FAULT of the new broker, or NULL. */
void rig_start(struct broker_rig *r, const char *fault);
/** Signal and reap. Returns the wait status. */
int rig_kill(struct broker_rig *r, int sig);
/** 1 when the broker has ended by itself (then it is reaped). */
int rig_died(struct broker_rig *r);
void rig_service_start(struct rig_svc *s, enum custody_service who);
void rig_service_stop(struct rig_svc *s);
/** Engine and nicio come up and both hear Ready. */
void rig_up(struct broker_rig *r);
/** CMocka's fixture: a rig with these broker keys, up; *state is a struct broker_rig. 0. */
int rig_setup(void **state, const char *broker_keys);
/** Ends the broker, if it lives still, by SIGTERM and asserts its status 0: the sanitizer build looks for leaks there.
 */
int rig_teardown(void **state);
/** Turn the loop until *word reaches at least `want`. Fails the test after RIG_WAIT_MS. */
void rig_until(struct broker_rig *r, const unsigned *word, unsigned want);
/** One turn of at most ms. */
void rig_turn(struct broker_rig *r, int ms);
unsigned rig_items(struct rig_svc *s);
/** The policy segment as the engine's double holds it. */
void rig_policy(struct broker_rig *r, struct seg *s, struct abi_policy **p, struct abi_listen_entry **e);

void rig_app_init(struct rig_app *a, struct broker_rig *r);
/** 0 or -errno. */
int rig_app_connect(struct rig_app *a);
/** One request, one reply. -EPIPE at the broker's end, else the reply's -rc. *out is freed by the caller, may be NULL.
 */
int rig_app_call(struct rig_app *a, rig_request *rq, rig_reply **out, int *fds, int *n_fds);
int rig_app_hello(struct rig_app *a);
/** A new process of the namespace ns (NULL: the default one) that has said Hello. */
void rig_app_known(struct rig_app *a, struct broker_rig *r, const char *ns);
/** The same, with a worker that is mapped. */
void rig_app_up(struct rig_app *a, struct broker_rig *r, const char *ns);
int rig_app_add_worker(struct rig_app *a);
/** AddWorker as *rq says it. */
int rig_app_take_worker(struct rig_app *a, rig_request *rq);
int rig_app_map(struct rig_app *a);
/** An address as text, and a port, as requests name them; *ep refers to addr. */
void rig_endpoint(Hoststack__Attach__Endpoint *ep, uint8_t addr[16], const char *ip, uint32_t port);
int rig_app_bind(struct rig_app *a, uint32_t slot, uint32_t gen, const char *ip, uint16_t port, unsigned flags,
                 uint16_t *got);
int rig_app_listen(struct rig_app *a, uint32_t slot, uint32_t gen, uint32_t backlog, uint32_t share_of, uint32_t *id);
int rig_app_unbind(struct rig_app *a, uint32_t slot, uint32_t gen);
/** Its process ends: all descriptors close. */
void rig_app_die(struct rig_app *a);

#define RIG_UDP       0x100u /* flags of rig_app_bind besides ABI_BIND_* */
#define RIG_NO_FAMILY 0x200u

#endif
