/*
 * vcl.conf and the VCL_ environment: the one place that reads them.
 *
 * Called once by vppcom_app_create, before any thread of the library's user is a worker. The keys are those that VCL
 * users have in their files; a key that has no meaning in this stack is accepted and has no effect (NOTES.md lists
 * them). An unknown key or a bad value is a warning with its line number on stderr when VCL_DEBUG is set, never fatal.
 */
#include "vcl_config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CONFIG_FILE_MAX (64 * 1024)

enum config_type { CONFIG_FLAG, CONFIG_U32, CONFIG_U64, CONFIG_SECONDS, CONFIG_TEXT, CONFIG_IGNORED };

struct config_key {
  const char *name;
  enum config_type type;
  size_t off;  /* in struct vcl_config */
  size_t size; /* of a text field */
};

#define FIELD(f) offsetof(struct vcl_config, f), sizeof(((struct vcl_config *)0)->f)

static const struct config_key config_keys[] = {
    {"heapsize", CONFIG_IGNORED, 0, 0},
    {"max-workers", CONFIG_U32, FIELD(max_workers)},
    {"app-socket-api", CONFIG_TEXT, FIELD(socket_path)},
    {"api-socket-name", CONFIG_IGNORED, 0, 0},
    {"segment-size", CONFIG_U64, FIELD(segment_bytes)},
    {"add-segment-size", CONFIG_U64, FIELD(add_segment_bytes)},
    {"segment-baseva", CONFIG_IGNORED, 0, 0},
    {"preallocated-fifo-pairs", CONFIG_IGNORED, 0, 0},
    {"rx-fifo-size", CONFIG_U32, FIELD(rx_fifo_bytes)},
    {"tx-fifo-size", CONFIG_U32, FIELD(tx_fifo_bytes)},
    {"event-queue-size", CONFIG_IGNORED, 0, 0},
    {"listen-queue-size", CONFIG_IGNORED, 0, 0},
    {"app-timeout", CONFIG_SECONDS, FIELD(app_timeout_s)},
    {"session-timeout", CONFIG_SECONDS, FIELD(session_timeout_s)},
    {"app-proxy-transport-tcp", CONFIG_FLAG, FIELD(proxy_tcp)},
    {"app-proxy-transport-udp", CONFIG_FLAG, FIELD(proxy_udp)},
    {"app-scope-local", CONFIG_FLAG, FIELD(scope_local)},
    {"app-scope-global", CONFIG_FLAG, FIELD(scope_global)},
    {"huge_page", CONFIG_IGNORED, 0, 0},
    {"use-mq-eventfd", CONFIG_IGNORED, 0, 0},
    {"tls-engine", CONFIG_IGNORED, 0, 0},
    {"multi-thread-workers", CONFIG_IGNORED, 0, 0},
    {"app_original_dst", CONFIG_IGNORED, 0, 0},
    {"namespace-id", CONFIG_TEXT, FIELD(namespace_id)},
    {"namespace-secret", CONFIG_U64, FIELD(namespace_secret)},
    {"uid", CONFIG_IGNORED, 0, 0},
    {"gid", CONFIG_IGNORED, 0, 0},
    {"spin-us", CONFIG_U32, FIELD(spin_us)},
};
#define CONFIG_N_KEYS (sizeof config_keys / sizeof config_keys[0])

void config_defaults(struct vcl_config *cfg) {
  memset(cfg, 0, sizeof *cfg);
  snprintf(cfg->socket_path, sizeof cfg->socket_path, "%s", CONFIG_SOCKET_DEFAULT);
  cfg->max_workers = 16;
  cfg->add_segment_bytes = CONFIG_UNSET;
  cfg->scope_local = 1;
  cfg->scope_global = 1;
  cfg->spin_us = 100;
  const char *debug = getenv(VPPCOM_ENV_DEBUG);
  cfg->debug = debug != NULL ? (int)strtol(debug, NULL, 0) : 0;
}

static void config_warn(struct vcl_config *cfg, const char *name, unsigned line, const char *what, const char *text) {
  cfg->n_warning++;
  if (cfg->debug > 0)
    dprintf(STDERR_FILENO, "vcl.config %s:%u: %s: %s\n", name, line, what, text);
}

/** A flag is on when it stands there, unless it says otherwise. */
static uint32_t config_is_on(const char *value) {
  static const char *const no[] = {"0", "off", "no", "false"};
  for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
    if (strcasecmp(value, no[i]) == 0)
      return 0;
  return 1;
}

/** Stores one value. 0 or -EINVAL. */
static int config_set(struct vcl_config *cfg, const struct config_key *k, const char *value) {
  void *at = (uint8_t *)cfg + k->off;
  char *end = NULL;
  if (k->type == CONFIG_IGNORED)
    return 0;
  if (k->type == CONFIG_FLAG) {
    uint32_t on = config_is_on(value);
    memcpy(at, &on, sizeof on);
    return 0;
  }
  if (value[0] == '\0')
    return -EINVAL;
  if (k->type == CONFIG_TEXT) {
    if (strlen(value) >= k->size)
      return -EINVAL;
    snprintf(at, k->size, "%s", value);
    return 0;
  }
  if (k->type == CONFIG_SECONDS) {
    double d = strtod(value, &end);
    if (*end != '\0' || !(d >= 0 && d < 1e9))
      return -EINVAL;
    memcpy(at, &d, sizeof d);
    return 0;
  }
  errno = 0;
  unsigned long long v = strtoull(value, &end, 0);
  if (*end != '\0' || errno != 0 || value[0] == '-' || (k->type == CONFIG_U32 && v > UINT32_MAX))
    return -EINVAL;
  if (k->type == CONFIG_U32) {
    uint32_t v32 = (uint32_t)v;
    memcpy(at, &v32, sizeof v32);
  } else {
    uint64_t v64 = v;
    memcpy(at, &v64, sizeof v64);
  }
  return 0;
}

