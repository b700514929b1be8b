/*
 * hsctl rule: session rules are added, deleted and listed. What is added or deleted counts when the command returns,
 * unless the engine is away; then it says so.
 */
#include "hsctl.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RULE_BATCH   1000u /* rules in one request */
#define RULE_WORDS   16
#define RULE_WAIT_MS 2000
#define RULE_LINE    1024

static int rule_usage(void) {
  fprintf(stderr, "usage: hsctl rule show\n"
                  "       hsctl rule del ID… | all\n"
                  "       hsctl rule add egress|ingress [KEY=VALUE…] action=allow|deny|redirect\n"
                  "       hsctl rule add -          one such line after the other from standard input\n"
                  "keys: namespace=ID (egress) proto=tcp|udp|any remote=PREFIX local=PREFIX ports=PORT|LOW-HIGH\n"
                  "      app=NAME to-port=PORT (redirect) vrf=NUMBER (ingress)\n"
                  "a rule counts for what begins after it: established connections and connected sockets go on\n");
  return 2;
}

struct rule_key {
  const char *name;
  size_t offset;
};

#define FIELD(f) offsetof(Hoststack__Control__Rule, f)
static const struct rule_key rule_keys[] = {
    {"namespace", FIELD(namespace_id)},
    {"proto", FIELD(proto)},
    {"remote", FIELD(remote)},
    {"local", FIELD(local)},
    {"ports", FIELD(ports)},
    {"action", FIELD(action)},
    {"app", FIELD(app)},
};

/* "KEY=VALUE" into the message; the value stays where it is. 0 or 2. */
static int rule_word(Hoststack__Control__Rule *m, char *word) {
  char *eq = strchr(word, '='), *end;
  size_t len = eq ? (size_t)(eq - word) : 0;
  for (size_t i = 0; eq && i < sizeof rule_keys / sizeof *rule_keys; i++)
    if (strlen(rule_keys[i].name) == len && strncmp(rule_keys[i].name, word, len) == 0) {
      char *value = eq + 1;
      memcpy((uint8_t *)m + rule_keys[i].offset, &value, sizeof value);
      return 0;
    }
  if (eq && len == 7 && strncmp(word, "to-port", 7) == 0) {
    unsigned long port = strtoul(eq + 1, &end, 10);
    if (end != eq + 1 && *end == '\0' && port <= 65535) {
      m->to_port = (uint32_t)port;
      return 0;
    }
  }
  if (eq && len == 3 && strncmp(word, "vrf", 3) == 0) {
    unsigned long vrf = strtoul(eq + 1, &end, 10);
    if (end != eq + 1 && *end == '\0' && vrf < 16) {
      m->vrf = (uint32_t)vrf;
      return 0;
    }
  }
  fprintf(stderr,
          "hsctl rule: found %s, allowed KEY=VALUE with KEY of: namespace proto remote local ports action app "
          "to-port (0 … 65535) vrf (0 … 15)\n",
          word);
  return 2;
}

static int rule_words(Hoststack__Control__Rule *m, int n, char **word) {
  hoststack__control__rule__init(m);
  if (n < 1)
    return rule_usage();
  m->table = word[0];
  for (int i = 1; i < n; i++)
    if (rule_word(m, word[i]))
      return 2;
  return 0;
}

