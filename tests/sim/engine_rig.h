/*
 * Two whole engine workers in one process, joined by a simulated wire, with one app on each: real segments, rings,
 * fifos, IP and TCP; only nicio and the broker are played by the rig. The clock is virtual.
 */
#ifndef HS_TESTS_ENGINE_RIG_H
#define HS_TESTS_ENGINE_RIG_H

#include "base/rng.h"
#include "ip/ip_counters.h"
#include "session/worker.h"

#define RIG_RX_SLOTS 512u
#define RIG_TX_SLOTS 256u
#define RIG_WIRE     2048u

/** TIME_WAIT records of the hosts that rig_open makes; 0 = whole TCBs wait. */
extern uint32_t rig_time_waits;
/** engine.max-connections of those hosts; 0 = the default. */
extern uint32_t rig_connections;
/** engine.tcp.syn-cookies of these: 0 off, 1 auto, 2 always. */
extern uint32_t rig_syncookies;

struct rig_frame {
  uint8_t *bytes;
  uint32_t len;
  uint16_t flags, gso_size;
  usec_t due;
};

struct rig_host {
  uint8_t number; /* 1 or 2: address 10.0.0.number and fd00::number */
  struct config cfg;
  struct seg packet, tcb, policy, e, a;
  int bells[2], doorbell, link_bell[2];
  struct worker w;
  int alive;
  uint64_t counters[EC_N + TCP_N_COUNTERS + IPC_N + UDP_N_COUNTERS];
  /* nicio's part */
  struct frame_seg fs;
  struct frame_link nic;
  uint32_t rx_free[RIG_RX_SLOTS], n_rx_free;
  uint32_t lent[RIG_RX_SLOTS], n_lent; /* slots out, in order */
  struct abi_frame_desc lent_desc[RIG_RX_SLOTS];
  struct rig_frame wire[RIG_WIRE]; /* frames on their way to this host */
  uint32_t wire_head, wire_tail;
  /* the app's part */
  struct worker_view view;
  struct hint_prod to_engine;
  struct hint_cons from_engine;
  struct arena *tx_arena;
  int worker_was_drained;
  int may_lie; /* a lie is what the test is about */
  const char *lied;
};

struct rig {
  struct rig_host host[2];
  struct rng rng;
  double loss;
};

/** One app session: both fifo handles on the app's side. */
struct rig_sess {
  struct rig_host *h;
  uint32_t slot, gen;
  struct abi_sess_app *a;
  const struct abi_sess_engine *e;
  struct fifo_prod tx;
  struct fifo_cons rx;
};

void rig_open(struct rig *r, uint64_t seed);
void rig_close(struct rig *r);
/** Advance the clock by `us` and let everybody have a turn. */
void rig_step(struct rig *r, usec_t us);
usec_t rig_now(void);
/** The engine is gone without a word; a new one adopts. */
void rig_engine_kill(struct rig_host *h);
void rig_engine_start(struct rig_host *h);
/** nicio is gone and comes back with a new epoch. */
void rig_nicio_restart(struct rig_host *h);
/** What the broker does for listen(): a policy entry, and the app half that says listening and armed. */
void rig_listen(struct rig_host *h, uint32_t slot, uint16_t port, int family, int armed);
void rig_arm(struct rig_host *h, uint32_t slot);
void rig_connect(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint32_t gen, uint16_t port, int family);
/** Publishes a connect of a session from rig_sess_open; kind: 0 or ABI_REQ_FAST. */
void rig_connect_ask(struct rig_host *h, struct rig_sess *s, struct abi_endpoint remote, uint8_t kind);
/** The same to host `number`, which may be h itself. */
void rig_connect_to(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint32_t gen, uint8_t number, uint16_t port,
                    int family);
/** Both fifo handles of a slot, its app half zeroed. */
void rig_sess_open(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint32_t gen);
struct abi_endpoint rig_endpoint(uint8_t number, uint16_t port, int family);
/** An app opens a session of datagrams of transport `proto`; with a policy entry of the slot it has that one's port. */
void rig_open_dgram(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint32_t gen, uint8_t proto, int family);
/** What the broker does for bind(): an entry for every address of the family, 6: of both. */
void rig_policy(struct rig_host *h, uint32_t slot, uint32_t gen, uint8_t proto, uint16_t port, int family);
/** What it does for Unbind: entries of the port are free. */
void rig_policy_gone(struct rig_host *h, uint16_t port);
/** To the other host over IPv4 with Fast Open, `data` already in the tx fifo. */
void rig_connect_fast(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint16_t port, const void *data,
                      uint32_t len);
/** The same with these ABI_OPT_* alone. */
void rig_connect_with(struct rig_host *h, struct rig_sess *s, uint32_t slot, uint16_t port, const void *data,
                      uint32_t len, uint32_t flags);
/** Take the session offered to listener `slot`: 1 if there was one. */
int rig_accept(struct rig_host *h, uint32_t listener, struct rig_sess *s);
uint32_t rig_write(struct rig_sess *s, const void *p, uint32_t len);
/** The next byte that is written is urgent. */
void rig_urgent(struct rig_sess *s);
uint32_t rig_read(struct rig_sess *s, void *p, uint32_t len);
/** Push a hint and ring if asked to. */
void rig_hint(struct rig_host *h, uint32_t slot);
void rig_want(struct rig_sess *s, uint32_t bits);
uint32_t rig_state(const struct rig_sess *s);
int rig_eof(const struct rig_sess *s);

/** Time goes on by so many turns of 100 µs. */
void rig_turns(struct rig *r, int turns);
/** Turns until a session of either host is in this state (enum abi_sess_state); fails the test after 6 s. */
void rig_until(struct rig *r, struct rig_sess *s, uint32_t state);
/** Turns until host 1 is offered a connection at this listener, and takes it; fails the test after 6 s. */
void rig_accept_at(struct rig *r, uint32_t listener, struct rig_sess *s);
/** Opens the rig; host 1 listens at slot 0, port 80, armed; host 0 has connected to it from slot 0. */
void rig_meet(struct rig *r, uint64_t seed, struct rig_sess *client);

#endif
