/*
 * hsctl capture and hsctl impair: what nicio can do with an interface's frames for an observer or a test.
 */
#include "hsctl.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

int cmd_capture(const struct hsctl *h, int argc, char **argv) {
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__Capture capture = HOSTSTACK__CONTROL__CAPTURE__INIT;
  if (argc != 3) {
    fprintf(stderr, "usage: hsctl capture INTERFACE FILE | hsctl capture INTERFACE --stop\n");
    return 2;
  }
  capture.interface = argv[1];
  capture.stop = strcmp(argv[2], "--stop") == 0;
  if (!capture.stop)
    capture.path = argv[2];
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_CAPTURE;
  q.capture = &capture;
  return hsctl_ask(h, &q);
}

struct impair_key {
  const char *name, *unit;
  size_t offset;
  int kind; /* 0 double, 1 u32, 2 u64 */
  double max;
};

#define FIELD(f) offsetof(Hoststack__Control__SetImpairment, f)
static const struct impair_key impair_keys[] = {
    {"loss", "percent", FIELD(loss_percent), 0, 100},
    {"reorder", "percent", FIELD(reorder_percent), 0, 100},
    {"duplicate", "percent", FIELD(duplicate_percent), 0, 100},
    {"corrupt", "percent", FIELD(corrupt_percent), 0, 100},
    {"delay", "µs", FIELD(delay_us), 1, 10e6},
    {"jitter", "µs", FIELD(jitter_us), 1, 10e6},
    {"rate", "bit/s", FIELD(rate_bps), 2, 1e12},
    {"queue", "bytes", FIELD(queue_bytes), 2, 1073741824},
    {"seed", "number", FIELD(seed), 2, 1e18},
};

static int impair_set(Hoststack__Control__SetImpairment *m, const char *arg) {
  const char *eq = strchr(arg, '=');
  for (size_t i = 0; eq && i < sizeof impair_keys / sizeof *impair_keys; i++) {
    const struct impair_key *k = &impair_keys[i];
    char *end;
    if (strlen(k->name) != (size_t)(eq - arg) || strncmp(k->name, arg, strlen(k->name)) != 0)
      continue;
    double v = strtod(eq + 1, &end);
    if (end == eq + 1 || *end || !(v >= 0 && v <= k->max)) {
      fprintf(stderr, "hsctl impair: %s: found %s, allowed 0 … %g %s\n", k->name, eq + 1, k->max, k->unit);
      return 2;
    }
    void *field = (uint8_t *)m + k->offset;
    if (k->kind == 0)
      *(double *)field = v;
    else if (k->kind == 1)
      *(uint32_t *)field = (uint32_t)v;
    else
      *(uint64_t *)field = (uint64_t)v;
    return 0;
  }
  fprintf(stderr, "hsctl impair: found %s, allowed KEY=VALUE with KEY of:", arg);
  for (size_t i = 0; i < sizeof impair_keys / sizeof *impair_keys; i++)
    fprintf(stderr, " %s (%s)", impair_keys[i].name, impair_keys[i].unit);
  fputc('\n', stderr);
  return 2;
}

int cmd_impair(const struct hsctl *h, int argc, char **argv) {
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__SetImpairment m = HOSTSTACK__CONTROL__SET_IMPAIRMENT__INIT;
  if (argc < 3 || (strcmp(argv[2], "rx") && strcmp(argv[2], "tx") && strcmp(argv[2], "both"))) {
    fprintf(stderr, "usage: hsctl impair INTERFACE rx|tx|both [KEY=VALUE…]\n");
    return 2;
  }
  m.interface = argv[1];
  m.direction = argv[2];
  for (int i = 3; i < argc; i++)
    if (impair_set(&m, argv[i]))
      return 2;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SET_IMPAIRMENT;
  q.set_impairment = &m;
  return hsctl_ask(h, &q);
}
