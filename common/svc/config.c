/*
 * Configuration file → struct config: walks the YAML document along the table of keys (config_keys.c).
 *
 * Called by svc_start, hsctl and tests, once, on the main thread. Every error is collected with its line before the
 * file is refused. Aliases and anchors work as YAML has them; a key that comes twice in a mapping is refused.
 */
#include "svc/config.h"

#include "base/bits.h"
#include "base/err.h"
#include "svc/config_keys.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define CONFIG_DEPTH_MAX 8
#define CONFIG_FILE_MAX  (1u << 20)

void config_error(struct config_ctx *cx, uint32_t line, const char *key, const char *found, const char *allowed) {
  if (++cx->n_err > CONFIG_ERRORS_MAX || cx->err_len == 0)
    return;
  int n = snprintf(cx->err + cx->err_used, cx->err_len - cx->err_used, "%s:%u: %s: found %.100s, allowed %s\n",
                   cx->file, line, key, found, allowed);
  if (n > 0)
    cx->err_used = HS_MIN(cx->err_used + (size_t)n, cx->err_len - 1);
}

uint32_t config_line(const struct config_ctx *cx, const char *path, uint32_t elem) {
  int k = config_key_find(path);
  if (k >= 0 && elem < CONFIG_ELEMS_MAX && cx->key_line[(uint32_t)k * CONFIG_ELEMS_MAX + elem] != 0)
    return cx->key_line[(uint32_t)k * CONFIG_ELEMS_MAX + elem];
  for (uint32_t i = 0; i < config_n_lists; i++)
    if (strncmp(config_lists[i].path, path, strlen(config_lists[i].path)) == 0 && elem < CONFIG_ELEMS_MAX)
      return cx->list_line[i][elem];
  return 0;
}

/** Where the walk is: path so far, base of the fields, element number. */
struct config_at {
  char path[128];
  void *base;
  uint32_t elem;
  unsigned depth;
};

static uint32_t config_node_line(const yaml_node_t *n) {
  return (uint32_t)n->start_mark.line + 1;
}

static const char *config_node_kind(const yaml_node_t *n) {
  switch (n->type) {
  case YAML_SCALAR_NODE:
    return "a single value";
  case YAML_SEQUENCE_NODE:
    return "a list";
  case YAML_MAPPING_NODE:
    return "a group of keys";
  default:
    return "nothing";
  }
}

/** Whether some key lies below "path.". */
static int config_is_group(const char *path) {
  size_t len = strlen(path);
  for (uint32_t i = 0; i < config_n_keys; i++)
    if (strncmp(config_keys[i].path, path, len) == 0 && config_keys[i].path[len] == '.')
      return 1;
  return 0;
}

static const struct config_list *config_is_list(const char *path) {
  for (uint32_t i = 0; i < config_n_lists; i++)
    if (strcmp(config_lists[i].path, path) == 0)
      return &config_lists[i];
  return NULL;
}

static void config_scalar(struct config_ctx *cx, const struct config_at *at, const yaml_node_t *n) {
  int k = config_key_find(at->path);
  char allowed[160], text[512];
  const char *found = text;
  config_value_allowed(&config_keys[k], allowed, sizeof allowed);
  if (n->type != YAML_SCALAR_NODE) {
    config_error(cx, config_node_line(n), at->path, config_node_kind(n), allowed);
    return;
  }
  cx->key_line[(uint32_t)k * CONFIG_ELEMS_MAX + at->elem] = config_node_line(n);
  size_t len = n->data.scalar.length;
  int bad = len >= sizeof text || memchr(n->data.scalar.value, 0, len) != NULL;
  len = HS_MIN(len, sizeof text - 1);
  memcpy(text, n->data.scalar.value, len);
  text[len] = '\0';
  if (bad || config_value_set(&config_keys[k], at->base, text) < 0) {
    for (char *p = text; *p != '\0'; p++)
      if ((unsigned char)*p < 0x20)
        *p = '?';
    config_error(cx, config_node_line(n), at->path, text[0] != '\0' ? found : "an empty value", allowed);
  }
}