/* Until all workers of the engine go by what is written, or RULE_WAIT_MS are over. 1 = they do. */
static int rule_wait(const struct hsctl *h) {
  for (int waited = 0; waited < RULE_WAIT_MS; waited += 5) {
    Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
    Hoststack__Control__ShowRule show = HOSTSTACK__CONTROL__SHOW_RULE__INIT;
    show.limit = 1;
    q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_RULE;
    q.show_rule = &show;
    Hoststack__Control__Reply *r = hsctl_call(h, &q);
    int in_force = r && r->body_case == HOSTSTACK__CONTROL__REPLY__BODY_RULES && r->rules->in_force;
    if (r)
      hoststack__control__reply__free_unpacked(r, NULL);
    if (!r || in_force)
      return in_force;
    (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
  }
  return 0;
}

static int rule_settled(const struct hsctl *h) {
  if (!rule_wait(h))
    fprintf(stderr, "hsctl rule: written down; counts when the engine is there\n");
  return 0;
}

/* One request. Exit status; ids are printed. */
static int rule_send(const struct hsctl *h, Hoststack__Control__Rule **list, size_t n) {
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__AddRule m = HOSTSTACK__CONTROL__ADD_RULE__INIT;
  m.n_rule = n;
  m.rule = list;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_ADD_RULE;
  q.add_rule = &m;
  Hoststack__Control__Reply *r = hsctl_call(h, &q);
  if (!r)
    return 1;
  if (h->json) {
    json_print(stdout, &r->base);
    putchar('\n');
  } else if (r->body_case == HOSTSTACK__CONTROL__REPLY__BODY_RULES && r->rules->n_id) {
    size_t last = r->rules->n_id - 1;
    printf(last ? "rules %u … %u added\n" : "rule %u added\n", r->rules->id[0], r->rules->id[last]);
  }
  hoststack__control__reply__free_unpacked(r, NULL);
  return 0;
}

struct rule_batch {
  Hoststack__Control__Rule m[RULE_BATCH], *list[RULE_BATCH];
  char text[RULE_BATCH][RULE_LINE];
  size_t n;
};

/* A line as words. 0, or 2 after a message. */
static int rule_line(struct rule_batch *b, const char *line, unsigned number) {
  char *word[RULE_WORDS], *save = NULL, *text = b->text[b->n];
  int n = 0;
  snprintf(text, RULE_LINE, "%s", line);
  for (char *p = strtok_r(text, " \t\r\n", &save); p && n < RULE_WORDS; p = strtok_r(NULL, " \t\r\n", &save))
    word[n++] = p;
  if (n == 0 || word[0][0] == '#')
    return 0;
  b->list[b->n] = &b->m[b->n];
  if (n < RULE_WORDS && rule_words(&b->m[b->n], n, word) == 0) {
    b->n++;
    return 0;
  }
  fprintf(stderr, "hsctl rule: line %u\n", number);
  return 2;
}

/* Lines of standard input, RULE_BATCH at a time; those before a wrong one are in. */
static int rule_add_lines(const struct hsctl *h) {
  struct rule_batch *b = calloc(1, sizeof *b);
  char line[RULE_LINE];
  unsigned number = 0;
  int rc = b ? 0 : 1;
  while (rc == 0 && fgets(line, sizeof line, stdin)) {
    rc = rule_line(b, line, ++number);
    if (rc == 0 && b->n == RULE_BATCH) {
      rc = rule_send(h, b->list, b->n);
      b->n = 0;
    }
  }
  if (rc == 0 && b->n)
    rc = rule_send(h, b->list, b->n);
  free(b);
  return rc ? rc : rule_settled(h);
}

static int rule_add(const struct hsctl *h, int n, char **word) {
  Hoststack__Control__Rule m, *list = &m;
  if (n == 1 && strcmp(word[0], "-") == 0)
    return rule_add_lines(h);
  int rc = rule_words(&m, n, word);
  rc = rc ? rc : rule_send(h, &list, 1);
  return rc ? rc : rule_settled(h);
}

static int rule_del(const struct hsctl *h, int n, char **word) {
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__DelRule m = HOSTSTACK__CONTROL__DEL_RULE__INIT;
  m.all = n == 1 && strcmp(word[0], "all") == 0;
  m.id = calloc((size_t)n + 1, sizeof *m.id);
  if (!m.id)
    return 1;
  for (int i = 0; i < n && !m.all; i++) {
    char *end;
    unsigned long id = strtoul(word[i], &end, 10);
    if (end == word[i] || *end || id == 0 || id > UINT32_MAX) {
      free(m.id);
      fprintf(stderr, "hsctl rule del: found %s, allowed the ID of a rule, or all\n", word[i]);
      return 2;
    }
    m.id[m.n_id++] = (uint32_t)id;
  }
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_DEL_RULE;
  q.del_rule = &m;
  Hoststack__Control__Reply *r = n ? hsctl_call(h, &q) : NULL;
  free(m.id);
  if (!n)
    return rule_usage();
  if (!r)
    return 1;
  printf("%u rules are left\n", r->body_case == HOSTSTACK__CONTROL__REPLY__BODY_RULES ? r->rules->total : 0);
  hoststack__control__reply__free_unpacked(r, NULL);
  return rule_settled(h);
}

static void rule_rows(struct table *t, const Hoststack__Control__Rules *m) {
  for (size_t i = 0; i < m->n_rule; i++) {
    const Hoststack__Control__Rule *r = m->rule[i];
    char id[16], to[96], vrf[16];
    snprintf(vrf, sizeof vrf, "%u", r->vrf);
    snprintf(id, sizeof id, "%u", r->id);
    snprintf(to, sizeof to, r->to_port ? "%s:%u" : "%s", r->app, r->to_port);
    table_row(t, 10, id, r->table, r->namespace_id, r->proto, r->remote, r->local, r->ports, r->action, to, vrf);
  }
}

/* The next page; its rows move to `all`. Rows in it, -1 = no answer. */
static int rule_page(const struct hsctl *h, Hoststack__Control__Rules *all) {
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowRule m = HOSTSTACK__CONTROL__SHOW_RULE__INIT;
  m.offset = (uint32_t)all->n_rule;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_RULE;
  q.show_rule = &m;
  Hoststack__Control__Reply *r = hsctl_call(h, &q);
  int n = -1;
  if (!r)
    return -1;
  if (r->body_case == HOSTSTACK__CONTROL__REPLY__BODY_RULES) {
    Hoststack__Control__Rules *page = r->rules;
    Hoststack__Control__Rule **rows = realloc(all->rule, (all->n_rule + page->n_rule + 1) * sizeof *rows);
    all->rule = rows ? rows : all->rule;
    n = rows ? (int)page->n_rule : -1;
    for (int i = 0; i < n; i++)
      all->rule[all->n_rule++] = page->rule[i];
    page->n_rule = n < 0 ? page->n_rule : 0;
    all->total = page->total;
    all->in_force = page->in_force;
  }
  hoststack__control__reply__free_unpacked(r, NULL);
  return n;
}

static int rule_show(const struct hsctl *h) {
  Hoststack__Control__Reply out = HOSTSTACK__CONTROL__REPLY__INIT;
  Hoststack__Control__Rules *all = malloc(sizeof *all);
  struct table t = {0};
  int n;
  if (!all)
    return 1;
  hoststack__control__rules__init(all);
  do
    n = rule_page(h, all);
  while (n > 0 && all->n_rule < all->total);
  out.body_case = HOSTSTACK__CONTROL__REPLY__BODY_RULES;
  out.rules = all;
  if (n >= 0 && h->json) {
    json_print(stdout, &out.base);
    putchar('\n');
  } else if (n >= 0) {
    table_row(&t, 10, "ID", "TABLE", "NAMESPACE", "PROTO", "REMOTE", "LOCAL", "PORTS", "ACTION", "TO", "VRF");
    rule_rows(&t, all);
    table_print(&t, stdout);
    if (!all->in_force)
      printf("not in force yet: the engine is away, or about to take them\n");
  }
  hoststack__control__rules__free_unpacked(all, NULL);
  return n < 0;
}

int cmd_rule(const struct hsctl *h, int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "show") == 0)
    return rule_show(h);
  if (argc >= 2 && strcmp(argv[1], "add") == 0)
    return rule_add(h, argc - 2, argv + 2);
  if (argc >= 2 && strcmp(argv[1], "del") == 0)
    return rule_del(h, argc - 2, argv + 2);
  return rule_usage();
}
