/*
 * Reads *.pkt files: cases, written as packet traces (README.md has the language). Called by main.c before anything
 * runs; a line that is not understood ends the program, so that a misspelt expectation can't pass for a met one.
 */
#include "pkt.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS 64u

struct reader {
  const char *path;
  unsigned no;
  struct pkt_case *c;
  char rule[400];
  char *tok[TOKENS];
  unsigned n, at;
};

static int bad(const struct reader *r, const char *what) {
  fprintf(stderr, "%s:%u: %s%s%s\n", r->path, r->no, what, r->at < r->n ? ": " : "", r->at < r->n ? r->tok[r->at] : "");
  return -1;
}

static const char *next(struct reader *r) {
  return r->at < r->n ? r->tok[r->at++] : NULL;
}

static int number(struct reader *r, int64_t *out) {
  char *end;
  if (r->at >= r->n)
    return bad(r, "a number is missing");
  errno = 0;
  *out = strtoll(r->tok[r->at], &end, 0);
  if (errno || *end || end == r->tok[r->at])
    return bad(r, "not a number");
  r->at++;
  return 0;
}

/* a:b */
static int pair(struct reader *r, int64_t *a, int64_t *b) {
  char *end;
  *a = strtoll(r->tok[r->at], &end, 0);
  if (*end != ':')
    return bad(r, "not a:b");
  *b = strtoll(end + 1, &end, 0);
  if (*end)
    return bad(r, "not a:b");
  r->at++;
  return 0;
}

static int is_pair(const struct reader *r) {
  return r->at < r->n && strchr("-0123456789", r->tok[r->at][0]) && strchr(r->tok[r->at], ':');
}

static int one_time(const char *s, char **end, uint64_t *us) {
  double v = strtod(s, end);
  uint64_t unit = 0;
  if (!strncmp(*end, "us", 2))
    unit = 1, *end += 2;
  else if (!strncmp(*end, "ms", 2))
    unit = 1000, *end += 2;
  else if (**end == 's')
    unit = 1000000, *end += 1;
  else if (**end == 'm')
    unit = 60000000, *end += 1;
  else if (**end == 'h')
    unit = 3600000000ull, *end += 1;
  *us = (uint64_t)(v * (double)unit);
  return unit ? 0 : -1;
}

/* 200ms, 1s, 180ms..260ms. 1 a moment, 2 a range, -1 */
static int time_range(struct reader *r, uint64_t *lo, uint64_t *hi) {
  char *end;
  const char *s = next(r);
  if (!s || one_time(s, &end, lo))
    return bad(r, "not a time");
  *hi = *lo;
  if (!*end)
    return 1;
  if (strncmp(end, "..", 2) || one_time(end + 2, &end, hi) || *end)
    return bad(r, "not a range of times");
  return 2;
}

static int flags_of(const char *s, struct pkt_seg *g) {
  static const char letters[] = "FSRPAUEW";
  if (!strcmp(s, "-"))
    return 0;
  for (; *s; s++) {
    const char *p = strchr(letters, *s);
    if (!p)
      return -1;
    g->flags |= (uint8_t)(1u << (p - letters));
    g->check_psh |= *s == 'P';
  }
  return 0;
}

static int seg_raw(struct reader *r, struct pkt_seg *g) {
  const char *s = next(r);
  if (!s)
    return bad(r, "bytes are missing");
  for (; s[0] && s[1]; s += 2) {
    unsigned v;
    if (g->n_raw == sizeof g->raw || sscanf(s, "%2x", &v) != 1)
      return bad(r, "not bytes of options");
    g->raw[g->n_raw++] = (uint8_t)v;
  }
  g->has |= PKT_HAS_RAW;
  return *s ? bad(r, "an odd digit") : 0;
}

static int seg_ecr(struct reader *r, struct pkt_seg *g) {
  const char *s = r->at < r->n ? r->tok[r->at] : "";
  g->has |= PKT_HAS_ECR;
  if (!strcmp(s, "mark"))
    g->ecr = PKT_ECR_MARK;
  else if (!strcmp(s, "last"))
    g->ecr = PKT_ECR_LAST;
  else if (!strcmp(s, "zero"))
    g->ecr = PKT_ECR_ZERO;
  else if (!strcmp(s, "sent"))
    g->ecr = PKT_ECR_SENT;
  else
    return number(r, &g->ecr);
  r->at++;
  return 0;
}

static int seg_win(struct reader *r, struct pkt_seg *g) {
  g->win_op = '=';
  if (r->at < r->n && strchr("<>", r->tok[r->at][0]))
    g->win_op = *r->tok[r->at]++;
  g->has |= PKT_HAS_WIN;
  return number(r, &g->win);
}

