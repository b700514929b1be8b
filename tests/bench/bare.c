/*
 * What the machine itself can do between two of its cores, to be held beside the figures of tests/bench: two processes,
 * each pinned to its core, that tell each other one thing, there and back, and do nothing else.
 *
 *   bare wake SECONDS CORE CORE     sleep, and are woken by an eventfd: what a sleep costs on this kernel
 *   bare line SECONDS CORE CORE     look at a line of memory that the other one writes, a line for each way: what no
 *                                   two programs that poll can be faster than
 *
 * Prints one JSON line.
 */
#include "bench.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct lines {
  _Alignas(128) _Atomic uint64_t there; /* 128: a processor may fetch lines in pairs */
  _Alignas(128) _Atomic uint64_t back;
};

struct pair {
  int there, back;     /* eventfds, or -1 */
  struct lines *lines; /* or NULL */
};

static void pin(const char *core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(bench_number(core, 0, CPU_SETSIZE - 1), &set);
  if (sched_setaffinity(0, sizeof(set), &set) < 0)
    bench_die("core");
}

static void bell(int fd, int ring) {
  uint64_t one = 1;
  if ((ring ? write(fd, &one, sizeof(one)) : read(fd, &one, sizeof(one))) != sizeof(one))
    bench_die("eventfd");
}

static void until(_Atomic uint64_t *word, uint64_t n) {
  while (atomic_load_explicit(word, memory_order_acquire) != n)
    ;
}

/** The n-th time there and back, as it is for the one that begins. */
static void ask(struct pair *p, uint64_t n) {
  if (p->lines != NULL) {
    atomic_store_explicit(&p->lines->there, n, memory_order_release);
    until(&p->lines->back, n);
  } else {
    bell(p->there, 1);
    bell(p->back, 0);
  }
}

static void answer(struct pair *p, uint64_t n) {
  if (p->lines != NULL) {
    until(&p->lines->there, n);
    atomic_store_explicit(&p->lines->back, n, memory_order_release);
  } else {
    bell(p->there, 0);
    bell(p->back, 1);
  }
}

static struct pair pair_of(const char *what) {
  struct pair p = {-1, -1, NULL};
  if (strcmp(what, "line") == 0) {
    p.lines = mmap(NULL, sizeof *p.lines, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p.lines == MAP_FAILED)
      bench_die("memory");
  } else {
    p.there = eventfd(0, EFD_CLOEXEC);
    p.back = eventfd(0, EFD_CLOEXEC);
    if (p.there < 0 || p.back < 0)
      bench_die("eventfd");
  }
  return p;
}

static void measure(struct pair *p, uint64_t seconds) {
  struct bench_times times;
  bench_times_init(&times);
  uint64_t start = bench_now_ns(), last = start, now = start;
  for (uint64_t n = 1; now - start < seconds * BENCH_NS; n++) {
    ask(p, n);
    now = bench_now_ns();
    bench_times_add(&times, now - last);
    last = now;
  }
  bench_times_report(&times, now - start);
}

int main(int argc, char **argv) {
  if (argc != 5 || (strcmp(argv[1], "wake") != 0 && strcmp(argv[1], "line") != 0))
    return 2;
  struct pair p = pair_of(argv[1]);
  uint64_t seconds = bench_number(argv[2], 1, 1000);
  pid_t pid = fork();
  if (pid < 0)
    bench_die("fork");
  pin(argv[pid == 0 ? 4 : 3]);
  if (pid == 0)
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (uint64_t n = 1; pid == 0; n++)
    answer(&p, n);
  measure(&p, seconds);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  return 0;
}
