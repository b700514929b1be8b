/*
 * vcl.conf and the VCL_ environment: the one place that reads them.
 *
 * Called once by vppcom_app_create, before any thread of the library's user is a worker. The keys are those that VCL
 * users have in their files; a key that has no meaning in this stack is accepted and has no effect (NOTES.md lists
 * them). An unknown key or a bad value is a warning on stderr when VCL_DEBUG is set, with its line number and what was
 * expected, and not fatal; but a namespace or socket whose name is too long is: half of it would name another one.
 */
#include "vcl_config.h"

#include "base/bits.h"
#include "base/err.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CONFIG_FILE_MAX (64u * 1024u)
#define WORKERS_MOST    128u

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

/** Says what is wrong and what was expected. `line` 0: `name` says it all (a variable of the environment). */
static void config_warn(struct vcl_config *cfg, const char *name, unsigned line, const char *fmt, ...) HS_PRINTF(4, 5);
static void config_warn(struct vcl_config *cfg, const char *name, unsigned line, const char *fmt, ...) {
  char what[320];
  va_list ap;
  cfg->n_warning++;
  if (cfg->debug <= 0)
    return;
  va_start(ap, fmt);
  vsnprintf(what, sizeof what, fmt, ap);
  va_end(ap);
  if (line != 0)
    dprintf(STDERR_FILENO, "vcl.config %s:%u: %s\n", name, line, what);
  else
    dprintf(STDERR_FILENO, "vcl.config %s: %s\n", name, what);
}

/** A flag is on when it stands there, unless it says otherwise. 0, 1 or -EINVAL. */
static int config_flag(const char *value) {
  static const char *const yes[] = {"", "1", "on", "yes", "true"}, *const no[] = {"0", "off", "no", "false"};
  for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
    if (strcasecmp(value, yes[i]) == 0)
      return 1;
  for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
    if (strcasecmp(value, no[i]) == 0)
      return 0;
  return -EINVAL;
}

/** A text that is to be kept whole: half a path or half a namespace's name names another one. */
static int config_text(struct vcl_config *cfg, char *to, size_t size, const char *value) {
  if (strlen(value) >= size) {
    cfg->refused = -ENAMETOOLONG;
    return -EINVAL;
  }
  snprintf(to, size, "%s", value);
  return 0;
}

/** Decimal, or hex behind 0x; at most `max`. 0 or -EINVAL. */
static int config_number(const char *value, uint64_t max, uint64_t *out) {
  char *end = NULL;
  int hex = value[0] == '0' && (value[1] == 'x' || value[1] == 'X');
  if (value[0] < '0' || value[0] > '9')
    return -EINVAL;
  errno = 0;
  *out = strtoull(value, &end, hex ? 16 : 10); /* no octal: 0100 is a hundred */
  return *end != '\0' || errno != 0 || *out > max ? -EINVAL : 0;
}

static int config_seconds(const char *value, double *out) {
  char *end = NULL;
  double d = strtod(value, &end);
  if (value[0] == '\0' || *end != '\0' || !(d >= 0 && d < 1e9))
    return -EINVAL;
  *out = d;
  return 0;
}

/** Stores one value. 0 or -EINVAL. */
static int config_set(struct vcl_config *cfg, const struct config_key *k, const char *value) {
  void *at = (uint8_t *)cfg + k->off;
  uint64_t v = 0;
  int rc = 0;
  if (k->type == CONFIG_IGNORED)
    return 0;
  if (k->type == CONFIG_TEXT)
    return value[0] == '\0' ? -EINVAL : config_text(cfg, at, k->size, value);
  if (k->type == CONFIG_SECONDS)
    return config_seconds(value, at);
  if (k->type == CONFIG_FLAG) {
    rc = config_flag(value);
    v = rc == 1;
  } else {
    rc = config_number(value, k->type == CONFIG_U32 ? UINT32_MAX : UINT64_MAX, &v);
  }
  if (rc < 0)
    return rc;
  if (k->type == CONFIG_U64)
    memcpy(at, &v, sizeof v);
  else
    memcpy(at, &(uint32_t){(uint32_t)v}, sizeof(uint32_t));
  return 0;
}

/** What would have been a value of this key. */
static void config_expected(const struct config_key *k, char *out, size_t len) {
  static const char *const text[] = {
      [CONFIG_FLAG] = "on or off, or nothing, which is on",
      [CONFIG_U32] = "a number from 0 to 4294967295, decimal or 0x hex",
      [CONFIG_U64] = "a number from 0 to 18446744073709551615, decimal or 0x hex",
      [CONFIG_SECONDS] = "seconds from 0 to 999999999, such as 2.5",
      [CONFIG_IGNORED] = "anything",
  };
  if (k->type == CONFIG_TEXT)
    snprintf(out, len, "a text of 1 to %zu bytes", k->size - 1);
  else
    snprintf(out, len, "%s", text[k->type]);
}

