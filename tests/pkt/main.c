/*
 * pkt_run: runs the cases of *.pkt files against our engine and against Linux.
 *
 * usage: pkt_run [--engine | --linux] [--only WORD] [--case NAME]... [--jobs N] [--trace] [--stop] [--list] FILE...
 *
 * --case: these alone; --stop: the first failure ends the run (both for tests/mutants). Cases are dealt out to forked
 * workers; each tells its parent one record per case through a pipe. A worker that dies fails the case it was in, and
 * another goes on behind it. On Linux a failed case is tried twice more: on a busy machine a late wake-up looks like a
 * late packet. Ends with one line that says how many ran and passed.
 */
#include "pkt.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX    64
#define TRIES       3
#define PORTS_APART 4096

struct record {
  uint32_t index;
  int32_t rc; /* 1 = begun, 0 passed, -1 failed */
  char msg[600];
};

struct job {
  pid_t pid;
  int fd;
  int at; /* case it is in, -1 */
};

static struct pkt_suite suite;
static struct {
  const struct pkt_dut *dut;
  const char *only;
  char **names; /* of --case, ended by NULL; NULL = all */
  int jobs, trace, list, stop;
} cli = {.dut = &pkt_dut_engine, .jobs = 2};
static uint8_t *state; /* per case: 0 to do, 1 given out, 2 passed, 3 failed, 4 not for this device */

/* The message is that of the first try. */
static int try(struct pkt_case *c, char *msg, unsigned room) {
  static char more[600];
  int rc = pkt_run(c, cli.dut, msg, room, cli.trace);
  for (int t = 1; rc && cli.dut->is_linux && t < TRIES; t++) {
    c->port = (uint16_t)(c->port + PORTS_APART); /* the old pair may be in TIME-WAIT */
    rc = pkt_run(c, cli.dut, more, sizeof more, cli.trace);
  }
  return rc;
}

static void worker(int fd, unsigned first, unsigned stride) {
  static struct record rec;
  for (unsigned i = first; i < suite.n; i += stride) {
    if (state[i] != 0)
      continue;
    rec = (struct record){.index = i, .rc = 1};
    if (write(fd, &rec, sizeof rec) < 0)
      _exit(1);
    if (cli.trace)
      fprintf(stderr, "%s\n", suite.cases[i]->name);
    rec.rc = try(suite.cases[i], rec.msg, sizeof rec.msg);
    if (write(fd, &rec, sizeof rec) < 0)
      _exit(1);
  }
  close(fd);
  exit(0); /* not _exit: the leak check runs */
}

static int start(struct job *j, unsigned first) {
  int p[2];
  if (pipe(p))
    return -errno;
  fflush(NULL);
  j->at = -1;
  j->pid = fork();
  if (j->pid < 0)
    return -errno;
  if (j->pid == 0) {
    close(p[0]);
    worker(p[1], first, (unsigned)cli.jobs);
  }
  close(p[1]);
  j->fd = p[0];
  return 0;
}

static void failed(unsigned i, const char *msg) {
  state[i] = 3;
  printf("FAILED %s\n", msg);
  fflush(stdout);
  if (cli.stop)
    _exit(1); /* the workers end when they write to a pipe that nobody reads */
}

static void ended(struct job *j, unsigned first) {
  char msg[400];
  int status = 0;
  close(j->fd);
  j->fd = -1;
  (void)waitpid(j->pid, &status, 0);
  if (status == 0)
    return;
  if (j->at < 0) {
    printf("FAILED a worker ended with status %x and no case begun, or with a leak\n", (unsigned)status);
    state[first] = 3;
    return;
  }
  const struct pkt_case *c = suite.cases[j->at];
  snprintf(msg, sizeof msg, "%s:%u: %s on %s: the device died (status %x)", c->file, c->no, c->name, cli.dut->name,
           (unsigned)status);
  failed((unsigned)j->at, msg);
  if (start(j, first))
    abort();
}

static void heard(struct job *j, unsigned first) {
  static struct record rec;
  ssize_t n = read(j->fd, &rec, sizeof rec);
  if (n != (ssize_t)sizeof rec) {
    ended(j, first);
    return;
  }
  if (rec.rc == 1) {
    j->at = (int)rec.index;
    return;
  }
  j->at = -1;
  if (rec.rc == 0)
    state[rec.index] = 2;
  else
    failed(rec.index, rec.msg);
}

