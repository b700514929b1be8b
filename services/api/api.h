/*
 * The api server: takes control requests from clients and passes each on to the service that owns the answer.
 */
#ifndef HS_API_API_H
#define HS_API_API_H

#include "ctl/rpc.h"
#include "svc/svc.h"

enum api_service { API_NICIO, API_ENGINE, API_BROKER, API_SERVICES };

struct api {
  struct svc svc;
  struct rpc_client *client[API_SERVICES]; /* made at first use */
};

/** Answer a control Request; rpc_handler. Runs on the loop; a service that does not answer costs at most a second. */
int api_handle(void *ctx, const uint8_t *req, size_t req_len, uint8_t **reply, size_t *reply_len);
void api_close(struct api *a);

#endif
