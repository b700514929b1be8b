/*
 * ShowSession's part that the engine does not know: connections by cut-through, read from the pairs' segments.
 *
 * Handler of ctl.c, main thread. Two rows per connection, one for each end, proto "cut"; the figures are what the apps
 * wrote into their own segments, so they are shown and never used. Proto "cut-udp": datagrams of two sessions that the
 * engine lists, too.
 */
#include "broker.h"

#include "base/bits.h"
#include "control.pb-c.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define PAIR_ROWS_MAX 1000u

struct pair_row {
  Hoststack__Control__Session s;
  char local[64], remote[64];
};

struct pair_rows {
  const struct broker *b;
  uint32_t offset, limit, total, n;
  struct pair_row *row;
};

static void pair_text(char *to, size_t len, const struct abi_endpoint *ep) {
  char ip[INET6_ADDRSTRLEN] = "?";
  int six = ep->family == 6;
  inet_ntop(six ? AF_INET6 : AF_INET, six ? ep->ip : ep->ip + 12, ip, sizeof ip);
  snprintf(to, len, six ? "[%s]:%u" : "%s:%u", ip, be16_get(ep->port));
}

/** The state that TCP would be in. */
static const char *pair_state(int udp, uint32_t mine, uint32_t theirs) {
  int fin = (mine & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) != 0;
  int got = (theirs & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) != 0;
  if (udp)
    return fin || got ? "CLOSING" : "CONNECTED";
  return fin ? (got ? "CLOSED" : "FIN_WAIT_2") : got ? "CLOSE_WAIT" : "ESTABLISHED";
}

static void pair_row_add(struct pair_rows *t, uint64_t worker_id, int udp, const struct abi_endpoint *local,
                         const struct abi_endpoint *remote, const struct abi_sess_app *mine,
                         const struct abi_sess_app *theirs) {
  uint32_t at = t->total++;
  if (at < t->offset || t->n == t->limit)
    return;
  struct pair_row *row = &t->row[t->n++];
  Hoststack__Control__Session *s = &row->s;
  const struct broker *b = t->b;
  hoststack__control__session__init(s);
  uint32_t w = registry_worker_find(&b->reg, worker_id);
  uint32_t app = w != REGISTRY_NONE ? registry_app_find(&b->reg, b->reg.worker[w].app_id) : REGISTRY_NONE;
  uint32_t proc = w != REGISTRY_NONE ? registry_proc_find(&b->reg, b->reg.worker[w].proc_id) : REGISTRY_NONE;
  pair_text(row->local, sizeof row->local, local);
  pair_text(row->remote, sizeof row->remote, remote);
  s->proto = (char *)(uintptr_t)(udp ? "cut-udp" : "cut");
  s->local = row->local;
  s->remote = row->remote;
  s->state = (char *)(uintptr_t)pair_state(udp, mine->want, theirs->want);
  s->app = app != REGISTRY_NONE ? (char *)(uintptr_t)b->reg.app[app].name : (char *)(uintptr_t) "?";
  s->proc_pid = proc != REGISTRY_NONE ? b->reg.proc[proc].pid : 0;
  s->worker_id = worker_id;
  s->lost = udp ? theirs->tx_urg : 0; /* as with the engine's: what found no room here */
  s->rx_queue = HS_MIN(theirs->tx.tail - mine->rx_head, ABI_FIFO_MAX);
  s->tx_queue = HS_MIN(mine->tx.tail - theirs->rx_head, ABI_FIFO_MAX);
}

static void pair_rows_of(void *ctx, uint64_t client_worker, uint64_t server_worker, const struct abi_sess_app *client,
                         const struct abi_sess_app *server) {
  static const struct abi_sess_app nothing;
  int udp = client->req.proto == 1;
  int accepted = server->gen == client->gen && server->accepted == server->gen;
  const struct abi_sess_app *other = accepted ? server : &nothing;
  const struct abi_endpoint *from = &client->req.local, *to = &client->req.remote;
  if ((client->want & other->want & ABI_WANT_CLOSE) != 0)
    return;
  if ((client->want & ABI_WANT_CLOSE) == 0)
    pair_row_add(ctx, client_worker, udp, from, to, client, other);
  if (accepted && (server->want & ABI_WANT_CLOSE) == 0)
    pair_row_add(ctx, server_worker, udp, to, from, server, client);
}

int pair_ctl_sessions(const struct broker *b, uint32_t offset, uint32_t limit, uint8_t **reply, size_t *reply_len) {
  Hoststack__Control__Sessions list = HOSTSTACK__CONTROL__SESSIONS__INIT;
  Hoststack__Control__Reply r = HOSTSTACK__CONTROL__REPLY__INIT;
  struct pair_rows t = {.b = b, .offset = offset, .limit = limit == 0 ? PAIR_ROWS_MAX : HS_MIN(limit, PAIR_ROWS_MAX)};
  t.row = calloc(t.limit, sizeof *t.row);
  Hoststack__Control__Session **rows = calloc(t.limit, sizeof(Hoststack__Control__Session *));
  int rc = -ENOMEM;
  if (t.row == NULL || rows == NULL)
    goto out;
  pair_each(b, pair_rows_of, &t);
  for (uint32_t i = 0; i < t.n; i++)
    rows[i] = &t.row[i].s;
  list.n_session = t.n;
  list.session = rows;
  list.total = t.total;
  r.body_case = HOSTSTACK__CONTROL__REPLY__BODY_SESSIONS;
  r.sessions = &list;
  rc = svc_pack_reply(&r, reply, reply_len);
out:
  free(rows);
  free(t.row);
  return rc;
}
