/*
 * hsctl show …: ask, and print as text or JSON. One printer per kind of answer.
 */
#include "hsctl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int show_all; /* counters that are 0 too, sessions with all figures */

static const char *num(char *buf, uint64_t v) {
  snprintf(buf, 24, "%" PRIu64, v);
  return buf;
}

static void print_interfaces(const Hoststack__Control__Interfaces *m) {
  for (size_t i = 0; i < m->n_interface; i++) {
    const Hoststack__Control__Interface *p = m->interface[i];
    printf("%s: %s %s, %s, MAC %s, MTU %u, %u Mbit/s, vrf %u, %s\n", p->name, p->kind, p->device, p->up ? "up" : "down",
           p->mac, p->mtu, p->speed_mbps, p->vrf, p->caps && *p->caps ? p->caps : "no offloads");
    for (size_t a = 0; a < p->n_address; a++)
      printf("  address %s\n", p->address[a]);
    for (size_t c = 0; c < p->n_counter; c++)
      if (p->counter[c]->value)
        printf("  %-24s %12" PRIu64 "  %s\n", p->counter[c]->name, p->counter[c]->value, p->counter[c]->help);
  }
}

static void print_session_verbose(const Hoststack__Control__Session *s) {
  char app[96];
  printf("%s %s -> %s  %s  (number %u, vrf %u)\n", s->proto, s->local, s->remote, s->state, s->index, s->vrf);
  printf("  app %s pid %" PRIu64 ", worker %" PRIu64 " slot %u, engine worker %u, %s%s, age %.3f s\n",
         table_plain(app, sizeof app, s->app), s->proc_pid, s->worker_id, s->slot, s->engine_worker, s->accept,
         s->orphan ? ", orphan" : "", (double)s->age_ms / 1000);
  printf("  send: mss %u, pmtu %u, cwnd %u, ssthresh %u, window %u (scale %u), in flight %u, unacked %u, sacked %u, "
         "lost %u, sent again %u\n",
         s->mss, s->pmtu, s->cwnd, s->ssthresh, s->snd_wnd, s->snd_wscale, s->in_flight, s->unacked, s->sacked, s->lost,
         s->rexmit_out);
  printf("  time: srtt %u us, rttvar %u us, min %u us, rto %u us, backoff %u, probes %u, sent %" PRIu64
         " ms ago, received %" PRIu64 " ms ago\n",
         s->srtt_us, s->rttvar_us, s->min_rtt_us, s->rto_us, s->backoff, s->probes, s->sent_ms_ago, s->received_ms_ago);
  printf("  cc %s, %s, ", s->cc, s->recovery && *s->recovery ? s->recovery : "-");
  if (s->pacing_kbps)
    printf("paced at %u kbit/s, ", s->pacing_kbps);
  printf("retransmits %" PRIu64 ", reordering %u, options %s\n", s->retransmits, s->reordering, s->options);
  printf("  receive: mss %u, window %u (scale %u), rtt %u us, read per rtt %u, sack blocks", s->rcv_mss, s->rcv_wnd,
         s->rcv_wscale, s->rcv_rtt_us, s->rcv_space);
  for (size_t i = 0; i < s->n_sack_block; i++)
    printf(" %s", s->sack_block[i]);
  printf("%s\n  fifos: receive %" PRIu64 " of %u bytes, send %" PRIu64 " of %u bytes\n", s->n_sack_block ? "" : " none",
         s->rx_queue, s->rx_limit, s->tx_queue, s->tx_limit);
}

static void print_sessions(const Hoststack__Control__Sessions *m) {
  struct table t = {0};
  char a[24], b[24], c[24], d[24], e[24], g[24], v[24];
  for (size_t i = 0; show_all && i < m->n_session; i++)
    print_session_verbose(m->session[i]);
  if (!show_all)
    table_row(&t, 13, "PROTO", "LOCAL", "REMOTE", "STATE", "APP", "PID", "RXQ", "TXQ", "CWND", "SRTT-US", "REXMIT",
              "CC", "VRF");
  for (size_t i = 0; !show_all && i < m->n_session; i++) {
    const Hoststack__Control__Session *s = m->session[i];
    table_row(&t, 13, s->proto, s->local, s->remote, s->state, s->app, num(a, s->proc_pid), num(b, s->rx_queue),
              num(c, s->tx_queue), num(d, s->cwnd), num(e, s->srtt_us), num(g, s->retransmits), s->cc, num(v, s->vrf));
  }
  table_print(&t, stdout);
  printf("%zu of %u sessions\n", m->n_session, m->total);
}

