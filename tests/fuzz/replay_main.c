/*
 * main() for fuzz targets where there is no libFuzzer: runs LLVMFuzzerTestOneInput over every file of the corpus given
 * as files or folders, then over prefixes and repeatable mutations of each, so that gcc's sanitizers see more than the
 * corpus itself. Used by hs_fuzz() for ctest. Bounded: at most MUTANTS per file and BUDGET_US in all.
 *
 * Each input lies in a heap block of exactly its size, so that the address sanitizer sees one byte too many.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define INPUT_MAX (1u << 20)
#define MUTANTS   400u
#define BUDGET_US 10000000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t rng_state;
static unsigned n_files, n_runs;

static uint64_t rng_next(void) {
  rng_state ^= rng_state << 13;
  rng_state ^= rng_state >> 7;
  rng_state ^= rng_state << 17;
  return rng_state;
}

static uint64_t now_us(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static void run_copy(const uint8_t *data, size_t size) {
  uint8_t *exact = malloc(size != 0 ? size : 1);
  if (exact == NULL)
    abort();
  memcpy(exact, data, size);
  LLVMFuzzerTestOneInput(size != 0 ? exact : exact + 1, size);
  free(exact);
  n_runs++;
}

/* A few byte changes, and sometimes a cut, a doubled piece or a swapped one. */
static size_t mutate(uint8_t *buf, size_t size) {
  static const uint8_t edge[] = {0, 1, 0x7f, 0x80, 0xff, 0x40, 0x3f, 0xfe};
  for (unsigned n = 1 + (unsigned)(rng_next() % 4); n > 0 && size > 0; n--) {
    size_t at = rng_next() % size;
    switch (rng_next() % 6) {
    case 0:
      buf[at] ^= (uint8_t)(1u << (rng_next() % 8));
      break;
    case 1:
      buf[at] = edge[rng_next() % sizeof edge];
      break;
    case 2:
      buf[at] = (uint8_t)rng_next();
      break;
    case 3:
      buf[at] = (uint8_t)(buf[at] + rng_next() % 9 - 4);
      break;
    case 4:
      if (rng_next() % 4 == 0)
        size = at;
      break;
    default: {
      size_t from = rng_next() % size, len = rng_next() % 16;
      len = len > size - at ? size - at : len;
      len = len > size - from ? size - from : len;
      memmove(buf + at, buf + from, len);
    }
    }
  }
  return size;
}

static void run_variants(const uint8_t *data, size_t size, uint64_t deadline) {
  uint8_t *buf = malloc(size != 0 ? size : 1);
  if (buf == NULL)
    abort();
  size_t step = size / 128 + 1;
  for (size_t n = 0; n < size && now_us() < deadline; n += step)
    run_copy(data, n);
  rng_state = 0x9e3779b97f4a7c15ull ^ size;
  for (unsigned i = 0; i < MUTANTS && now_us() < deadline; i++) {
    memcpy(buf, data, size);
    run_copy(buf, mutate(buf, size));
  }
  free(buf);
}

static int run_file(const char *path, uint64_t deadline) {
  FILE *f = fopen(path, "rb");
  uint8_t *data = malloc(INPUT_MAX);
  if (f == NULL || data == NULL) {
    perror(path);
    if (f != NULL)
      fclose(f);
    free(data);
    return -1;
  }
  size_t size = fread(data, 1, INPUT_MAX, f);
  fclose(f);
  n_files++;
  run_copy(data, size);
  run_variants(data, size, deadline);
  free(data);
  return 0;
}

/* Every regular file of a folder, in an order that does not depend on the file system. */
static int run_path(const char *path, uint64_t deadline) {
  struct dirent **entries;
  struct stat st;
  if (stat(path, &st) < 0) {
    perror(path);
    return -1;
  }
  if (!S_ISDIR(st.st_mode))
    return run_file(path, deadline);
  int n = scandir(path, &entries, NULL, alphasort);
  int err = n < 0 ? -1 : 0;
  for (int i = 0; i < n; i++) {
    char name[4096];
    snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
    free(entries[i]);
    if (stat(name, &st) == 0 && S_ISREG(st.st_mode) && run_file(name, deadline) < 0)
      err = -1;
  }
  if (n >= 0)
    free(entries);
  return err;
}

int main(int argc, char **argv) {
  int err = 0;
  uint64_t deadline = now_us() + BUDGET_US;
  for (int i = 1; i < argc; i++)
    if (run_path(argv[i], deadline) < 0)
      err = 1;
  printf("%u files, %u inputs\n", n_files, n_runs);
  if (n_files == 0) {
    fprintf(stderr, "no corpus found: give files or folders\n");
    return 2;
  }
  return err;
}
