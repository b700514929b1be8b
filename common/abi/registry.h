/*
 * Registry segment: what a broker leaves to the next broker.
 *
 * Written by the broker alone. Every fd that was ever handed out has an item here; its `state` moves by single stores:
 * RESERVED (id taken) → VAULTED (engine holds a dup) → SENT (the app was sent it) → CONFIRMED (the app said so). A new
 * broker reconciles: an item below SENT that no app claims is dropped, everything else is taken back from the vault.
 */
#ifndef HS_ABI_REGISTRY_H
#define HS_ABI_REGISTRY_H

#include "abi/seg.h"

enum abi_item_state { ABI_ITEM_FREE = 0, ABI_ITEM_RESERVED, ABI_ITEM_VAULTED, ABI_ITEM_SENT, ABI_ITEM_CONFIRMED };

enum abi_item_kind {
  ABI_ITEM_SEG = 1,       /* a segment; seg_kind says which */
  ABI_ITEM_BELL = 2,      /* services' end of an app process's socketpair */
  ABI_ITEM_DOORBELL = 3,  /* eventfd: app process → engine */
  ABI_ITEM_LINK_BELL = 4, /* eventfd between nicio and engine; owner 0: towards nicio, 1 + n: towards engine worker n */
  ABI_ITEM_PORT = 5,      /* fd of a kernel port (AF_PACKET socket or tap) */
};

/** One descriptor in custody. 64 bytes. */
struct abi_item {
  uint32_t state; /* atomic: enum abi_item_state */
  uint32_t kind;  /* enum abi_item_kind */
  uint64_t id;    /* unique; for a segment the id in its header */
  uint64_t owner; /* segment A/E, part: worker id; bell, doorbell: process id number; port: index */
  uint32_t seg_kind;
  uint32_t pad;
  uint64_t size;
  uint64_t place;  /* A segment: bytes of address space with its parts, 0 = the file's; part: its offset there, bytes */
  uint64_t charge; /* part: bytes that it counts at least against limits of memory, from the start */
  uint64_t reserved;
};
_Static_assert(sizeof(struct abi_item) == 64, "custody item");

/** An application, a process of it, and a worker of a process. `used` is stored last. */
struct abi_reg_app {
  uint32_t used;
  uint32_t ns;
  uint64_t id;
  char name[64];
  uint8_t reserved[48];
};
struct abi_reg_proc {
  uint32_t used; /* 1 live, 2 dead: its orphans finish */
  uint32_t pid;  /* SO_PEERCRED of its attach socket */
  uint64_t id;
  uint64_t app_id;
  uint8_t token[16]; /* what the process shows to a new broker */
  uint32_t uid, gid;
  uint8_t reserved[80];
};
struct abi_reg_worker {
  uint32_t used; /* 1 live, 2 draining */
  uint32_t pad;
  uint64_t id;
  uint64_t proc_id;
  uint64_t app_id;
  uint64_t seg_e, seg_a; /* item ids */
  uint64_t tx_off;       /* A's arena_off, … */
  uint64_t tx_arena;     /* … arena_size, … */
  uint64_t tx_first;     /* … the bytes of it that are in the file itself … */
  uint64_t tx_step;      /* … and in its first parts; 0 = it has no parts */
  uint8_t reserved[48];
};
/** A local address and port that a session slot holds (bind). 64 bytes. */
struct abi_reg_bind {
  uint32_t used; /* atomic: 1 held, stored last */
  uint32_t slot;
  uint64_t worker_id;
  uint32_t gen;   /* of the slot */
  uint32_t uid;   /* whose: SO_REUSEPORT is shared among one uid only */
  uint8_t proto;  /* 0 TCP, 1 UDP */
  uint8_t family; /* of the address: 4 or 6 */
  uint16_t port;  /* host order */
  uint32_t flags; /* ABI_BIND_* */
  uint8_t ip[16]; /* network order, IPv4 mapped; :: or ::ffff:0.0.0.0 = wildcard */
  uint32_t scope;
  uint32_t listener_id; /* 0 = does not listen */
  uint32_t vrf;
  uint32_t pad;
};
#define ABI_BIND_REUSEADDR 0x1u
#define ABI_BIND_REUSEPORT 0x2u
#define ABI_BIND_V6ONLY    0x4u
#define ABI_BIND_NO_CUT    0x8u  /* never by cut-through */
#define ABI_BIND_APP_SHARE 0x10u /* shared with other workers of the same app that have it, too */
#define ABI_BIND_LOCAL     0x20u /* for apps of its namespace alone (app-scope-global off) */
#define ABI_BIND_PROXY     0x40u /* also for ports that nobody has (app-proxy-transport-tcp, -udp) */
_Static_assert(sizeof(struct abi_reg_bind) == 64, "bind record");
_Static_assert(sizeof(struct abi_reg_app) == 128, "app record");
_Static_assert(sizeof(struct abi_reg_proc) == 128, "process record");
_Static_assert(sizeof(struct abi_reg_worker) == 128, "worker record");

/** hdr.geom of the registry segment. */
struct abi_registry_geom {
  uint64_t block_off;
  uint64_t n_items, items_off;
  uint64_t n_apps, apps_off;
  uint64_t n_procs, procs_off;
  uint64_t n_workers, workers_off;
  uint64_t n_binds, binds_off;
  uint64_t reserved[5];
};
_Static_assert(sizeof(struct abi_registry_geom) == 128, "registry geometry fills hdr.geom");

struct abi_registry {
  uint64_t next_id;      /* atomic: ids of items, apps, processes, workers; only grows */
  uint32_t broker_epoch; /* raised by each broker */
  uint32_t reserved[61];
};
_Static_assert(sizeof(struct abi_registry) == 256, "registry block");

#endif
