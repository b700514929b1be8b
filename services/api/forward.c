/*
 * Which service answers which request, and the few that several answer together (interfaces, apps, version,
 * ring reset).
 */
#include "api.h"
#include "drops.h"

#include "base/log.h"
#include "control.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API_TIMEOUT_MS 1000
#define SHOW_APP_PAGES                                                                                                 \
  4u /* of 10000 sessions: beyond them the counts are a lower bound, the api server stays quick                        \
      */

static const char *const api_names[API_SERVICES] = {"nicio", "engine", "broker"};

static void reply_free(Hoststack__Control__Reply *r) {
  if (r)
    hoststack__control__reply__free_unpacked(r, NULL);
}

/* An answer that was put together takes the place of the one that came. */
static int reply_put(const Hoststack__Control__Reply *r, uint8_t **reply, size_t *n) {
  free(*reply);
  *reply = NULL;
  return svc_pack_reply(r, reply, n);
}

static struct rpc_client *api_client(struct api *a, enum api_service s) {
  char file[32], path[160], url[176];
  if (a->client[s])
    return a->client[s];
  snprintf(file, sizeof file, "%s.ctl", api_names[s]);
  snprintf(url, sizeof url, "ipc://%s", svc_path(&a->svc, file, path, sizeof path));
  if (rpc_client_new(&a->client[s], url))
    a->client[s] = NULL;
  return a->client[s];
}

static int api_call(struct api *a, enum api_service s, const uint8_t *req, size_t len, uint8_t **reply, size_t *n) {
  struct rpc_client *c = api_client(a, s);
  return c ? rpc_client_call(c, req, len, reply, n, API_TIMEOUT_MS) : -ENOMEM;
}

static int api_forward(struct api *a, enum api_service s, const uint8_t *req, size_t len, uint8_t **reply, size_t *n) {
  int rc = api_call(a, s, req, len, reply, n);
  if (rc == 0)
    return 0;
  char text[96];
  snprintf(text, sizeof text, "service %s does not answer: %s", api_names[s], strerror(-rc));
  return svc_error_reply(-rc, text, reply, n);
}

/* Take the one row of a service's version reply, or make one that says why there is none. */
static Hoststack__Control__ServiceVersion *version_row(struct api *a, enum api_service s, const uint8_t *req,
                                                       size_t len) {
  Hoststack__Control__ServiceVersion *row = NULL;
  uint8_t *bytes = NULL;
  size_t n = 0;
  int rc = api_call(a, s, req, len, &bytes, &n);
  Hoststack__Control__Reply *r = rc ? NULL : hoststack__control__reply__unpack(NULL, n, bytes);
  free(bytes);
  if (r && r->body_case == HOSTSTACK__CONTROL__REPLY__BODY_VERSIONS && r->versions->n_service == 1) {
    row = r->versions->service[0];
    r->versions->n_service = 0;
  }
  reply_free(r);
  if (row)
    return row;
  row = malloc(sizeof *row);
  if (!row)
    return NULL;
  hoststack__control__service_version__init(row);
  row->service = strdup(api_names[s]);
  row->error = strdup(rc ? strerror(-rc) : "unreadable answer");
  return row;
}

static int show_version(struct api *a, const uint8_t *req, size_t len, uint8_t **reply, size_t *n) {
  uint8_t *own = NULL;
  size_t own_len = 0;
  int rc = svc_version_reply(&a->svc, 0, &own, &own_len);
  Hoststack__Control__Reply *r = rc ? NULL : hoststack__control__reply__unpack(NULL, own_len, own);
  free(own);
  if (!r || r->body_case != HOSTSTACK__CONTROL__REPLY__BODY_VERSIONS)
    return rc ? rc : -EBADMSG;
  Hoststack__Control__Versions *v = r->versions;
  Hoststack__Control__ServiceVersion **rows = realloc(v->service, (v->n_service + API_SERVICES) * sizeof *rows);
  if (rows)
    v->service = rows;
  for (int s = 0; rows && s < API_SERVICES; s++) {
    rows[v->n_service] = version_row(a, (enum api_service)s, req, len);
    if (rows[v->n_service])
      v->n_service++;
  }
  rc = svc_pack_reply(r, reply, n);
  hoststack__control__reply__free_unpacked(r, NULL);
  return rc;
}