static void print_counters(Hoststack__Control__Counter **c, size_t n, int zeros) {
  static const char *const mark[] = {" ", "!", "X"};
  for (size_t i = 0; i < n; i++)
    if (zeros || c[i]->value)
      printf("%s %-28s %14" PRIu64 "  %s\n", mark[c[i]->severity < 3 ? c[i]->severity : 2], c[i]->name, c[i]->value,
             c[i]->help);
}

static void print_tcp(const Hoststack__Control__Tcp *m) {
  for (size_t i = 0; i < m->n_connections_by_state; i++)
    if (m->connections_by_state[i]->value)
      printf("  %-28s %14" PRIu64 "  connections\n", m->connections_by_state[i]->name,
             m->connections_by_state[i]->value);
  print_counters(m->counter, m->n_counter, show_all);
}

static void print_tcp_config(const Hoststack__Control__TcpConfig *m) {
  struct table t = {0};
  table_row(&t, 8, "NAME", "VALUE", "CONFIGURED", "DEFAULT", "UNIT", "ALLOWED", "REACH", "HELP");
  for (size_t i = 0; i < m->n_tunable; i++) {
    const Hoststack__Control__TcpTunable *k = m->tunable[i];
    char value[80];
    snprintf(value, sizeof value, "%s%s", k->value, k->set ? " (set)" : "");
    table_row(&t, 8, k->name, value, k->configured, k->default_value, k->unit, k->allowed, k->reach, k->help);
  }
  table_print(&t, stdout);
}

static void print_neighbors(const Hoststack__Control__Neighbors *m) {
  struct table t = {0};
  char ms[24], v[24];
  table_row(&t, 6, "ADDRESS", "MAC", "INTERFACE", "STATE", "CONFIRMED-MS-AGO", "VRF");
  for (size_t i = 0; i < m->n_neighbor; i++) {
    const Hoststack__Control__Neighbor *k = m->neighbor[i];
    table_row(&t, 6, k->address, k->mac, k->interface, k->state, num(ms, k->confirmed_ms_ago), num(v, k->vrf));
  }
  table_print(&t, stdout);
}

static void print_apps(const Hoststack__Control__Apps *m) {
  struct table t = {0};
  char a[24], b[24], c[24], d[24], e[24], f[24], g[24], o[24], h[24];
  for (size_t i = 0; i < m->n_app; i++) {
    uint64_t stack = 0, kernel = 0;
    const Hoststack__Control__App *app = m->app[i];
    char name[96], ns[96];
    for (size_t w = 0; w < app->n_worker; w++) {
      stack += app->worker[w]->sockets_stack;
      kernel += app->worker[w]->sockets_kernel;
    }
    printf("app %" PRIu64 " %s, namespace %s, sockets so far: %" PRIu64 " on the stack, %" PRIu64 " on the kernel\n",
           app->app_id, table_plain(name, sizeof name, app->name),
           app->namespace_id && *app->namespace_id ? table_plain(ns, sizeof ns, app->namespace_id) : "default", stack,
           kernel);
    if (app->n_worker)
      table_row(&t, 11, "  WORKER", "PID", "STATE", "SESSIONS", "LISTENERS", "MEMORY", "TX-PARTS", "ON-STACK",
                "ON-KERNEL", "DGRAMS-LOST", "LATE-WAKEUPS");
    for (size_t w = 0; w < app->n_worker; w++) {
      const Hoststack__Control__Worker *k = app->worker[w];
      char id[32];
      snprintf(id, sizeof id, "  %" PRIu64, k->worker_id);
      table_row(&t, 11, id, num(a, k->pid), k->state, num(b, k->sessions), num(c, k->listeners),
                num(d, k->memory_bytes), num(h, k->tx_parts), num(e, k->sockets_stack), num(f, k->sockets_kernel),
                num(o, k->dgrams_lost), num(g, k->late_wakeups));
    }
    if (app->n_worker)
      table_print(&t, stdout);
    for (size_t l = 0; l < app->n_listener; l++) {
      const Hoststack__Control__Listener *s = app->listener[l];
      printf("  listener %s: %s %s, backlog %s, pid %s, vrf %s\n", num(a, s->listener_id), s->proto, s->local,
             num(b, s->backlog), num(e, s->pid), num(f, s->vrf));
    }
  }
}