/** One line without its comment: "key", "key value". */
static void config_line(struct vcl_config *cfg, char *text, const char *name, unsigned line) {
  static const char *const space = " \t\r{}";
  char *key = text + strspn(text, space);
  size_t key_len = strcspn(key, space);
  char *value = key + key_len;
  value += strspn(value, space);
  value[strcspn(value, space)] = '\0';
  key[key_len] = '\0';
  if (key[0] == '\0' || strcmp(key, "vcl") == 0)
    return;
  for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
    if (strcmp(config_keys[i].name, key) != 0)
      continue;
    if (config_set(cfg, &config_keys[i], value) < 0)
      config_warn(cfg, name, line, "bad value for key", key);
    return;
  }
  config_warn(cfg, name, line, "unknown key", key);
}

void config_parse(struct vcl_config *cfg, const char *text, const char *name) {
  char buf[512];
  for (unsigned line = 1; *text != '\0'; line++) {
    size_t len = strcspn(text, "\n");
    size_t take = len < sizeof buf - 1 ? len : sizeof buf - 1;
    memcpy(buf, text, take);
    buf[take] = '\0';
    buf[strcspn(buf, "#")] = '\0';
    /* "vcl { key value }" on one line: the part behind the brace is the line */
    char *inner = strchr(buf, '{');
    config_line(cfg, inner != NULL ? inner + 1 : buf, name, line);
    text += len + (text[len] == '\n');
  }
  if (cfg->max_workers < 1 || cfg->max_workers > 128)
    cfg->max_workers = cfg->max_workers < 1 ? 1 : 128;
}

int config_load(struct vcl_config *cfg, const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  int rc = 0;
  char *text = malloc(CONFIG_FILE_MAX + 1);
  size_t len = 0;
  while (text != NULL && len < CONFIG_FILE_MAX) {
    ssize_t n = read(fd, text + len, CONFIG_FILE_MAX - len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      rc = -errno;
    if (n <= 0)
      break;
    len += (size_t)n;
  }
  close(fd);
  if (text == NULL)
    return -ENOMEM;
  if (rc == 0) {
    text[len] = '\0';
    config_parse(cfg, text, path);
  }
  free(text);
  return rc;
}

void config_from_public(struct vcl_config *cfg, const vppcom_cfg_t *pub) {
  if (pub->max_workers != 0)
    cfg->max_workers = pub->max_workers < 128 ? pub->max_workers : 128;
  cfg->rx_fifo_bytes = pub->rx_fifo_size;
  cfg->tx_fifo_bytes = pub->tx_fifo_size;
  cfg->segment_bytes = pub->segment_size;
  if (pub->add_segment_size != 0) /* of a struct that is all zeroes nobody says that there shall be no more */
    cfg->add_segment_bytes = pub->add_segment_size;
  cfg->app_timeout_s = pub->app_timeout;
  cfg->session_timeout_s = pub->session_timeout;
  cfg->namespace_secret = pub->namespace_secret;
  cfg->scope_local = pub->app_scope_local != 0;
  cfg->scope_global = pub->app_scope_global != 0 || pub->app_scope_local == 0; /* local alone says: no further */
  cfg->proxy_tcp = pub->app_proxy_transport_tcp != 0;
  cfg->proxy_udp = pub->app_proxy_transport_udp != 0;
  if (pub->namespace_id != NULL)
    snprintf(cfg->namespace_id, sizeof cfg->namespace_id, "%s", (const char *)pub->namespace_id);
  if (pub->vpp_app_socket_api != NULL)
    snprintf(cfg->socket_path, sizeof cfg->socket_path, "%s", (const char *)pub->vpp_app_socket_api);
}

void config_env(struct vcl_config *cfg) {
  const char *v = getenv(VPPCOM_ENV_VPP_SAPI_SOCKET);
  if (v != NULL && v[0] != '\0')
    snprintf(cfg->socket_path, sizeof cfg->socket_path, "%s", v);
  v = getenv(VPPCOM_ENV_APP_NAMESPACE_ID);
  if (v != NULL)
    snprintf(cfg->namespace_id, sizeof cfg->namespace_id, "%s", v);
  v = getenv(VPPCOM_ENV_APP_NAMESPACE_SECRET);
  if (v != NULL)
    cfg->namespace_secret = strtoull(v, NULL, 0);
  v = getenv(VPPCOM_ENV_APP_SCOPE_LOCAL);
  if (v != NULL)
    cfg->scope_local = config_is_on(v);
  v = getenv(VPPCOM_ENV_APP_SCOPE_GLOBAL);
  if (v != NULL)
    cfg->scope_global = config_is_on(v);
  v = getenv(VPPCOM_ENV_APP_PROXY_TRANSPORT_TCP);
  if (v != NULL)
    cfg->proxy_tcp = config_is_on(v);
  v = getenv(VPPCOM_ENV_APP_PROXY_TRANSPORT_UDP);
  if (v != NULL)
    cfg->proxy_udp = config_is_on(v);
}