/* A request of ours to a service, its answer unpacked; NULL when there is none. */
static Hoststack__Control__Reply *api_ask(struct api *a, enum api_service s, const Hoststack__Control__Request *q) {
  uint8_t *req = malloc(hoststack__control__request__get_packed_size(q) + 1), *bytes = NULL;
  size_t n = 0;
  if (!req)
    return NULL;
  size_t len = hoststack__control__request__pack(q, req);
  int rc = api_call(a, s, req, len, &bytes, &n);
  Hoststack__Control__Reply *r = rc ? NULL : hoststack__control__reply__unpack(NULL, n, bytes);
  free(bytes);
  free(req);
  return r;
}

static void count_sessions(Hoststack__Control__Apps *apps, const Hoststack__Control__Sessions *s) {
  for (size_t i = 0; i < s->n_session; i++)
    for (size_t k = 0; k < apps->n_app; k++)
      for (size_t w = 0; w < apps->app[k]->n_worker; w++)
        if (apps->app[k]->worker[w]->worker_id == s->session[i]->worker_id)
          apps->app[k]->worker[w]->sessions++;
}

/* Apps are the broker's, the sessions of their workers are counted from the engine's table, page by page. */
static int show_app(struct api *a, const uint8_t *req, size_t len, uint8_t **reply, size_t *n) {
  int rc = api_forward(a, API_BROKER, req, len, reply, n);
  Hoststack__Control__Reply *r = rc ? NULL : hoststack__control__reply__unpack(NULL, *n, *reply);
  if (!r || r->body_case != HOSTSTACK__CONTROL__REPLY__BODY_APPS)
    goto out; /* the broker's refusal is the answer */
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowSession page = HOSTSTACK__CONTROL__SHOW_SESSION__INIT;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_SESSION;
  q.show_session = &page;
  for (uint32_t pages = 0; pages < SHOW_APP_PAGES; pages++) {
    Hoststack__Control__Reply *s = api_ask(a, API_ENGINE, &q);
    size_t got = s && s->body_case == HOSTSTACK__CONTROL__REPLY__BODY_SESSIONS ? s->sessions->n_session : 0;
    if (got)
      count_sessions(r->apps, s->sessions);
    page.offset += (uint32_t)got;
    int more = got && page.offset < s->sessions->total;
    reply_free(s);
    if (!more)
      break;
  }
  page.offset = 0; /* those by cut-through */
  Hoststack__Control__Reply *cut = api_ask(a, API_BROKER, &q);
  if (cut && cut->body_case == HOSTSTACK__CONTROL__REPLY__BODY_SESSIONS)
    count_sessions(r->apps, cut->sessions);
  reply_free(cut);
  rc = reply_put(r, reply, n);
out:
  reply_free(r);
  return rc;
}

/* Rows move from `more` behind those of `all`. */
static void merge_sessions(Hoststack__Control__Sessions *all, Hoststack__Control__Sessions *more) {
  Hoststack__Control__Session **rows = realloc(all->session, (all->n_session + more->n_session + 1) * sizeof *rows);
  if (!rows)
    return;
  all->session = rows;
  if (more->n_session) /* else its array is NULL */
    memcpy(rows + all->n_session, more->session, more->n_session * sizeof(Hoststack__Control__Session *));
  all->n_session += more->n_session;
  all->total += more->total;
  more->n_session = 0;
}

/* Connections are the engine's; those by cut-through, which it knows nothing of, are the broker's and come after them.
 */
