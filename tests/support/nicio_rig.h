/*
 * A nicio for tests: a double of the broker (the server side of the custody socket, on a thread) and a double of the
 * engine (one frame link, driven by the test), around the real hs-nicio in a network namespace of the test's own.
 *
 *   rig_open → rig_veth / rig_tap → rig_spawn → rig_turn in a loop … → rig_kill, rig_spawn again … → rig_close
 *
 * Everything made has the test's pid in its name and is removed by rig_close. Needs root; rig_may tells.
 */
#ifndef HS_TESTS_NICIO_RIG_H
#define HS_TESTS_NICIO_RIG_H

#include "shm/frame.h"

#include <pthread.h>
#include <sys/types.h>

#define RIG_TX_PER_FRAME 20
#define RIG_DEPOSITS     8

struct rig_item {
  uint64_t id;
  uint32_t kind, seg_kind;
  uint64_t owner;
  int fd;
};

struct rig {
  char dir[64], config[96];
  pid_t pid;
  /* broker */
  int listen_fd, wake[2];
  pthread_t thread;
  pthread_mutex_t lock;
  struct rig_item item[32];
  uint32_t n_items;
  uint32_t gives, deposits, hellos; /* counted under lock */
  uint64_t drop_id;                 /* to be dropped: told to nicio */
  /* segments */
  struct seg packet, app, stats;
  struct frame_seg fs;
  uint64_t app_arena;
  int bell[2];
  /* engine */
  struct frame_link link;
  uint32_t tx_free[4096], n_tx_free;
  uint8_t tx_out[4096];
  int held_rx; /* test: keep RX slots, return none */
  uint64_t rx_frames, rx_descs;
};

/** Sees one received frame, flat in a buffer, with its first descriptor. */
typedef void (*rig_frame_fn)(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *frame, uint32_t len);

/** 1 when namespaces and taps can be made here. */
int rig_may(void);
/** A namespace of its own, a run dir, segments. 0 or -errno. */
int rig_open(struct rig *r, uint32_t n_rx, uint32_t n_tx);
void rig_close(struct rig *r);
/** Run a command, wait; returns its exit code. */
int rig_run(const char *const argv[]);
/** veth pair `k` (kernel's end, gets `cidr`) and `s` (the stack's). 0 or -1. */
int rig_veth(const char *k, const char *s, const char *cidr);
/** Write the configuration: `interfaces` is the YAML below nicio.interfaces, `nicio` further keys of nicio. */
int rig_config(struct rig *r, const char *nicio, const char *interfaces);
/** Start hs-nicio. 0 or -errno. */
int rig_spawn(struct rig *r);
/** kill -9 and reap. */
void rig_kill(struct rig *r);
/** SIGTERM and reap; returns its exit code. */
int rig_term(struct rig *r);
/** Wait for its end; returns its exit code. */
int rig_wait(struct rig *r);
/** Take the engine's side of the link anew (a restarted engine): all TX slots are free when the link is up. */
int rig_engine_open(struct rig *r);
/** One turn of the engine's double: epochs, slots, received frames. Returns frames seen. */
uint32_t rig_turn(struct rig *r, rig_frame_fn fn, void *ctx);
#define RIG_WAIT_MS 30000 /* for what is expected to come */
/** Turn until cond(ctx) holds, at most ms milliseconds. 1 when it did. */
int rig_until(struct rig *r, rig_frame_fn fn, void *ctx, int (*cond)(struct rig *r, void *ctx), int ms);
/** Send a frame: `head` bytes in a TX slot, the rest in further slots, or (from_app) in the A segment. Copies meta from
 * `like` (flags, gso and csum words) if not NULL. 0, -ENOSPC. */
int rig_send(struct rig *r, const uint8_t *frame, uint32_t len, uint32_t head, int from_app,
             const struct abi_frame_desc *like);
/** A request to the control socket; *reply is malloc'ed. 0 or -errno. */
int rig_control(struct rig *r, const uint8_t *req, size_t len, uint8_t **reply, size_t *reply_len);

#endif