static void run_all(void) {
  struct job job[JOBS_MAX];
  struct pollfd p[JOBS_MAX];
  for (int i = 0; i < cli.jobs; i++)
    if (start(&job[i], (unsigned)i))
      abort();
  for (;;) {
    int live = 0;
    for (int i = 0; i < cli.jobs; i++) {
      p[i] = (struct pollfd){.fd = job[i].fd, .events = POLLIN};
      live += job[i].fd >= 0;
    }
    if (!live)
      return;
    if (poll(p, (nfds_t)cli.jobs, -1) < 0)
      continue;
    for (int i = 0; i < cli.jobs; i++)
      if (p[i].fd >= 0 && p[i].revents)
        heard(&job[i], (unsigned)i);
  }
}

static int named(const char *name) {
  for (char **n = cli.names; n && *n; n++)
    if (!strcmp(*n, name))
      return 1;
  return cli.names == NULL;
}

static void choose(void) {
  for (unsigned i = 0; i < suite.n; i++) {
    const struct pkt_case *c = suite.cases[i];
    if (cli.only && !strstr(c->name, cli.only) && !strstr(c->file, cli.only))
      state[i] = 4;
    else if (!named(c->name))
      state[i] = 4;
    else if (cli.dut->is_linux && c->skip_linux[0])
      state[i] = 4;
  }
}

static unsigned count(uint8_t what) {
  unsigned n = 0;
  for (unsigned i = 0; i < suite.n; i++)
    n += state[i] == what;
  return n;
}

/* One line per case, tab-separated, for rules.py. */
static void list(void) {
  for (unsigned i = 0; i < suite.n; i++) {
    const struct pkt_case *c = suite.cases[i];
    const char *base = strrchr(c->file, '/');
    printf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", base ? base + 1 : c->file, c->name, c->rfc, c->fn, c->rule,
           c->skip_linux, c->differs, c->deviates);
  }
}

static int usage(void) {
  fprintf(stderr, "usage: pkt_run [--engine|--linux] [--only WORD] [--case NAME]... [--jobs N] [--trace] [--stop] "
                  "[--list] FILE...\n");
  return 2;
}

static int options(int argc, char **argv) {
  int i = 1, n = 0;
  for (; i < argc && argv[i][0] == '-'; i++) {
    if (!strcmp(argv[i], "--linux"))
      cli.dut = &pkt_dut_linux;
    else if (!strcmp(argv[i], "--engine"))
      cli.dut = &pkt_dut_engine;
    else if (!strcmp(argv[i], "--trace"))
      cli.trace = 1;
    else if (!strcmp(argv[i], "--list"))
      cli.list = 1;
    else if (!strcmp(argv[i], "--stop"))
      cli.stop = 1;
    else if (!strcmp(argv[i], "--only") && i + 1 < argc)
      cli.only = argv[++i];
    else if (!strcmp(argv[i], "--case") && i + 1 < argc) {
      if (!cli.names)
        cli.names = calloc((size_t)argc, sizeof *cli.names);
      if (!cli.names)
        return -1;
      cli.names[n++] = argv[++i];
    } else if (!strcmp(argv[i], "--jobs") && i + 1 < argc)
      cli.jobs = (int)strtol(argv[++i], NULL, 10);
    else
      return -1;
  }
  return cli.jobs > 0 && cli.jobs <= JOBS_MAX ? i : -1;
}

int main(int argc, char **argv) {
  int i = options(argc, argv);
  if (i < 0 || i == argc)
    return usage();
  for (; i < argc; i++)
    if (pkt_script_load(&suite, argv[i]))
      return 2;
  if (cli.list) {
    list();
    pkt_script_free(&suite);
    return 0;
  }
  if (cli.dut->is_linux && geteuid() != 0) {
    fprintf(stderr, "network namespaces need root\n");
    return 77;
  }
  state = calloc(suite.n + 1, 1);
  if (!state)
    return 2;
  choose();
  run_all();
  unsigned passed = count(2), bad = count(3), not_run = count(0) + count(1);
  printf("pkt: %u cases executed on %s, %u passed, %u failed, %u of the suite's %u not for it\n", passed + bad,
         cli.dut->name, passed, bad + not_run, count(4), suite.n);
  free(state);
  free(cli.names);
  pkt_script_free(&suite);
  return bad || not_run || passed == 0 ? 1 : 0;
}