static int show_session(struct api *a, uint32_t offset, uint32_t limit, const uint8_t *req, size_t len, uint8_t **reply,
                        size_t *n) {
  int rc = api_forward(a, API_ENGINE, req, len, reply, n);
  Hoststack__Control__Reply *r = rc ? NULL : hoststack__control__reply__unpack(NULL, *n, *reply), *m = NULL;
  if (!r || r->body_case != HOSTSTACK__CONTROL__REPLY__BODY_SESSIONS)
    goto out; /* the engine's refusal is the answer */
  Hoststack__Control__Request ask = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowSession page = HOSTSTACK__CONTROL__SHOW_SESSION__INIT;
  ask.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_SESSION;
  ask.show_session = &page;
  page.offset = offset > r->sessions->total ? offset - r->sessions->total : 0;
  page.limit = limit;
  if (limit && r->sessions->n_session >= limit)
    page.offset = UINT32_MAX; /* the page is full: only how many there are */
  else if (limit)
    page.limit = limit - (uint32_t)r->sessions->n_session;
  m = api_ask(a, API_BROKER, &ask);
  if (!m || m->body_case != HOSTSTACK__CONTROL__REPLY__BODY_SESSIONS)
    goto out;
  merge_sessions(r->sessions, m->sessions);
  rc = reply_put(r, reply, n);
out:
  reply_free(r);
  reply_free(m);
  return rc;
}

/* The engine's rows are put to nicio's: addresses to the interface of that name, VLANs behind them. Rows move over. */
static void merge_interfaces(Hoststack__Control__Interfaces *all, Hoststack__Control__Interfaces *more) {
  Hoststack__Control__Interface **rows = realloc(all->interface, (all->n_interface + more->n_interface) * sizeof *rows);
  if (!rows)
    return;
  all->interface = rows;
  size_t own = all->n_interface, left = 0;
  for (size_t i = 0; i < more->n_interface; i++) {
    Hoststack__Control__Interface *from = more->interface[i], *to = NULL;
    for (size_t k = 0; k < own && !to; k++)
      to = strcmp(all->interface[k]->name, from->name) == 0 ? all->interface[k] : NULL;
    if (to && to->n_address == 0) {
      to->address = from->address;
      to->n_address = from->n_address;
      from->address = NULL;
      from->n_address = 0;
    }
    if (to)
      to->vrf = from->vrf;
    if (to)
      more->interface[left++] = from;
    else
      rows[all->n_interface++] = from;
  }
  more->n_interface = left;
}

/* Ports are nicio's, addresses and VLANs the engine's; while that one is away, the ports alone are shown. */
static int show_interface(struct api *a, const uint8_t *req, size_t len, uint8_t **reply, size_t *n) {
  int rc = api_forward(a, API_NICIO, req, len, reply, n);
  Hoststack__Control__Reply *r = rc ? NULL : hoststack__control__reply__unpack(NULL, *n, *reply), *m = NULL;
  if (!r || r->body_case != HOSTSTACK__CONTROL__REPLY__BODY_INTERFACES)
    goto out; /* nicio's refusal is the answer */
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowInterface what = HOSTSTACK__CONTROL__SHOW_INTERFACE__INIT;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_INTERFACE;
  q.show_interface = &what;
  m = api_ask(a, API_ENGINE, &q);
  if (m && m->body_case == HOSTSTACK__CONTROL__REPLY__BODY_INTERFACES)
    merge_interfaces(r->interfaces, m->interfaces);
  rc = reply_put(r, reply, n);
out:
  reply_free(r);
  reply_free(m);
  return rc;
}

