/*
 * `show drops`: every counter whose severity says that something was lost, refused or wrong, of all layers in one list:
 * the engine's (tcp, udp, ip, sessions), the broker's, and nicio's per interface. A service that is away is itself a
 * row.
 */
#include "drops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Hoststack__Control__Counter *drops_row(const char *prefix, const char *name, uint64_t value, const char *help,
                                              uint32_t severity) {
  Hoststack__Control__Counter *c = malloc(sizeof *c);
  char text[128];
  if (!c)
    return NULL;
  hoststack__control__counter__init(c);
  snprintf(text, sizeof text, "%s%s%s", prefix, *prefix ? "." : "", name);
  c->name = strdup(text);
  c->help = strdup(help);
  c->value = value;
  c->severity = severity;
  return c;
}

static int drops_add(Hoststack__Control__Stats *all, Hoststack__Control__Counter *row) {
  Hoststack__Control__Counter **rows = row ? realloc(all->counter, (all->n_counter + 1) * sizeof *rows) : NULL;
  if (!rows) {
    if (row)
      hoststack__control__counter__free_unpacked(row, NULL);
    return -1;
  }
  all->counter = rows;
  rows[all->n_counter++] = row;
  return 0;
}

static void drops_from(Hoststack__Control__Stats *all, const char *prefix, Hoststack__Control__Counter **c, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (c[i]->severity > 0 && drops_add(all, drops_row(prefix, c[i]->name, c[i]->value, c[i]->help, c[i]->severity)))
      return;
}

void drops_engine(Hoststack__Control__Stats *all, const Hoststack__Control__Reply *r) {
  if (r && r->body_case == HOSTSTACK__CONTROL__REPLY__BODY_STATS)
    drops_from(all, "", r->stats->counter, r->stats->n_counter);
  else
    (void)drops_add(all, drops_row("", "engine.away", 1, "the engine does not answer: its counters are missing", 2));
}

void drops_broker(Hoststack__Control__Stats *all, const Hoststack__Control__Reply *r) {
  if (r && r->body_case == HOSTSTACK__CONTROL__REPLY__BODY_STATS)
    drops_from(all, "", r->stats->counter, r->stats->n_counter);
  else
    (void)drops_add(all, drops_row("", "broker.away", 1, "the broker does not answer: its counters are missing", 2));
}

void drops_nicio(Hoststack__Control__Stats *all, const Hoststack__Control__Reply *r) {
  if (!r || r->body_case != HOSTSTACK__CONTROL__REPLY__BODY_INTERFACES) {
    (void)drops_add(all, drops_row("", "nicio.away", 1, "nicio does not answer: its counters are missing", 2));
    return;
  }
  for (size_t i = 0; i < r->interfaces->n_interface; i++) {
    const Hoststack__Control__Interface *f = r->interfaces->interface[i];
    drops_from(all, f->name, f->counter, f->n_counter);
  }
}
