/*
 * Start of a test program with mutants in it (tests/mutants/mutants.py): which one is awake, where to note what was
 * evaluated, how much processor time there is, which single test to run. Linked into the mutated copy of
 * services/engine/tcp, never into the stack itself.
 */
#include "mutant.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

unsigned hs_mutant;
uint8_t *hs_mutant_seen;

void cmocka_set_test_filter(const char *pattern) __attribute__((weak));

/* A shared mapping: what forked children note counts, and what was noted before a crash. */
static void seen_map(const char *path) {
  struct stat st;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) != 0)
    _exit(99);
  void *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED)
    _exit(99);
  hs_mutant_seen = p;
  close(fd);
}

__attribute__((constructor)) static void mutant_start(void) {
  const char *number = getenv("HS_MUTANT"), *seen = getenv("HS_MUTANT_SEEN"), *cpu = getenv("HS_MUTANT_CPU");
  const char *test = getenv("HS_MUTANT_TEST");
  hs_mutant = number != NULL ? (unsigned)strtoul(number, NULL, 10) : 0;
  if (seen != NULL)
    seen_map(seen);
  if (cpu != NULL) {
    rlim_t s = strtoul(cpu, NULL, 10);
    setrlimit(RLIMIT_CPU, &(struct rlimit){s, s + 1});
    setrlimit(RLIMIT_AS, &(struct rlimit){8ull << 30, 8ull << 30});
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  }
  if (test != NULL && cmocka_set_test_filter != NULL)
    cmocka_set_test_filter(test);
}
