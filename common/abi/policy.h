/*
 * Policy segment: listeners as the broker compiled them, read by the engine.
 *
 * A dense array of entries, each with its own generation: even = stable, odd = being written. The broker raises
 * `policy_gen` after a change and tells the engine over the custody socket; the engine walks the entries whose gen it
 * has not seen and stores in its stats page which policy_gen it serves. Connects and accepts go on from this table
 * while the broker is down.
 */
#ifndef HS_ABI_POLICY_H
#define HS_ABI_POLICY_H

#include "abi/session.h"

#define ABI_LISTEN_REUSEPORT 0x1u
#define ABI_LISTEN_V6ONLY    0x2u
#define ABI_LISTEN_LOCAL     0x4u /* for apps of its namespace alone (app-scope-global off) */
#define ABI_LISTEN_PROXY                                                                                               \
  0x8u /* also gets what comes to its addresses on ports that nobody has; datagrams: ABI_OPT_STRAYS */

/** One process's share in a listener. 128 bytes. */
struct abi_listen_entry {
  uint32_t gen;       /* atomic: even stable, odd being written; 0 = never used */
  uint32_t live;      /* 1 = listening, 0 = entry free */
  uint64_t worker_id; /* app worker that gets the offers */
  uint32_t slot;      /* its listener slot */
  uint32_t slot_gen;
  uint32_t listener_id;     /* same for all shares of one listening socket (fork) */
  uint32_t backlog;         /* connections not yet accepted, 1 … 65535 */
  struct abi_endpoint addr; /* ip all zero = wildcard; family 6 without V6ONLY takes both families */
  uint32_t vrf;
  uint32_t ns;   /* namespace number */
  uint8_t proto; /* 0 TCP, 1 UDP */
  uint8_t pad[3];
  uint32_t flags;   /* ABI_LISTEN_* */
  uint64_t app_tag; /* hash of the app's name, for redirects (abi/rules.h) */
  uint32_t reserved[12];
};
_Static_assert(sizeof(struct abi_listen_entry) == 128, "listener entry");

/** hdr.geom of the policy segment. */
struct abi_policy_geom {
  uint64_t block_off; /* struct abi_policy */
  uint64_t n_listen;
  uint64_t listen_off;
  uint64_t reserved[13];
};
_Static_assert(sizeof(struct abi_policy_geom) == 128, "policy geometry fills hdr.geom");

struct abi_policy {
  uint32_t policy_gen;  /* atomic */
  uint32_t listen_high; /* atomic: entries [0, high) were ever used */
  uint32_t reserved[62];
};
_Static_assert(sizeof(struct abi_policy) == 256, "policy block");

#endif