/* "3/100", or "3" without a limit. */
static const char *of_limit(char *buf, size_t len, const Hoststack__Control__Limit *l) {
  if (!l)
    return "0";
  if (l->limit)
    snprintf(buf, len, "%" PRIu64 "/%" PRIu64, l->used, l->limit);
  else
    snprintf(buf, len, "%" PRIu64, l->used);
  return buf;
}

static void print_namespaces(const Hoststack__Control__Namespaces *m) {
  struct table t = {0};
  char a[24], b[24], c[48], d[48], e[48], v[24];
  table_row(&t, 10, "NAMESPACE", "APPS", "WORKERS", "SESSIONS", "LISTENERS", "MEMORY", "SECRET", "ATTACH", "ADDRESSES",
            "VRF");
  for (size_t i = 0; i < m->n_namespace_; i++) {
    const Hoststack__Control__Namespace *k = m->namespace_[i];
    char list[256] = "";
    for (size_t j = 0; j < k->n_address; j++) {
      size_t used = strlen(list);
      snprintf(list + used, sizeof list - used, "%s%s", j ? "," : "", k->address[j]);
    }
    table_row(&t, 10, k->namespace_id, num(a, k->apps), num(b, k->workers), of_limit(c, sizeof c, k->sessions),
              of_limit(d, sizeof d, k->listeners), of_limit(e, sizeof e, k->memory_bytes), k->secret ? "yes" : "no",
              k->attach, k->n_address ? list : "all", num(v, k->vrf));
  }
  table_print(&t, stdout);
}

static void print_versions(const Hoststack__Control__Versions *m) {
  struct table t = {0};
  char a[24], b[24], c[24], abi[24];
  table_row(&t, 8, "SERVICE", "VERSION", "ABI", "PID", "UP-MS", "EPOCH", "STATE", "ERROR");
  for (size_t i = 0; i < m->n_service; i++) {
    const Hoststack__Control__ServiceVersion *v = m->service[i];
    snprintf(abi, sizeof abi, "%u.%u", v->abi_major, v->abi_minor);
    const char *state = v->pid == 0 ? "away" : v->serving ? "serving" : "starting";
    table_row(&t, 8, v->service, v->version, abi, num(a, v->pid), num(b, v->up_ms), num(c, v->epoch), state, v->error);
  }
  table_print(&t, stdout);
}

static void print_text(const Hoststack__Control__Reply *r) {
  switch (r->body_case) {
  case HOSTSTACK__CONTROL__REPLY__BODY_INTERFACES:
    print_interfaces(r->interfaces);
    break;
  case HOSTSTACK__CONTROL__REPLY__BODY_SESSIONS:
    print_sessions(r->sessions);
    break;
  case HOSTSTACK__CONTROL__REPLY__BODY_TCP:
    print_tcp(r->tcp);
    break;
  case HOSTSTACK__CONTROL__REPLY__BODY_TCP_CONFIG:
    print_tcp_config(r->tcp_config);
    break;
  case HOSTSTACK__CONTROL__REPLY__BODY_APPS:
    print_apps(r->apps);
    break;
  case HOSTSTACK__CONTROL__REPLY__BODY_NAMESPACES:
    print_namespaces(r->namespaces);
    break;
  case HOSTSTACK__CONTROL__REPLY__BODY_VERSIONS:
    print_versions(r->versions);
    break;
  case HOSTSTACK__CONTROL__REPLY__BODY_STATS:
    print_counters(r->stats->counter, r->stats->n_counter, show_all);
    break;
  case HOSTSTACK__CONTROL__REPLY__BODY_NEIGHBORS:
    print_neighbors(r->neighbors);
    break;
  default:
    printf("done\n");
    break;
  }
}

int hsctl_ask(const struct hsctl *h, const Hoststack__Control__Request *q) {
  Hoststack__Control__Reply *r = hsctl_call(h, q);
  if (!r)
    return 1;
  if (h->json) {
    json_print(stdout, &r->base);
    putchar('\n');
  } else {
    print_text(r);
  }
  hoststack__control__reply__free_unpacked(r, NULL);
  return 0;
}

struct show_word {
  const char *what, *detail; /* arguments; detail NULL = none */
  Hoststack__Control__Request__BodyCase body;
};

static const struct show_word show_words[] = {
    {"interface", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_INTERFACE},
    {"neighbor", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_NEIGHBOR},
    {"route", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_ROUTE},
    {"session", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_SESSION},
    {"session", "verbose", HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_SESSION},
    {"tcp", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_TCP},
    {"tcp", "statistics", HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_TCP},
    {"tcp", "config", HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_TCP_CONFIG},
    {"app", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_APP},
    {"namespace", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_NAMESPACE},
    {"version", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_VERSION},
    {"stats", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_STATS},
    {"drops", NULL, HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_DROPS},
    {"drops", "all", HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_DROPS},
};