/* One word of a segment that takes a number. 1 = it was one, 0 = it was not, -1. */
static int seg_number_word(struct reader *r, struct pkt_seg *g, const char *w) {
  static const struct {
    const char *word;
    uint32_t has;
    size_t off;
  } words[] = {
      {"ack", PKT_HAS_ACK, offsetof(struct pkt_seg, ack)},
      {"urg", PKT_HAS_URG, offsetof(struct pkt_seg, urg)},
      {"mss", PKT_HAS_MSS, offsetof(struct pkt_seg, mss)},
      {"ws", PKT_HAS_WS, offsetof(struct pkt_seg, ws)},
      {"by", 0, offsetof(struct pkt_seg, by)},
      {"times", 0, offsetof(struct pkt_seg, times)},
  };
  for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
    if (strcmp(words[i].word, w))
      continue;
    int64_t v = PKT_ANY;
    g->has |= words[i].has;
    if (r->at < r->n && !strcmp(r->tok[r->at], "any"))
      r->at++;
    else if (number(r, &v))
      return -1;
    memcpy((char *)g + words[i].off, &v, sizeof v);
    return 1;
  }
  return 0;
}

static int seg_mod_word(struct pkt_seg *g, const char *w) {
  static const struct {
    const char *word;
    uint32_t has, mod;
  } words[] = {
      {"sackok", PKT_HAS_SACKOK, 0},
      {"noopt", PKT_HAS_NOOPT, 0},
      {"nots", 0, PKT_MOD_NOTS},
      {"badsum", 0, PKT_MOD_BADSUM},
      {"new", 0, PKT_MOD_NEW},
      {"mark", 0, PKT_MOD_MARK},
      {"abs", 0, PKT_MOD_ABS},
      {"cookie", PKT_HAS_COOKIE, 0},
      {"ext", 0, PKT_MOD_EXT},
      {"frag", 0, PKT_MOD_FRAG},
      {"fraglast", 0, PKT_MOD_FRAG | PKT_MOD_FRAGR},
  };
  static const char *const ecn[] = {"notect", "ect1", "ect0", "ce", "anyect"};
  for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
    if (strcmp(words[i].word, w))
      continue;
    g->has |= words[i].has;
    g->mod |= words[i].mod;
    return 1;
  }
  for (unsigned i = 0; i < 5; i++)
    if (!strcmp(ecn[i], w)) {
      g->ecn = (uint8_t)(i == 4 ? 255 : i);
      return 1;
    }
  return 0;
}

static int seg_word(struct reader *r, struct pkt_line *l, struct pkt_seg *g) {
  const char *w = next(r);
  int k = seg_number_word(r, g, w);
  if (k == 0)
    k = seg_mod_word(g, w);
  if (k != 0)
    return k < 0 ? -1 : 0;
  if (!strcmp(w, "win"))
    return seg_win(r, g);
  if (!strcmp(w, "raw"))
    return seg_raw(r, g);
  if (!strcmp(w, "ecr"))
    return seg_ecr(r, g);
  if (!strcmp(w, "ts")) {
    g->has |= PKT_HAS_TS;
    g->ts = PKT_ANY;
    return r->at < r->n && strchr("0123456789", r->tok[r->at][0]) ? number(r, &g->ts) : 0;
  }
  if (!strcmp(w, "sack")) {
    g->has |= PKT_HAS_SACK;
    for (; is_pair(r) && g->n_sack < 4; g->n_sack++)
      if (pair(r, &g->sack[g->n_sack][0], &g->sack[g->n_sack][1]))
        return -1;
    return 0;
  }
  if (!strcmp(w, "step") || !strcmp(w, "port")) {
    int64_t *range = *w == 's' ? g->step : g->port;
    g->has |= *w == 's' ? PKT_HAS_STEP : PKT_HAS_PORT;
    return is_pair(r) ? pair(r, &range[0], &range[1]) : bad(r, "LOW:HIGH");
  }
  if (!strcmp(w, "in") && l) {
    l->has_time = time_range(r, &l->lo, &l->hi);
    return l->has_time < 0 ? -1 : 0;
  }
  r->at--;
  return bad(r, "no word of a segment");
}

static int seg_line(struct reader *r, struct pkt_line *l) {
  struct pkt_seg *g = &l->seg;
  const char *f = next(r);
  if (!f || flags_of(f, g))
    return bad(r, "no flags");
  if (is_pair(r)) {
    int64_t end;
    if (pair(r, &g->seq, &end))
      return -1;
    g->len = end - g->seq;
    if (g->len < 0)
      return bad(r, "ends before it begins");
  } else if (number(r, &g->seq)) {
    return -1;
  }
  while (r->at < r->n)
    if (seg_word(r, l, g))
      return -1;
  if (l->verb == PKT_OUT && (g->flags & TH_ACK) && !(g->has & PKT_HAS_ACK))
    return bad(r, "an ACK without `ack N`");
  return 0;
}

