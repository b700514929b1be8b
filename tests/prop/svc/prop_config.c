/*
 * Configuration files against a naive twin: for random keys random values are written to a file and, by offset, into a
 * second struct. What was read is what the twin holds, keys that were left out have their defaults, and one value out
 * of range is refused with the line it stands in, the key, and what was found (svc/config.h).
 */
#include "base/rng.h"
#include "svc/config_keys.h"
#include "test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RUNS 600

static struct {
  struct rng r;
  struct config twin, got;
  char text[16384], err[4096];
  size_t len;
  uint32_t line;
  char group[4][64]; /* open groups of the file as it is written */
} t;

static void put(const char *what) {
  size_t n = strlen(what);
  assert_true(t.len + n < sizeof t.text);
  memcpy(t.text + t.len, what, n + 1);
  t.len += n;
}

/* The groups of a path, as far as they are not open, then the key itself. */
static void put_key(const char *path, const char *value) {
  char word[64];
  unsigned depth = 0;
  int fresh = 0;
  for (const char *dot; (dot = strchr(path, '.')) != NULL; path = dot + 1, depth++) {
    snprintf(word, sizeof word, "%.*s", (int)(dot - path), path);
    if (!fresh && strcmp(t.group[depth], word) == 0)
      continue;
    fresh = 1;
    snprintf(t.group[depth], sizeof t.group[depth], "%s", word);
    for (unsigned i = 0; i < depth; i++)
      put("  ");
    put(word);
    put(":\n");
    t.line++;
  }
  t.group[depth][0] = '\0';
  for (unsigned i = 0; i < depth; i++)
    put("  ");
  put(path);
  put(": ");
  put(value);
  put("\n");
  t.line++;
}

static void store(const struct config_key *k, uint64_t v) {
  uint8_t *at = (uint8_t *)&t.twin + k->off;
  memcpy(at, &v, k->size); /* little-endian, like the machines that this runs on */
}

static uint64_t draw(const struct config_key *k) {
  uint64_t v = rng_range(&t.r, k->lo, rng_below(&t.r, 2) ? k->hi : k->lo + (k->hi - k->lo) / 16);
  if (k->flags & CONFIG_POW2)
    for (v = k->lo; v * 2 <= k->hi && rng_below(&t.r, 4) != 0;)
      v *= 2;
  return k->flags & CONFIG_MIB ? v & ~((1ull << 20) - 1) : v;
}

/* 1 if this key is of a type that the twin knows; its value in the file goes to `word`. */
static int choose(const struct config_key *k, char *word, size_t room) {
  uint64_t v;
  switch (k->type) {
  case CONFIG_U32:
  case CONFIG_U64:
  case CONFIG_SIZE:
    v = draw(k);
    snprintf(word, room, k->type == CONFIG_SIZE && v % 1024 == 0 ? "%" PRIu64 "k" : "%" PRIu64,
             k->type == CONFIG_SIZE && v % 1024 == 0 ? v / 1024 : v);
    break;
  case CONFIG_BOOL:
    v = rng_below(&t.r, 2);
    snprintf(word, room, "%s", v ? "true" : "false");
    break;
  case CONFIG_OCTAL:
    v = draw(k);
    snprintf(word, room, "0%" PRIo64, v);
    break;
  default:
    return 0;
  }
  store(k, v);
  return 1;
}

static int is_plain(const struct config_key *k) {
  return strchr(k->path, '[') == NULL && (k->type == CONFIG_U32 || k->type == CONFIG_U64 || k->type == CONFIG_SIZE ||
                                          k->type == CONFIG_BOOL || k->type == CONFIG_OCTAL);
}

static int load(char *path, size_t room) {
  int fd = memfd_create("prop-config", MFD_CLOEXEC);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, t.text, t.len), (ssize_t)t.len);
  snprintf(path, room, "/proc/self/fd/%d", fd);
  int rc = config_load(&t.got, path, t.err, sizeof t.err);
  close(fd);
  return rc;
}

static void begin(void) {
  memset(t.group, 0, sizeof t.group);
  t.len = t.line = 0;
  t.text[0] = '\0';
  config_defaults(&t.twin);
}

static void accepted_equals_twin(void **state) {
  (void)state;
  unsigned accepted = 0;
  rng_init(&t.r, 7);
  for (int run = 0; run < RUNS; run++) {
    char word[64], path[40];
    begin();
    for (uint32_t i = 0; i < config_n_keys; i++)
      if (is_plain(&config_keys[i]) && rng_below(&t.r, 12) == 0 && choose(&config_keys[i], word, sizeof word))
        put_key(config_keys[i].path, word);
    if (load(path, sizeof path) != 0) { /* values that are possible one by one contradict each other */
      assert_null(strstr(t.err, "unknown"));
      continue;
    }
    accepted++;
    for (uint32_t i = 0; i < config_n_keys; i++) {
      const struct config_key *k = &config_keys[i];
      if (is_plain(k) && memcmp((uint8_t *)&t.got + k->off, (uint8_t *)&t.twin + k->off, k->size) != 0)
        fail_msg("%s differs after\n%s", k->path, t.text);
    }
  }
  assert_true(accepted > RUNS / 4);
}

/* A number just beyond one end of the range; 0 if there is none that can be written. */
static int beyond(const struct config_key *k, char *word, size_t room) {
  int below = k->lo > (k->flags & CONFIG_OR_ZERO ? 1u : 0u) && rng_below(&t.r, 2);
  if (k->type == CONFIG_BOOL) {
    snprintf(word, room, "perhaps");
    return 1;
  }
  if (!below && k->hi == UINT64_MAX)
    return 0;
  snprintf(word, room, k->type == CONFIG_OCTAL ? "0%" PRIo64 : "%" PRIu64, below ? k->lo - 1 : k->hi + 1);
  return 1;
}

static void one_bad_value_is_named(void **state) {
  (void)state;
  unsigned refused = 0;
  rng_init(&t.r, 8);
  for (int run = 0; run < RUNS; run++) {
    char word[64], path[40], expected[192];
    uint32_t bad = (uint32_t)rng_below(&t.r, config_n_keys), bad_line = 0;
    if (!is_plain(&config_keys[bad]))
      continue;
    begin();
    for (uint32_t i = 0; i < config_n_keys; i++) {
      if (i != bad && (!is_plain(&config_keys[i]) || rng_below(&t.r, 20) != 0 || config_keys[i].type != CONFIG_BOOL))
        continue;
      if (i == bad ? !beyond(&config_keys[i], word, sizeof word) : !choose(&config_keys[i], word, sizeof word))
        continue;
      put_key(config_keys[i].path, word);
      if (i == bad) {
        bad_line = t.line;
        snprintf(expected, sizeof expected, ": %s: found %s, allowed ", config_keys[i].path, word);
      }
    }
    if (bad_line == 0)
      continue;
    refused++;
    assert_int_equal(load(path, sizeof path), -EINVAL);
    char at[64];
    snprintf(at, sizeof at, "%s:%u", path, bad_line);
    if (strncmp(t.err, at, strlen(at)) != 0 || strncmp(t.err + strlen(at), expected, strlen(expected)) != 0)
      fail_msg("expected %s%s, got %s for\n%s", at, expected, t.err, t.text);
    assert_ptr_equal(strchr(t.err, '\n') + 1, t.err + strlen(t.err)); /* nothing else was found wrong */
  }
  assert_true(refused > RUNS / 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(accepted_equals_twin),
      cmocka_unit_test(one_bad_value_is_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