static int show_drops(struct api *a, uint8_t **reply, size_t *n) {
  Hoststack__Control__Reply all = HOSTSTACK__CONTROL__REPLY__INIT;
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowStats stats = HOSTSTACK__CONTROL__SHOW_STATS__INIT;
  Hoststack__Control__ShowInterface ports = HOSTSTACK__CONTROL__SHOW_INTERFACE__INIT;
  Hoststack__Control__Stats *rows = calloc(1, sizeof *rows);
  if (!rows)
    return svc_error_reply(ENOMEM, NULL, reply, n);
  hoststack__control__stats__init(rows);
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_STATS;
  q.show_stats = &stats;
  Hoststack__Control__Reply *r = api_ask(a, API_ENGINE, &q);
  drops_engine(rows, r);
  reply_free(r);
  r = api_ask(a, API_BROKER, &q);
  drops_broker(rows, r);
  reply_free(r);
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_INTERFACE;
  q.show_interface = &ports;
  r = api_ask(a, API_NICIO, &q);
  drops_nicio(rows, r);
  reply_free(r);
  all.body_case = HOSTSTACK__CONTROL__REPLY__BODY_STATS;
  all.stats = rows;
  int rc = svc_pack_reply(&all, reply, n);
  hoststack__control__stats__free_unpacked(rows, NULL);
  return rc;
}

/* The engine raises its epoch, then nicio its own: both directions start anew, one after the other. */
static int reset_rings(struct api *a, const uint8_t *req, size_t len, uint8_t **reply, size_t *n) {
  int rc = api_forward(a, API_ENGINE, req, len, reply, n);
  if (rc)
    return rc;
  Hoststack__Control__Reply *r = hoststack__control__reply__unpack(NULL, *n, *reply);
  int said = r ? r->rc : EBADMSG;
  reply_free(r);
  if (said)
    return 0; /* the engine's refusal is the answer */
  free(*reply);
  return api_forward(a, API_NICIO, req, len, reply, n);
}

int api_handle(void *ctx, const uint8_t *req, size_t req_len, uint8_t **reply, size_t *reply_len) {
  struct api *a = ctx;
  Hoststack__Control__Request *q = hoststack__control__request__unpack(NULL, req_len, req);
  if (!q)
    return svc_error_reply(EBADMSG, "api: not a control Request", reply, reply_len);
  int body = (int)q->body_case;
  int session = body == HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_SESSION;
  uint32_t offset = session ? q->show_session->offset : 0, limit = session ? q->show_session->limit : 0;
  hoststack__control__request__free_unpacked(q, NULL);
  switch (body) {
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_INTERFACE:
    return show_interface(a, req, req_len, reply, reply_len);
  case HOSTSTACK__CONTROL__REQUEST__BODY_CAPTURE:
  case HOSTSTACK__CONTROL__REQUEST__BODY_SET_IMPAIRMENT:
    return api_forward(a, API_NICIO, req, req_len, reply, reply_len);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_SESSION:
    return show_session(a, offset, limit, req, req_len, reply, reply_len);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_TCP:
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_STATS:
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_TCP_CONFIG:
  case HOSTSTACK__CONTROL__REQUEST__BODY_SET_TCP:
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_ROUTE:
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_NEIGHBOR:
  case HOSTSTACK__CONTROL__REQUEST__BODY_SET_ROUTE:
    return api_forward(a, API_ENGINE, req, req_len, reply, reply_len);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_DROPS:
    return show_drops(a, reply, reply_len);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_APP:
    return show_app(a, req, req_len, reply, reply_len);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_NAMESPACE:
  case HOSTSTACK__CONTROL__REQUEST__BODY_ADD_RULE:
  case HOSTSTACK__CONTROL__REQUEST__BODY_DEL_RULE:
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_RULE:
    return api_forward(a, API_BROKER, req, req_len, reply, reply_len);
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_VERSION:
    return show_version(a, req, req_len, reply, reply_len);
  case HOSTSTACK__CONTROL__REQUEST__BODY_RESET_RINGS:
    return reset_rings(a, req, req_len, reply, reply_len);
  default:
    return svc_error_reply(EOPNOTSUPP, "api: unknown request; is the client newer than the server?", reply, reply_len);
  }
}

void api_close(struct api *a) {
  for (int s = 0; s < API_SERVICES; s++)
    if (a->client[s])
      rpc_client_free(a->client[s]);
}
