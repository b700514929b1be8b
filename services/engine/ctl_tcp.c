/*
 * Control requests about TCP's tunables: what counts, what is configured, and changes at run time, which the TCB
 * segment keeps for the engines to come (abi/tunables.h). Control thread; the worker hears of a change by mail.
 */
#include "ctl_tcp.h"

#include "base/log.h"
#include "session/tunables.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static Hoststack__Control__TcpTunable *tunable_row(const struct config *cfg, const struct tcp_config *now, uint64_t set,
                                                   uint32_t i) {
  char text[160];
  Hoststack__Control__TcpTunable *row = malloc(sizeof *row);
  if (!row)
    return NULL;
  hoststack__control__tcp_tunable__init(row);
  row->name = strdup(config_tunable_name(i));
  row->value = strdup(config_tunable_text(i, tcp_tunable_get(now, i), text, sizeof text));
  row->configured = strdup(config_tunable_text(i, config_tunable_value(cfg, i), text, sizeof text));
  row->default_value = strdup(config_tunable_text(i, config_tunable_default(i), text, sizeof text));
  row->unit = strdup(config_tunable_unit(i));
  row->allowed = strdup(config_tunable_allowed(i, text, sizeof text));
  row->help = strdup(config_tunable_help(i));
  row->reach = strdup(config_tunable_reaches_all(i) ? "all" : "new");
  row->set = (set >> i & 1) != 0;
  return row;
}

#define KEY_NAME    "fastopen-key"
#define KEY_ALLOWED "32 hex digits, or NEW,FORMER of 32 each"

/* A key is told to nobody: only where it comes from. */
static Hoststack__Control__TcpTunable *key_row(const struct config *cfg, const struct abi_tunables *t) {
  Hoststack__Control__TcpTunable *row = malloc(sizeof *row);
  if (!row)
    return NULL;
  hoststack__control__tcp_tunable__init(row);
  row->set = __atomic_load_n(&t->fastopen_keys, __ATOMIC_ACQUIRE) != 0;
  row->name = strdup(KEY_NAME);
  row->configured = strdup(cfg->fastopen_key[0] ? "given" : "drawn");
  row->value = strdup(row->set ? "given" : row->configured);
  row->default_value = strdup("drawn");
  row->unit = strdup("");
  row->allowed = strdup(KEY_ALLOWED);
  row->help =
      strdup("key of Fast Open cookies (RFC 7413 4.1.2), and the one whose cookies are good still; never shown");
  row->reach = strdup("new");
  return row;
}

int ctl_show_tcp_config(struct engine *e, Hoststack__Control__Reply *r) {
  if (!e->running)
    return -EAGAIN;
  struct tcp_config now;
  const struct abi_tunables *t = engine_tunables(e);
  tunables_read(&now, &e->svc.cfg, t);
  Hoststack__Control__TcpConfig *m = calloc(1, sizeof *m);
  if (!m)
    return -ENOMEM;
  hoststack__control__tcp_config__init(m);
  r->body_case = HOSTSTACK__CONTROL__REPLY__BODY_TCP_CONFIG;
  r->tcp_config = m;
  m->tunable = calloc(ABI_TUNE_N + 1, sizeof(Hoststack__Control__TcpTunable *));
  if (!m->tunable)
    return -ENOMEM;
  uint64_t set = __atomic_load_n(&t->set, __ATOMIC_ACQUIRE);
  for (uint32_t i = 0; i < ABI_TUNE_N; i++) {
    m->tunable[i] = tunable_row(&e->svc.cfg, &now, set, i);
    if (!m->tunable[i])
      return -ENOMEM;
    m->n_tunable++;
  }
  m->tunable[m->n_tunable] = key_row(&e->svc.cfg, t);
  if (!m->tunable[m->n_tunable])
    return -ENOMEM;
  m->n_tunable++;
  return 0;
}

static int refuse(Hoststack__Control__Reply *r, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int refuse(Hoststack__Control__Reply *r, int rc, const char *fmt, ...) {
  char text[320];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  r->rc = -rc;
  r->text = strdup(text);
  return 0;
}

static void mail_tunables(struct worker *w, void *arg) {
  (void)arg;
  tunables_apply(w);
}

static int set_key(struct engine *e, const char *value, Hoststack__Control__Reply *r) {
  uint8_t key[32] = {0};
  int clear = strcmp(value, "default") == 0, n = clear ? 0 : config_fastopen_keys(value, key);
  if (n < 0)
    return refuse(r, n, KEY_NAME ": found %zu characters, allowed " KEY_ALLOWED, strlen(value));
  tunables_set_keys(engine_tunables(e), key, (uint32_t)n);
  log_info("engine.set_tcp", KEY_NAME " %s", clear ? "as configured" : "changed");
  return engine_post(e, mail_tunables, NULL);
}

int ctl_set_tcp(struct engine *e, const Hoststack__Control__SetTcp *q, Hoststack__Control__Reply *r) {
  char allowed[160], now[64];
  uint32_t value = 0, lower = 0, higher = 0;
  if (!e->running)
    return -EAGAIN;
  if (strcmp(q->name, KEY_NAME) == 0)
    return set_key(e, q->value, r);
  int id = config_tunable_find(q->name);
  if (id < 0)
    return refuse(r, -ENOENT, "tcp has no tunable %.64s; hsctl show tcp config lists them", q->name);
  uint32_t i = (uint32_t)id;
  int clear = strcmp(q->value, "default") == 0;
  int rc = clear ? 0 : config_tunable_parse(i, q->value, &value);
  if (rc == 0)
    rc = clear ? tunables_clear(engine_tunables(e), &e->svc.cfg, i, &lower, &higher)
               : tunables_set(engine_tunables(e), &e->svc.cfg, i, value, &lower, &higher);
  if (rc == -ERANGE)
    return refuse(r, rc, "%s: found %.64s, but %s must not be above %s", q->name, q->value, config_tunable_name(lower),
                  config_tunable_name(higher));
  if (rc)
    return refuse(r, rc, "%s: found %.64s, allowed %s", q->name, q->value,
                  config_tunable_allowed(i, allowed, sizeof allowed));
  struct tcp_config cfg;
  tunables_read(&cfg, &e->svc.cfg, engine_tunables(e));
  log_info("engine.set_tcp", "%s = %s%s", q->name, config_tunable_text(i, tcp_tunable_get(&cfg, i), now, sizeof now),
           clear ? " as configured" : "");
  return engine_post(e, mail_tunables, NULL);
}