/** A key: one value, or of some types a list of them. */
static void config_value(struct config_ctx *cx, yaml_document_t *doc, const struct config_at *at,
                         const yaml_node_t *n) {
  if (config_keys[config_key_find(at->path)].type != CONFIG_NETS || n->type != YAML_SEQUENCE_NODE) {
    config_scalar(cx, at, n);
    return;
  }
  const yaml_node_item_t *first = n->data.sequence.items.start, *end = n->data.sequence.items.top;
  for (const yaml_node_item_t *i = first; i < end; i++)
    config_scalar(cx, at, yaml_document_get_node(doc, *i));
}

static void config_node(struct config_ctx *cx, yaml_document_t *doc, const struct config_at *at, const yaml_node_t *n);

/** Defaults of one element, and after its walk the keys that must be there. */
static void config_elem_defaults(const char *prefix, void *base) {
  size_t len = strlen(prefix);
  for (uint32_t i = 0; i < config_n_keys; i++)
    if (strncmp(config_keys[i].path, prefix, len) == 0 && config_keys[i].path[len] == '.' &&
        config_keys[i].def[0] != '\0')
      (void)config_value_set(&config_keys[i], base, config_keys[i].def);
}

static void config_elem_required(struct config_ctx *cx, const struct config_at *at, uint32_t line) {
  size_t len = strlen(at->path);
  char allowed[160];
  for (uint32_t i = 0; i < config_n_keys; i++) {
    const struct config_key *k = &config_keys[i];
    if (strncmp(k->path, at->path, len) != 0 || k->path[len] != '.' || (k->flags & CONFIG_REQUIRED) == 0)
      continue;
    if (cx->key_line[i * CONFIG_ELEMS_MAX + at->elem] == 0)
      config_error(cx, line, k->path, "nothing (the key is missing)", config_value_allowed(k, allowed, sizeof allowed));
  }
}

static void config_sequence(struct config_ctx *cx, yaml_document_t *doc, const struct config_at *at,
                            const yaml_node_t *n) {
  const struct config_list *list = config_is_list(at->path);
  uint32_t *count = (uint32_t *)(void *)((uint8_t *)cx->cfg + list->count_off);
  if (n->type == YAML_SCALAR_NODE && n->data.scalar.length == 0) { /* "key:" with nothing behind it: an empty list */
    *count = 0;
    return;
  }
  if (n->type != YAML_SEQUENCE_NODE) {
    config_error(cx, config_node_line(n), at->path, config_node_kind(n), "a list");
    return;
  }
  size_t have = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
  if (have > list->max) {
    char found[48], allowed[48];
    snprintf(found, sizeof found, "%zu entries", have);
    snprintf(allowed, sizeof allowed, "at most %u", list->max);
    config_error(cx, config_node_line(n), at->path, found, allowed);
    return;
  }
  *count = (uint32_t)have;
  for (uint32_t i = 0; i < (uint32_t)have; i++) {
    yaml_node_t *item = yaml_document_get_node(doc, n->data.sequence.items.start[i]);
    struct config_at sub = {.elem = i, .depth = at->depth + 1};
    snprintf(sub.path, sizeof sub.path, "%.120s[]", at->path);
    sub.base = (uint8_t *)cx->cfg + list->off + (size_t)i * list->elem_size;
    memset(sub.base, 0, list->elem_size);
    cx->list_line[list - config_lists][i] = config_node_line(item);
    config_elem_defaults(sub.path, sub.base);
    config_node(cx, doc, &sub, item);
    if (item->type == YAML_MAPPING_NODE)
      config_elem_required(cx, &sub, config_node_line(item));
  }
}

static int config_key_again(yaml_document_t *doc, const yaml_node_t *map, const yaml_node_pair_t *here) {
  const yaml_node_t *key = yaml_document_get_node(doc, here->key);
  for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < here; p++) {
    const yaml_node_t *k = yaml_document_get_node(doc, p->key);
    if (k->type == YAML_SCALAR_NODE && k->data.scalar.length == key->data.scalar.length &&
        memcmp(k->data.scalar.value, key->data.scalar.value, key->data.scalar.length) == 0)
      return 1;
  }
  return 0;
}

