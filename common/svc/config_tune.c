/*
 * TCP's tunables as text: what hsctl's `set tcp` and `show tcp config` speak of. A tunable is the configuration key
 * engine.tcp.NAME; parsing and ranges are those of the file (config_types.c). Called by the engine's control thread.
 */
#include "svc/config_keys.h"

#include "base/bits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "engine.tcp."

struct tune_row {
  const char *key;
  uint16_t off;
  uint8_t all;
  uint32_t def;
};

#define NEW 0
#define ALL 1
#define ROW(field, name, kind, unit, lo, hi, def, text, reach, words, help)                                            \
  {PREFIX name, offsetof(struct config_tcp, field), reach, def},
static const struct tune_row tune_rows[ABI_TUNE_N] = {ABI_TUNABLES(ROW)};
#undef ROW

static const struct config_key *tune_key(uint32_t id) {
  return &config_keys[config_key_find(tune_rows[id].key)];
}

/* 16 bytes of 32 digits, and what follows them is none. */
static int fastopen_key(const char *text, uint8_t key[16]) {
  if (strspn(text, "0123456789abcdefABCDEF") != 32)
    return -EINVAL;
  for (unsigned i = 0; i < 16; i++)
    key[i] = (uint8_t)strtoul((const char[]){text[2 * i], text[2 * i + 1], 0}, NULL, 16);
  return 0;
}

int config_fastopen_keys(const char *text, uint8_t key[32]) {
  if (fastopen_key(text, key) < 0)
    return -EINVAL;
  if (text[32] == '\0')
    return 1;
  return text[32] == ',' && fastopen_key(text + 33, key + 16) == 0 && text[65] == '\0' ? 2 : -EINVAL;
}

int config_tunable_find(const char *name) {
  for (uint32_t i = 0; i < ABI_TUNE_N; i++)
    if (strcmp(tune_rows[i].key + sizeof PREFIX - 1, name) == 0)
      return (int)i;
  return -ENOENT;
}

int config_tunable_parse(uint32_t id, const char *text, uint32_t *value) {
  static const struct config none;
  struct config_tcp tcp = none.tcp;
  struct config_key k = *tune_key(id);
  k.off = tune_rows[id].off;
  int rc = config_value_set(&k, &tcp, text);
  if (rc == 0)
    memcpy(value, (const uint8_t *)&tcp + k.off, sizeof *value);
  return rc;
}

const char *config_tunable_text(uint32_t id, uint32_t value, char *buf, size_t len) {
  const struct config_key *k = tune_key(id);
  if (k->type == CONFIG_BOOL)
    snprintf(buf, len, "%s", value ? "true" : "false");
  else if (k->type == CONFIG_CHOICE)
    config_choice_text(k, (int)value, buf, len);
  else if (k->type == CONFIG_SIZE)
    config_size_text(value, buf, len);
  else
    snprintf(buf, len, "%u", value);
  return buf;
}

const char *config_tunable_allowed(uint32_t id, char *buf, size_t len) {
  return config_value_allowed(tune_key(id), buf, len);
}

const char *config_tunable_name(uint32_t id) {
  return tune_rows[id].key + sizeof PREFIX - 1;
}

const char *config_tunable_unit(uint32_t id) {
  return tune_key(id)->unit;
}

const char *config_tunable_help(uint32_t id) {
  return tune_key(id)->help;
}

int config_tunable_reaches_all(uint32_t id) {
  return tune_rows[id].all;
}

uint32_t config_tunable_value(const struct config *c, uint32_t id) {
  uint32_t v;
  memcpy(&v, (const uint8_t *)&c->tcp + tune_rows[id].off, sizeof v);
  return v;
}

uint32_t config_tunable_default(uint32_t id) {
  return tune_rows[id].def;
}
