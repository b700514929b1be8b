/*
 * Configuration of the client library: what vcl.conf and the VCL_ environment say, as a private copy.
 *
 * Read once by app_create; never changes afterwards. Units are in the names.
 */
#ifndef HS_VCL_CONFIG_H
#define HS_VCL_CONFIG_H

#include "vppcom.h"

#define CONFIG_UNSET          UINT64_MAX
#define CONFIG_SOCKET_DEFAULT "/run/hoststack/attach"

struct vcl_config {
  char socket_path[108];     /* the broker's attach socket */
  char namespace_id[64];     /* empty = default */
  uint64_t namespace_secret; /* shown at attach */
  uint32_t max_workers;      /* 1 .. 128 */
  uint32_t rx_fifo_bytes;    /* 0 = the engine sizes it */
  uint32_t tx_fifo_bytes;
  uint64_t segment_bytes; /* memory of a worker's received bytes that stays once touched, 0 = the broker says; … */
  uint64_t add_segment_bytes; /* … more is kept in these steps while it is needed; 0: there is no more */
  uint32_t scope_global;      /* takes part in the network; else it stays within its namespace */
  uint32_t scope_local;       /* connects to listeners of other apps of this stack go straight to them */
  uint32_t proxy_tcp;         /* its listeners get what its namespace has no listener for */
  uint32_t proxy_udp;         /* UDP sessions that listen get what is sent to ports that nobody in its namespace has */
  uint32_t spin_us;           /* longest spin before a sleep; 0 = none */
  double app_timeout_s;       /* 0 = what the broker says */
  double session_timeout_s;
  int debug;          /* VCL_DEBUG: 1 and more may write to stderr */
  uint32_t n_warning; /* unknown keys, bad values */
  int refused;        /* -ENAMETOOLONG: a namespace or socket was named that cannot be, so nothing is attached to */
};

void config_defaults(struct vcl_config *cfg);
/** Reads a file. 0, -ENOENT and other -errno when it can't be read; what is wrong inside is a warning. */
int config_load(struct vcl_config *cfg, const char *path);
/** Same, from text; `name` is for messages. */
void config_parse(struct vcl_config *cfg, const char *text, const char *name);
void config_from_public(struct vcl_config *cfg, const vppcom_cfg_t *pub);
/** The VCL_ variables override what a file said. */
void config_env(struct vcl_config *cfg);

#endif