static int word_of(struct reader *r, struct pkt_line *l) {
  const char *w = next(r);
  if (!w || strlen(w) >= sizeof l->word)
    return bad(r, "a word is missing");
  snprintf(l->word, sizeof l->word, "%s", w);
  return 0;
}

static int line_icmp(struct reader *r, struct pkt_line *l) {
  if (number(r, &l->n) || number(r, &l->n2))
    return -1;
  while (r->at < r->n) {
    const char *w = next(r);
    if (!strcmp(w, "mtu")) {
      if (number(r, &l->n3))
        return -1;
    } else if (!strcmp(w, "quote")) {
      if (number(r, &l->seg.seq))
        return -1;
    } else {
      return bad(r, "no word of an ICMP message");
    }
  }
  return 0;
}

static int line_rest(struct reader *r, struct pkt_line *l) {
  uint64_t hi;
  switch (l->verb) {
  case PKT_IN:
  case PKT_OUT:
    return seg_line(r, l);
  case PKT_ICMP:
    return line_icmp(r, l);
  case PKT_QUIET:
  case PKT_SKIP:
    return time_range(r, &l->lo, &hi) < 0 ? -1 : 0;
  case PKT_WRITE:
  case PKT_FASTOPEN:
  case PKT_URGENT:
  case PKT_OOB:
  case PKT_READ:
  case PKT_TSVAL:
    return number(r, &l->n);
  case PKT_LISTEN: /* how many may wait to be accepted */
    l->n = 8;
    return r->at < r->n ? number(r, &l->n) : 0;
  case PKT_SOCKOPT:
  case PKT_TUNE:
    return word_of(r, l) || number(r, &l->n) ? -1 : 0;
  case PKT_ERROR:
    return word_of(r, l);
  case PKT_STATE:
    return word_of(r, l) || (pkt_state_number(l->word) < 0 && bad(r, "no such state")) ? -1 : 0;
  case PKT_TO:
    if (word_of(r, l) || pkt_state_number(l->word) < 0)
      return bad(r, "no such state");
    if (r->at < r->n && !strcmp(r->tok[r->at], "active")) {
      l->n = 1;
      r->at++;
    }
    return 0;
  default:
    return 0;
  }
}

static const struct {
  const char *word;
  enum pkt_verb verb;
} verbs[] = {
    {"<", PKT_IN},
    {">", PKT_OUT},
    {"icmp", PKT_ICMP},
    {"quiet", PKT_QUIET},
    {"listen", PKT_LISTEN},
    {"connect", PKT_CONNECT},
    {"connected", PKT_CONNECTED},
    {"accept", PKT_ACCEPT},
    {"write", PKT_WRITE},
    {"fastopen", PKT_FASTOPEN},
    {"urgent", PKT_URGENT},
    {"oob", PKT_OOB},
    {"read", PKT_READ},
    {"eof", PKT_EOF},
    {"error", PKT_ERROR},
    {"shutdown", PKT_SHUTDOWN},
    {"close", PKT_CLOSE},
    {"abort", PKT_ABORT},
    {"sockopt", PKT_SOCKOPT},
    {"tune", PKT_TUNE},
    {"state", PKT_STATE},
    {"to", PKT_TO},
    {"tsval", PKT_TSVAL},
    {"skip", PKT_SKIP},
};

static int case_line(struct reader *r) {
  struct pkt_case *c = r->c;
  if (c->n == PKT_LINES_MAX)
    return bad(r, "too many lines");
  struct pkt_line *l = &c->line[c->n];
  memset(l, 0, sizeof *l);
  l->no = r->no;
  if (!strcmp(r->tok[0], "ours:") || !strcmp(r->tok[0], "linux:")) {
    l->only = r->tok[0][0] == 'o' ? PKT_OURS : PKT_LINUX;
    r->at++;
  }
  char *w = r->at < r->n ? r->tok[r->at] : (char *)"";
  size_t k = strlen(w);
  if (k > 1 && w[k - 1] >= '1' && w[k - 1] <= '0' + (int)PKT_CONNS) { /* >2: of the second connection */
    l->conn = (unsigned)(w[k - 1] - '1');
    w[k - 1] = 0;
  }
  for (unsigned i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
    if (strcmp(verbs[i].word, w))
      continue;
    l->verb = verbs[i].verb;
    r->at++;
    if (line_rest(r, l))
      return -1;
    if (r->at < r->n)
      return bad(r, "too much on the line");
    c->n++;
    return 0;
  }
  return bad(r, "no such verb");
}

static void rest_of_line(const struct reader *r, char *out, size_t room) {
  out[0] = 0;
  for (unsigned i = 1; i < r->n; i++) {
    if (i > 1)
      strncat(out, " ", room - strlen(out) - 1);
    strncat(out, r->tok[i], room - strlen(out) - 1);
  }
}