/** The keys known below a group, for the message about an unknown one. */
static void config_known(const char *prefix, char *buf, size_t len) {
  size_t plen = strlen(prefix), used = 0;
  char last[64] = "";
  buf[0] = '\0';
  for (uint32_t i = 0; i < config_n_keys; i++) {
    const char *p = config_keys[i].path;
    if (plen > 0 && (strncmp(p, prefix, plen) != 0 || p[plen] != '.'))
      continue;
    p += plen > 0 ? plen + 1 : 0;
    size_t w = strcspn(p, ".[");
    if (w >= sizeof last || (strlen(last) == w && memcmp(last, p, w) == 0))
      continue;
    memcpy(last, p, w);
    last[w] = '\0';
    int n = snprintf(buf + used, len - used, "%s%s", used > 0 ? ", " : "", last);
    if (n < 0 || (size_t)n >= len - used)
      return;
    used += (size_t)n;
  }
}

static void config_mapping(struct config_ctx *cx, yaml_document_t *doc, const struct config_at *at,
                           const yaml_node_t *n) {
  for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
    const yaml_node_t *key = yaml_document_get_node(doc, p->key);
    struct config_at sub = *at;
    char known[1024];
    sub.depth++;
    if (key->type != YAML_SCALAR_NODE) {
      config_error(cx, config_node_line(key), at->path, config_node_kind(key), "a key");
      continue;
    }
    snprintf(sub.path, sizeof sub.path, "%.80s%s%.40s", at->path, at->path[0] != '\0' ? "." : "",
             (const char *)key->data.scalar.value);
    if (config_key_again(doc, n, p)) {
      config_error(cx, config_node_line(key), sub.path, "the key again", "each key once");
      continue;
    }
    if (config_key_find(sub.path) < 0 && config_is_list(sub.path) == NULL && !config_is_group(sub.path)) {
      config_known(at->path, known, sizeof known);
      config_error(cx, config_node_line(key), sub.path, "an unknown key", known);
      continue;
    }
    config_node(cx, doc, &sub, yaml_document_get_node(doc, p->value));
  }
}

static void config_node(struct config_ctx *cx, yaml_document_t *doc, const struct config_at *at, const yaml_node_t *n) {
  if (at->depth > CONFIG_DEPTH_MAX)
    config_error(cx, config_node_line(n), at->path, "deeper nesting", "what config/README.md shows");
  else if (config_key_find(at->path) >= 0)
    config_value(cx, doc, at, n);
  else if (config_is_list(at->path) != NULL)
    config_sequence(cx, doc, at, n);
  else if (n->type == YAML_MAPPING_NODE)
    config_mapping(cx, doc, at, n);
  else if (n->type != YAML_SCALAR_NODE || n->data.scalar.length != 0) /* an empty group is fine */
    config_error(cx, config_node_line(n), at->path[0] != '\0' ? at->path : "the file", config_node_kind(n),
                 "a group of keys");
}

static int config_derive(struct config *c, const char *dir, char *field, size_t len, const char *fmt, int force) {
  char old[160], now[160];
  snprintf(old, sizeof old, fmt, c->run_dir);
  snprintf(now, sizeof now, fmt, dir);
  if (!force && strcmp(field, old) != 0)
    return 0; /* set by the user: stays */
  if (strlen(now) >= len)
    return -ENAMETOOLONG;
  memset(field, 0, len);
  memcpy(field, now, strlen(now));
  return 0;
}

int config_set_run_dir(struct config *c, const char *dir) {
  char copy[sizeof c->run_dir];
  if (strlen(dir) >= sizeof c->run_dir)
    return -ENAMETOOLONG;
  memset(copy, 0, sizeof copy);
  memcpy(copy, dir, strlen(dir));
  int rc = config_derive(c, copy, c->attach, sizeof c->attach, "%s/attach", c->attach[0] == '\0');
  if (rc == 0 && c->n_api_listen > 0)
    rc = config_derive(c, copy, c->api_listen[0], sizeof c->api_listen[0], "ipc://%s/api.sock", 0);
  if (rc == 0)
    memcpy(c->run_dir, copy, sizeof copy);
  return rc;
}

