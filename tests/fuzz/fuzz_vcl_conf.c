/*
 * Any bytes as a vcl.conf: never fatal, texts terminated, numbers inside their ranges.
 */
#include "vcl_config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int cond) {
  if (!cond)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct vcl_config c;
  char *text = malloc(size + 1);
  if (text == NULL)
    return 0;
  memcpy(text, data, size);
  text[size] = '\0';
  config_defaults(&c);
  config_parse(&c, text, "fuzz");
  free(text);
  need(c.max_workers >= 1 && c.max_workers <= 128);
  need(strnlen(c.socket_path, sizeof c.socket_path) < sizeof c.socket_path);
  need(strnlen(c.namespace_id, sizeof c.namespace_id) < sizeof c.namespace_id);
  need(c.app_timeout_s >= 0 && c.session_timeout_s >= 0);
  return 0;
}