/* Lines that say something about the case. 1 = it was one. */
static int case_word(struct reader *r) {
  struct pkt_case *c = r->c;
  const char *w = r->tok[0];
  if (!strcmp(w, "skip_linux")) {
    rest_of_line(r, c->skip_linux, sizeof c->skip_linux);
  } else if (!strcmp(w, "differs")) {
    rest_of_line(r, c->differs, sizeof c->differs);
  } else if (!strcmp(w, "deviates")) {
    rest_of_line(r, c->deviates, sizeof c->deviates);
  } else if (!strcmp(w, "ipv6")) {
    c->family = 6;
  } else if (!strcmp(w, "set") || !strcmp(w, "set_linux")) {
    c->set[c->n_sets % PKT_SETS].linux_only = w[3] == '_';
    if (r->n != 3 || c->n_sets == PKT_SETS || strlen(r->tok[1]) > 23 || strlen(r->tok[2]) > 23)
      return bad(r, "set KEY VALUE, set_linux KEY VALUE");
    snprintf(c->set[c->n_sets].key, sizeof c->set[0].key, "%s", r->tok[1]);
    snprintf(c->set[c->n_sets++].val, sizeof c->set[0].val, "%s", r->tok[2]);
  } else if (!strcmp(w, "peer")) {
    r->at = 1;
    while (r->at < r->n)
      if (seg_word(r, NULL, &c->peer))
        return -1;
  } else {
    return 0;
  }
  return 1;
}

static int case_begin(struct pkt_suite *s, struct reader *r) {
  if (r->n != 4)
    return bad(r, "case NAME RFC/SECTION[,…] FUNCTION[,…]");
  if (!r->rule[0])
    return bad(r, "a comment with the rule must stand before the case");
  for (unsigned i = 0; i < s->n; i++)
    if (!strcmp(s->cases[i]->name, r->tok[1]))
      return bad(r, "this name is taken");
  if (s->n == s->room) {
    s->room = s->room ? 2 * s->room : 64;
    s->cases = realloc(s->cases, s->room * sizeof s->cases[0]);
  }
  struct pkt_case *c = calloc(1, sizeof *c);
  if (!s->cases || !c)
    abort();
  c->file = r->path;
  c->no = r->no;
  c->family = 4;
  c->peer.has = PKT_HAS_MSS | PKT_HAS_WIN;
  c->peer.mss = 1460;
  c->peer.win = 65535;
  snprintf(c->name, sizeof c->name, "%s", r->tok[1]);
  snprintf(c->rfc, sizeof c->rfc, "%s", r->tok[2]);
  snprintf(c->fn, sizeof c->fn, "%s", r->tok[3]);
  snprintf(c->rule, sizeof c->rule, "%s", r->rule);
  c->port = (uint16_t)(1024 + s->n);
  c->peer_port = (uint16_t)(20000 + s->n * PKT_CONNS);
  s->cases[s->n++] = c;
  r->c = c;
  r->rule[0] = 0;
  return 0;
}

static void take_rule(struct reader *r, const char *text) {
  while (*text == '#' || *text == ' ')
    text++;
  if (r->rule[0])
    strncat(r->rule, " ", sizeof r->rule - strlen(r->rule) - 1);
  strncat(r->rule, text, sizeof r->rule - strlen(r->rule) - 1);
}

static int one_line(struct pkt_suite *s, struct reader *r, char *text) {
  char *save = NULL;
  text[strcspn(text, "\n")] = 0;
  if (text[0] == '#') {
    take_rule(r, text);
    return 0;
  }
  char *comment = strstr(text, " #");
  if (comment)
    *comment = 0;
  r->n = r->at = 0;
  for (char *t = strtok_r(text, " \t", &save); t && r->n < TOKENS; t = strtok_r(NULL, " \t", &save))
    r->tok[r->n++] = t;
  if (r->n == 0) {
    r->rule[0] = 0;
    return 0;
  }
  if (!strcmp(r->tok[0], "case"))
    return case_begin(s, r);
  if (!r->c)
    return bad(r, "a line before the first case");
  int k = case_word(r);
  return k < 0 ? -1 : k > 0 ? 0 : case_line(r);
}

int pkt_script_load(struct pkt_suite *s, const char *path) {
  struct reader r = {.path = path};
  char text[512];
  FILE *f = fopen(path, "r");
  int rc = f ? 0 : -1;
  if (!f)
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
  while (rc == 0 && fgets(text, sizeof text, f)) {
    r.no++;
    rc = one_line(s, &r, text);
  }
  if (f)
    fclose(f);
  return rc;
}

void pkt_script_free(struct pkt_suite *s) {
  for (unsigned i = 0; i < s->n; i++)
    free(s->cases[i]);
  free(s->cases);
}
