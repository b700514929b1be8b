/*
 * hsctl: the command line. A client of the api server for everything that is shown or changed, and the supervisor of
 * the four services on a machine without one (`up`, `run`).
 */
#ifndef HS_CTL_HSCTL_H
#define HS_CTL_HSCTL_H

#include "control.pb-c.h"

#include <stdio.h>

struct hsctl {
  const char *url;     /* --api URL; NULL = ipc://RUN_DIR/api.ctl */
  const char *config;  /* -c FILE */
  const char *run_dir; /* -r DIR, absolute; NULL = the configuration's */
  int json;
  int timeout_ms;
};

/** Ask the api server. NULL after an error message on stderr; the caller frees with reply__free_unpacked. */
Hoststack__Control__Reply *hsctl_call(const struct hsctl *h, const Hoststack__Control__Request *q);
/** hsctl_call and print the answer. Exit status. */
int hsctl_ask(const struct hsctl *h, const Hoststack__Control__Request *q);
/** The run dir: -r, else the configuration's, else the default. */
const char *hsctl_run_dir(const struct hsctl *h);

/* commands: argv[0] is the command's own name; return the exit status */
int cmd_show(const struct hsctl *h, int argc, char **argv);
int cmd_set(const struct hsctl *h, int argc, char **argv);
int cmd_up(const struct hsctl *h, int argc, char **argv);
int cmd_down(const struct hsctl *h, int argc, char **argv);
int cmd_run(const struct hsctl *h, int argc, char **argv);
int cmd_capture(const struct hsctl *h, int argc, char **argv);
int cmd_route(const struct hsctl *h, int argc, char **argv);
int cmd_rule(const struct hsctl *h, int argc, char **argv);
int cmd_impair(const struct hsctl *h, int argc, char **argv);
int cmd_reset_rings(const struct hsctl *h, int argc, char **argv);

/** All routes (route.c). Exit status. */
int route_show(const struct hsctl *h);

/** Any protobuf message as JSON (json.c). */
void json_print(FILE *f, const ProtobufCMessage *m);

/** Rows of equal columns, first row is the heading (table.c). Cells are copied. */
struct table {
  char **cell;
  size_t n, cap, columns;
};
/** `text` without control characters, which a terminal would obey: names are chosen by apps. Returns buf. */
const char *table_plain(char *buf, size_t size, const char *text);
void table_row(struct table *t, size_t columns, ...);
void table_print(struct table *t, FILE *f);

#endif
