/*
 * hsctl route: routes are added, replaced, deleted and listed; what is changed counts when the command returns.
 */
#include "hsctl.h"

#include <stdlib.h>
#include <string.h>

static int route_usage(void) {
  fprintf(stderr, "usage: hsctl route show\n"
                  "       hsctl route add|replace PREFIX [via ADDRESS] [interface NAME] [vrf NUMBER]\n"
                  "       hsctl route del PREFIX [vrf NUMBER]\n");
  return 2;
}

/* The next page; its rows move to `all`. Rows in it, -1 = no answer. */
static int route_page(const struct hsctl *h, Hoststack__Control__Routes *all) {
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowRoute m = HOSTSTACK__CONTROL__SHOW_ROUTE__INIT;
  m.offset = (uint32_t)all->n_route;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_ROUTE;
  q.show_route = &m;
  Hoststack__Control__Reply *r = hsctl_call(h, &q);
  int n = -1;
  if (r && r->body_case == HOSTSTACK__CONTROL__REPLY__BODY_ROUTES) {
    Hoststack__Control__Routes *page = r->routes;
    Hoststack__Control__Route **rows = realloc(all->route, (all->n_route + page->n_route + 1) * sizeof *rows);
    all->route = rows ? rows : all->route;
    n = rows ? (int)page->n_route : -1;
    for (int i = 0; i < n; i++)
      all->route[all->n_route++] = page->route[i];
    page->n_route = n < 0 ? page->n_route : 0;
    all->total = page->total;
  }
  if (r)
    hoststack__control__reply__free_unpacked(r, NULL);
  return n;
}

int route_show(const struct hsctl *h) {
  Hoststack__Control__Reply out = HOSTSTACK__CONTROL__REPLY__INIT;
  Hoststack__Control__Routes *all = malloc(sizeof *all);
  struct table t = {0};
  int n;
  if (!all)
    return 1;
  hoststack__control__routes__init(all);
  do
    n = route_page(h, all);
  while (n > 0 && all->n_route < all->total);
  out.body_case = HOSTSTACK__CONTROL__REPLY__BODY_ROUTES;
  out.routes = all;
  if (n >= 0 && h->json) {
    json_print(stdout, &out.base);
    putchar('\n');
  } else if (n >= 0) {
    table_row(&t, 5, "TO", "VIA", "INTERFACE", "BY", "VRF");
    for (size_t i = 0; i < all->n_route; i++) {
      const Hoststack__Control__Route *r = all->route[i];
      char vrf[16];
      snprintf(vrf, sizeof vrf, "%u", r->vrf);
      table_row(&t, 5, r->to, r->via, r->interface, r->by, vrf);
    }
    table_print(&t, stdout);
  }
  hoststack__control__routes__free_unpacked(all, NULL);
  return n < 0;
}

/* 0 … 15, or -1. */
static int route_vrf(const char *text) {
  char *end;
  long v = strtol(text, &end, 10);
  return end != text && *end == '\0' && v >= 0 && v < 16 ? (int)v : -1;
}

int cmd_route(const struct hsctl *h, int argc, char **argv) {
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__SetRoute m = HOSTSTACK__CONTROL__SET_ROUTE__INIT;
  if (argc == 2 && strcmp(argv[1], "show") == 0)
    return route_show(h);
  if (argc < 3)
    return route_usage();
  m.to = argv[2];
  m.replace = strcmp(argv[1], "replace") == 0;
  m.del = strcmp(argv[1], "del") == 0;
  if (!m.replace && !m.del && strcmp(argv[1], "add"))
    return route_usage();
  for (int i = 3; i < argc; i += 2) {
    if (i + 1 < argc && !m.del && strcmp(argv[i], "via") == 0)
      m.via = argv[i + 1];
    else if (i + 1 < argc && !m.del && strcmp(argv[i], "interface") == 0)
      m.interface = argv[i + 1];
    else if (i + 1 < argc && strcmp(argv[i], "vrf") == 0 && route_vrf(argv[i + 1]) >= 0)
      m.vrf = (uint32_t)route_vrf(argv[i + 1]);
    else
      return route_usage();
  }
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SET_ROUTE;
  q.set_route = &m;
  return hsctl_ask(h, &q);
}
