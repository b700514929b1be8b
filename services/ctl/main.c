/*
 * hsctl: options, the table of commands, and the call to the api server.
 */
#include "hsctl.h"

#include "ctl/rpc.h"
#include "svc/config.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define HSCTL_CONFIG_DEFAULT "/etc/hoststack/hoststack.yaml"
#define HSCTL_RUN_DEFAULT    "/run/hoststack"

struct command {
  const char *name, *args, *help;
  int (*run)(const struct hsctl *h, int argc, char **argv);
};

static const struct command commands[] = {
    {"up", "[--foreground]", "start the four services and keep them running; returns when they serve", cmd_up},
    {"down", "", "stop the services and their supervisor", cmd_down},
    {"run", "SERVICE", "supervise one service (nicio, engine, broker, api) in the foreground", cmd_run},
    {"show", "interface|route|neighbor|session|tcp|app", "print state; --json for programs", cmd_show},
    {"show", "namespace|version|stats|drops", "", cmd_show},
    {"show", "session verbose | tcp statistics|config | drops all", "all figures, all counters, all tunables",
     cmd_show},
    {"set", "tcp NAME VALUE | tcp NAME default", "change one of TCP's tunables, also for engines to come", cmd_set},
    {"route", "show | add|replace PREFIX via ADDRESS [vrf N] | del PREFIX",
     "routes, also for engines to come; hsctl route tells more", cmd_route},
    {"rule", "show | del ID…|all | add egress|ingress KEY=VALUE…", "session rules; hsctl rule tells more", cmd_rule},
    {"capture", "INTERFACE FILE | INTERFACE --stop", "write the frames of an interface to a pcapng file", cmd_capture},
    {"impair", "INTERFACE rx|tx|both [KEY=VALUE…]", "loss, delay… on an interface, for tests; no KEY = none",
     cmd_impair},
    {"reset-rings", "", "throw away all rings: connections do not notice (a test of that)", cmd_reset_rings},
};

static void usage(FILE *f) {
  fprintf(f, "usage: hsctl [-c FILE] [-r DIR] [--api URL] [--json] [--timeout MS] COMMAND [ARGS]\n\n"
             "  -c, --config FILE  configuration of the services, default " HSCTL_CONFIG_DEFAULT "\n"
             "  -r, --run-dir DIR  run dir of the services, overrides the configuration's run-dir\n"
             "      --api URL      NNG url of an api server, default ipc://RUN_DIR/api.ctl\n"
             "      --json         print the whole answer as JSON\n"
             "      --timeout MS   how long to wait for the api server, default 3000\n"
             "      --version, --help\n\ncommands:\n");
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
    fprintf(f, "  %-12s%-60s%s\n", commands[i].name, commands[i].args, commands[i].help);
}

const char *hsctl_run_dir(const struct hsctl *h) {
  static struct config cfg;
  static char err[4096];
  if (h->run_dir)
    return h->run_dir;
  if (cfg.run_dir[0])
    return cfg.run_dir;
  if (config_load(&cfg, h->config, err, sizeof err) == 0)
    return cfg.run_dir;
  return HSCTL_RUN_DEFAULT; /* show needs no readable configuration */
}

Hoststack__Control__Reply *hsctl_call(const struct hsctl *h, const Hoststack__Control__Request *q) {
  char own_url[160];
  const char *url = h->url;
  if (!url) {
    snprintf(own_url, sizeof own_url, "ipc://%s/api.ctl", hsctl_run_dir(h));
    url = own_url;
  }
  Hoststack__Control__Reply *r = NULL;
  struct rpc_client *c = NULL;
  uint8_t *reply = NULL;
  size_t len = 0, req_len = hoststack__control__request__get_packed_size(q);
  uint8_t *req = malloc(req_len + 1);
  int rc = req ? rpc_client_new(&c, url) : -ENOMEM;
  if (rc == 0) {
    hoststack__control__request__pack(q, req);
    rc = rpc_client_call(c, req, req_len, &reply, &len, h->timeout_ms);
  }
  if (rc)
    fprintf(stderr, "hsctl: no answer from %s: %s (are the services up?)\n", url, strerror(-rc));
  else
    r = hoststack__control__reply__unpack(NULL, len, reply);
  if (!rc && !r)
    fprintf(stderr, "hsctl: unreadable answer from %s\n", url);
  if (r && r->rc) {
    fprintf(stderr, "hsctl: %s (%s)\n", r->text && *r->text ? r->text : "refused", strerror(r->rc));
    hoststack__control__reply__free_unpacked(r, NULL);
    r = NULL;
  }
  free(reply);
  free(req);
  if (c)
    rpc_client_free(c);
  return r;
}

static int parse_ms(const char *text) {
  char *end;
  long v = strtol(text, &end, 10);
  return *end || v < 1 || v > 600000 ? -1 : (int)v;
}

int main(int argc, char **argv) {
  static const struct option longs[] = {
      {"config", required_argument, NULL, 'c'},  {"run-dir", required_argument, NULL, 'r'},
      {"api", required_argument, NULL, 'a'},     {"json", no_argument, NULL, 'j'},
      {"timeout", required_argument, NULL, 't'}, {"version", no_argument, NULL, 'V'},
      {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
  struct hsctl h = {.config = HSCTL_CONFIG_DEFAULT, .timeout_ms = 3000};
  int o;
  while ((o = getopt_long(argc, argv, "+c:r:jh", longs, NULL)) != -1) {
    switch (o) {
    case 'c':
      h.config = optarg;
      break;
    case 'r':
      h.run_dir = optarg;
      break;
    case 'a':
      h.url = optarg;
      break;
    case 'j':
      h.json = 1;
      break;
    case 't':
      h.timeout_ms = parse_ms(optarg);
      break;
    case 'V':
      printf("hsctl %s\n", HS_VERSION);
      return 0;
    case 'h':
      usage(stdout);
      return 0;
    default:
      usage(stderr);
      return 2;
    }
  }
  if (h.timeout_ms < 0) {
    fprintf(stderr, "hsctl: --timeout: allowed 1 … 600000 ms\n");
    return 2;
  }
  for (int i = optind; i < argc; i++) /* --json may stand behind the command too */
    if (strcmp(argv[i], "--json") == 0) {
      h.json = 1;
      memmove(&argv[i], &argv[i + 1], (size_t)(argc - i) * sizeof *argv);
      argc--;
      i--;
    }
  if (optind == argc) {
    usage(stderr);
    return 2;
  }
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
    if (strcmp(argv[optind], commands[i].name) == 0)
      return commands[i].run(&h, argc - optind, argv + optind);
  fprintf(stderr, "hsctl: unknown command %s; hsctl --help lists them\n", argv[optind]);
  return 2;
}