static int show_wrong(int argc, char **argv) {
  const char *more = "";
  fprintf(stderr, "hsctl show: found \"%s%s%s\", allowed: ", argc > 1 ? argv[1] : "", argc > 2 ? " " : "",
          argc > 2 ? argv[2] : "");
  for (size_t i = 0; i < sizeof show_words / sizeof *show_words; i++, more = ", ")
    fprintf(stderr, "%s%s%s%s", more, show_words[i].what, show_words[i].detail ? " " : "",
            show_words[i].detail ? show_words[i].detail : "");
  fputc('\n', stderr);
  return 2;
}

int cmd_show(const struct hsctl *h, int argc, char **argv) {
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowInterface interface = HOSTSTACK__CONTROL__SHOW_INTERFACE__INIT;
  Hoststack__Control__ShowSession session = HOSTSTACK__CONTROL__SHOW_SESSION__INIT;
  Hoststack__Control__ShowTcp tcp = HOSTSTACK__CONTROL__SHOW_TCP__INIT;
  Hoststack__Control__ShowTcpConfig tcp_config = HOSTSTACK__CONTROL__SHOW_TCP_CONFIG__INIT;
  Hoststack__Control__ShowApp app = HOSTSTACK__CONTROL__SHOW_APP__INIT;
  Hoststack__Control__ShowNamespace namespace = HOSTSTACK__CONTROL__SHOW_NAMESPACE__INIT;
  Hoststack__Control__ShowVersion version = HOSTSTACK__CONTROL__SHOW_VERSION__INIT;
  Hoststack__Control__ShowStats stats = HOSTSTACK__CONTROL__SHOW_STATS__INIT;
  Hoststack__Control__ShowNeighbor neighbor = HOSTSTACK__CONTROL__SHOW_NEIGHBOR__INIT;
  Hoststack__Control__ShowDrops drops = HOSTSTACK__CONTROL__SHOW_DROPS__INIT;
  const char *what = argc > 1 ? argv[1] : "", *detail = argc > 2 ? argv[2] : NULL;
  for (size_t i = 0; i < sizeof show_words / sizeof *show_words && argc < 4; i++) {
    const struct show_word *w = &show_words[i];
    if (strcmp(w->what, what) == 0 && (w->detail ? detail && strcmp(w->detail, detail) == 0 : !detail))
      q.body_case = w->body;
  }
  session.verbose = detail != NULL;
  switch (q.body_case) { /* the member of the union that the body names */
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_INTERFACE:
    q.show_interface = &interface;
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_ROUTE:
    return route_show(h); /* page by page */
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_NEIGHBOR:
    q.show_neighbor = &neighbor;
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_SESSION:
    q.show_session = &session;
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_TCP:
    q.show_tcp = &tcp;
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_TCP_CONFIG:
    q.show_tcp_config = &tcp_config;
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_APP:
    q.show_app = &app;
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_NAMESPACE:
    q.show_namespace = &namespace;
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_VERSION:
    q.show_version = &version;
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_STATS:
    q.show_stats = &stats;
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_DROPS:
    q.show_drops = &drops;
    break;
  default:
    return show_wrong(argc, argv);
  }
  show_all = detail != NULL || q.body_case == HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_STATS;
  return hsctl_ask(h, &q);
}

int cmd_set(const struct hsctl *h, int argc, char **argv) {
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__SetTcp m = HOSTSTACK__CONTROL__SET_TCP__INIT;
  if (argc != 4 || strcmp(argv[1], "tcp")) {
    fprintf(stderr,
            "usage: hsctl set tcp NAME VALUE | hsctl set tcp NAME default; hsctl show tcp config lists names\n");
    return 2;
  }
  m.name = argv[2];
  m.value = argv[3];
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SET_TCP;
  q.set_tcp = &m;
  return hsctl_ask(h, &q);
}

int cmd_reset_rings(const struct hsctl *h, int argc, char **argv) {
  (void)argv;
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ResetRings reset = HOSTSTACK__CONTROL__RESET_RINGS__INIT;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_RESET_RINGS;
  q.reset_rings = &reset;
  if (argc > 1) {
    fprintf(stderr, "hsctl reset-rings: takes no arguments\n");
    return 2;
  }
  return hsctl_ask(h, &q);
}
