/*
 * Custody client: the side of the custody socket (proto/custody.proto) that engine, nicio and api hold.
 *
 * It keeps the vault (a dup of every item it was given), connects to the broker again whenever it is gone, and shows
 * the vault to the new one. Callbacks run on the loop's thread. The items themselves belong to the vault; a user dups
 * what it maps.
 */
#ifndef HS_SVC_CUSTODY_H
#define HS_SVC_CUSTODY_H

#include "abi/registry.h"
#include "svc/loop.h"

#define CUSTODY_SOCKET "custody" /* RUN_DIR/custody, mode 0600: svc_path(s, CUSTODY_SOCKET, …) */

enum custody_service { CUSTODY_NICIO = 1, CUSTODY_ENGINE = 2, CUSTODY_API = 4 };

struct custody_item {
  uint64_t id;
  uint32_t kind; /* enum abi_item_kind */
  uint32_t seg_kind;
  uint64_t owner;
  uint64_t size;
  uint64_t place, charge; /* abi/registry.h */
  int fd;                 /* the vault's; dup it to keep it beyond `drop` */
};

struct custody_ops {
  int (*item)(void *ctx, const struct custody_item *it);  /* a new item was given; -errno: it is of no use, and let go
                                                             of: the broker does not hear that it came */
  void (*drop)(void *ctx, const struct custody_item *it); /* about to be closed: unmap */
  void (*ready)(void *ctx, uint32_t broker_epoch);        /* all items known; comes again after each broker restart */
  void (*policy)(void *ctx, uint32_t gen);
  void (*worker_dead)(void *ctx, uint64_t worker_id);
};

struct custody;
int custody_new(struct custody **out, struct loop *l, const char *path, enum custody_service who,
                const struct custody_ops *ops, void *ctx);
void custody_free(struct custody *c);
/** Visit all items in the vault. */
void custody_each(struct custody *c, void (*cb)(void *ctx, const struct custody_item *it), void *ctx);
const struct custody_item *custody_find(struct custody *c, uint32_t kind, uint32_t seg_kind, uint64_t owner);
/* Said to the broker; kept and said again after its restart where it still matters. 0 or -errno. */
int custody_deposit(struct custody *c, uint32_t kind, uint64_t owner, int fd);
int custody_policy_seen(struct custody *c, uint32_t gen);
int custody_worker_live(struct custody *c, uint64_t worker_id);
int custody_worker_drained(struct custody *c, uint64_t worker_id);
int custody_worker_lied(struct custody *c, uint64_t worker_id, const char *why);

#endif