void config_defaults(struct config *c) {
  memset(c, 0, sizeof *c);
  for (uint32_t i = 0; i < config_n_keys; i++) {
    const struct config_key *k = &config_keys[i];
    if (strstr(k->path, "[]") == NULL && k->def[0] != '\0' && strncmp(k->def, "RUN-DIR", 7) != 0)
      (void)config_value_set(k, c, k->def);
  }
  c->n_api_listen = 1;
  snprintf(c->api_listen[0], sizeof c->api_listen[0], "ipc://%s/api.sock", c->run_dir);
  (void)config_set_run_dir(c, c->run_dir);
}

/** Parse and walk. 0, -EINVAL, -ENOMEM. */
static int config_walk(struct config_ctx *cx, FILE *f) {
  yaml_parser_t parser;
  yaml_document_t doc;
  if (!yaml_parser_initialize(&parser))
    return -ENOMEM;
  yaml_parser_set_input_file(&parser, f);
  if (!yaml_parser_load(&parser, &doc)) {
    config_error(cx, (uint32_t)parser.problem_mark.line + 1, "the file",
                 parser.problem != NULL ? parser.problem : "unreadable text", "YAML");
    yaml_parser_delete(&parser);
    return -EINVAL;
  }
  yaml_node_t *root = yaml_document_get_root_node(&doc);
  if (root != NULL) {
    struct config_at at = {.base = cx->cfg};
    config_node(cx, &doc, &at, root);
  }
  yaml_document_delete(&doc);
  yaml_parser_delete(&parser);
  return 0;
}

int config_load(struct config *c, const char *path, char *err, size_t err_len) {
  struct config_ctx cx = {.cfg = c, .file = path, .err = err, .err_len = err_len};
  if (err_len > 0)
    err[0] = '\0';
  config_defaults(c);
  FILE *f = fopen(path, "re");
  if (f == NULL) {
    int rc = err_last();
    if (err_len > 0)
      snprintf(err, err_len, "%s: %s\n", path, err_text(rc));
    return rc;
  }
  int rc = -ENOMEM;
  cx.key_line = calloc((size_t)config_n_keys * CONFIG_ELEMS_MAX, sizeof *cx.key_line);
  if (cx.key_line == NULL)
    goto out;
  char old_dir[sizeof c->run_dir];
  memcpy(old_dir, c->run_dir, sizeof old_dir);
  rc = config_walk(&cx, f);
  if (rc < 0)
    goto out;
  char dir[sizeof c->run_dir];
  memcpy(dir, c->run_dir, sizeof dir);
  memcpy(c->run_dir, old_dir, sizeof old_dir); /* what was derived from the default run dir follows the file's */
  rc = config_set_run_dir(c, dir);
  if (rc < 0)
    config_error(&cx, config_line(&cx, "run-dir", 0), "run-dir", dir, "a shorter path");
  config_check(&cx);
  rc = cx.n_err > 0 ? -EINVAL : 0;
out:
  free(cx.key_line);
  fclose(f);
  return rc;
}

int config_keys_text(char *buf, size_t len) {
  size_t used = 0;
  char past[1]; /* what has no room is only counted */
  for (uint32_t i = 0; i < config_n_keys; i++) {
    const struct config_key *k = &config_keys[i];
    char allowed[160];
    const char *def = k->def[0] != '\0' ? k->def : (k->flags & CONFIG_REQUIRED) != 0 ? "(required)" : "(none)";
    int n = snprintf(used < len ? buf + used : past, used < len ? len - used : sizeof past,
                     "| `%s` | %s | %s | %s | %s |\n", k->path, config_value_allowed(k, allowed, sizeof allowed),
                     k->unit[0] != '\0' ? k->unit : "–", def, k->help);
    if (n < 0)
      return -EIO;
    used += (size_t)n;
  }
  return (int)used;
}