static const struct config_key *config_find(const char *key) {
  for (size_t i = 0; i < CONFIG_N_KEYS; i++)
    if (strcmp(config_keys[i].name, key) == 0)
      return &config_keys[i];
  return NULL;
}

/** A value of the key, from line `line` of `name`; what was there before stays if it is none. */
static void config_take(struct vcl_config *cfg, const struct config_key *k, const char *value, const char *name,
                        unsigned line) {
  char expected[80];
  if (config_set(cfg, k, value) == 0)
    return;
  config_expected(k, expected, sizeof expected);
  config_warn(cfg, name, line, "%s: \"%.60s\" is no value for it, expected: %s", k->name, value, expected);
}

/** One line without its comment: "key", "key value". */
static void config_line(struct vcl_config *cfg, char *text, const char *name, unsigned line) {
  static const char *const space = " \t\r{}";
  char *key = text + strspn(text, space);
  size_t key_len = strcspn(key, space);
  char *value = key + key_len;
  value += strspn(value, space);
  char *rest = value + strcspn(value, space);
  if (*rest != '\0')
    *rest++ = '\0';
  rest += strspn(rest, space);
  key[key_len] = '\0';
  if (key[0] == '\0' || strcmp(key, "vcl") == 0)
    return;
  const struct config_key *k = config_find(key);
  if (k == NULL) {
    config_warn(cfg, name, line, "%.60s: unknown key", key);
    return;
  }
  config_take(cfg, k, value, name, line);
  if (*rest != '\0')
    config_warn(cfg, name, line, "%s: \"%.60s\" behind its value is not read, expected: one key a line", key, rest);
  if (cfg->max_workers < 1 || cfg->max_workers > WORKERS_MOST) {
    cfg->max_workers = cfg->max_workers < 1 ? 1 : WORKERS_MOST;
    config_warn(cfg, name, line, "max-workers: taken as %u, expected: 1 to %u", cfg->max_workers, WORKERS_MOST);
  }
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
    if (len == CONFIG_FILE_MAX)
      config_warn(cfg, path, 0, "what is behind its first %u bytes is not read", CONFIG_FILE_MAX);
    config_parse(cfg, text, path);
  }
  free(text);
  return rc;
}

void config_from_public(struct vcl_config *cfg, const vppcom_cfg_t *pub) {
  if (pub->max_workers != 0)
    cfg->max_workers = HS_MIN(pub->max_workers, WORKERS_MOST);
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
    (void)config_text(cfg, cfg->namespace_id, sizeof cfg->namespace_id, (const char *)pub->namespace_id);
  if (pub->vpp_app_socket_api != NULL)
    (void)config_text(cfg, cfg->socket_path, sizeof cfg->socket_path, (const char *)pub->vpp_app_socket_api);
}

void config_env(struct vcl_config *cfg) {
  static const struct {
    const char *name, *key;
    int may_be_empty; /* and says something then */
  } vars[] = {
      {VPPCOM_ENV_VPP_SAPI_SOCKET, "app-socket-api", 0},
      {VPPCOM_ENV_APP_NAMESPACE_SECRET, "namespace-secret", 0},
      {VPPCOM_ENV_APP_SCOPE_LOCAL, "app-scope-local", 1},
      {VPPCOM_ENV_APP_SCOPE_GLOBAL, "app-scope-global", 1},
      {VPPCOM_ENV_APP_PROXY_TRANSPORT_TCP, "app-proxy-transport-tcp", 1},
      {VPPCOM_ENV_APP_PROXY_TRANSPORT_UDP, "app-proxy-transport-udp", 1},
  };
  for (size_t i = 0; i < sizeof vars / sizeof vars[0]; i++) {
    const char *v = getenv(vars[i].name);
    if (v != NULL && (v[0] != '\0' || vars[i].may_be_empty))
      config_take(cfg, config_find(vars[i].key), v, vars[i].name, 0);
  }
  const char *id = getenv(VPPCOM_ENV_APP_NAMESPACE_ID); /* empty: the default one, whatever the file says */
  if (id != NULL && id[0] == '\0')
    cfg->namespace_id[0] = '\0';
  else if (id != NULL)
    config_take(cfg, config_find("namespace-id"), id, VPPCOM_ENV_APP_NAMESPACE_ID, 0);
}
