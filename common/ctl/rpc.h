/*
 * Request and reply over NNG with protobuf bodies (proto/control.proto).
 *
 * The server hands its caller a pollable descriptor, so that a handler runs on the service's main loop and needs no
 * lock.
 */
#ifndef HS_CTL_RPC_H
#define HS_CTL_RPC_H

#include <stddef.h>
#include <stdint.h>

struct rpc_server;
struct rpc_client;

/** Answers one request: `reply` is malloc'ed by the handler and freed by rpc. Returns 0, or -errno to drop the request.
 */
typedef int (*rpc_handler)(void *ctx, const uint8_t *req, size_t req_len, uint8_t **reply, size_t *reply_len);

/** Serve at an NNG url (ipc://…, tcp://…). Call rpc_server_listen again for further urls. 0 or -errno. */
int rpc_server_new(struct rpc_server **out, rpc_handler handler, void *ctx);
int rpc_server_listen(struct rpc_server *s, const char *url);
int rpc_server_fd(const struct rpc_server *s); /* readable when requests wait */
/** Handle all waiting requests. */
void rpc_server_run(struct rpc_server *s);
void rpc_server_free(struct rpc_server *s);

/** A client; dials in the background and again after the server's restart, from scratch after a call that failed. */
int rpc_client_new(struct rpc_client **out, const char *url);
/** One call. `reply` is malloc'ed. 0, -ETIMEDOUT, -ECONNREFUSED … Blocks at most timeout_ms. */
int rpc_client_call(struct rpc_client *c, const void *req, size_t req_len, uint8_t **reply, size_t *reply_len,
                    int timeout_ms);
void rpc_client_free(struct rpc_client *c);

#endif
