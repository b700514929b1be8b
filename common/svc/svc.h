/*
 * Skeleton of a service: arguments, configuration, signals, pid file, loop, control socket.
 *
 * main() of each service is: svc_start, its own set-up, loop_run, svc_stop. Arguments: -c FILE (configuration), -r DIR
 * (run dir, overrides the file), -l LEVEL, --version, --help.
 */
#ifndef HS_SVC_SVC_H
#define HS_SVC_SVC_H

#include "ctl/rpc.h"
#include "svc/config.h"
#include "svc/loop.h"

struct svc {
  const char *name; /* nicio engine broker api */
  struct config cfg;
  struct loop *loop;
  struct rpc_server *rpc; /* at ipc://RUN_DIR/NAME.ctl */
  usec_t started_at;
  int lock_fd; /* flock on RUN_DIR/NAME.pid */
  int ready;   /* svc_ready was called */
};

/** Parse, load, log, take the lock RUN_DIR/NAME.pid (a second instance is refused, -EEXIST), serve RUN_DIR/NAME.ctl
 * with `handler`, tell systemd/supervisor readiness on fd $HS_READY_FD if set. Returns 0, 1 for --help/--version (exit
 * 0), or -errno after an error message. */
int svc_start(struct svc *s, const char *name, int argc, char **argv, rpc_handler handler, void *ctx);
void svc_ready(struct svc *s);
void svc_stop(struct svc *s);
/** RUN_DIR/file into buf; a `file` that begins with a dot is RUN_DIR/NAME.file. */
const char *svc_path(const struct svc *s, const char *file, char *buf, size_t len);
/** Pack a control Reply, or one that says only an error (err: errno or -errno; text NULL: its standard text), as the
 * result of an rpc_handler. 0 or -ENOMEM. */
struct Hoststack__Control__Reply;
int svc_pack_reply(const struct Hoststack__Control__Reply *r, uint8_t **reply, size_t *reply_len);
int svc_error_reply(int err, const char *text, uint8_t **reply, size_t *reply_len);
/** The part of ShowVersion every service answers alike (packed control Reply). */
int svc_version_reply(const struct svc *s, uint32_t epoch, uint8_t **reply, size_t *reply_len);

#endif
