/*
 * The armed/sleep protocol of hint rings (abi/ring.h, shm/hint.c), model-checked: every interleaving of a producer that
 * may die between any two steps and is followed by a successor, and a consumer that takes, arms, fences, looks again
 * and sleeps. Memory is x86-TSO: each side has a store buffer that drains whenever it likes and at fences; a load sees
 * the own buffer first. Checked in every state from which nothing can move: the ring is empty and every fact whose push
 * was completed has been seen. The ceiling on sleep is not in the model: here a lost wake-up is for ever.
 *
 * So that the checker is known to see: each fence, the second look, the rule that only the consumer writes `armed`, and
 * the look at it for pending entries is left out once, and a lost wake-up must be found then.
 */
#include "base/bits.h"
#include "base/hash.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

enum word { FACT0, FACT1, ENT0, ENT1, POS0, POS1, TAIL, HEAD, ARMED, WORDS };
#define CAP  2u
#define NONE 7u /* a position that is in no ring yet */
#define BUF  8

/** What is left out. */
enum flaw {
  SOUND = 0,
  NO_PRODUCER_FENCE,
  NO_PENDING_FENCE,
  NO_HEAD_FENCE,
  NO_ARM_FENCE,
  NO_SECOND_LOOK,
  PRODUCER_CLEARS_ARMED,
  PENDING_LOOKS_NOT_AT_ARMED,
};

struct buffer {
  uint8_t n, addr[BUF], val[BUF];
};

/** A state of the whole model; all bytes count. */
struct state {
  uint8_t mem[WORDS];
  uint8_t bell;
  uint8_t life;        /* 0 first producer, 1 successor */
  uint8_t op, pc, reg; /* which push of the script, where in it; ring decided */
  uint8_t tail;        /* producer's private tail */
  uint8_t cpc, chead, centry;
  uint8_t seen[2];
  struct buffer pb, cb;
};

struct push {
  uint8_t slot, val;
};
struct script {
  struct push push[2][3]; /* by life; val 0 ends it; slot 9: ring the bell, as a new epoch does */
};

struct model {
  const struct script *script;
  enum flaw flaw;
  int may_die;
  struct state *stack;
  size_t n_stack, room;
  struct state *set; /* visited: open addressing; life 255 = empty */
  size_t set_n, set_mask;
  const char *wrong;
  int dedupes;
};

static uint8_t load(const struct state *s, const struct buffer *b, unsigned addr) {
  for (int i = b->n - 1; i >= 0; i--)
    if (b->addr[i] == addr)
      return b->val[i];
  return s->mem[addr];
}

static void store(struct buffer *b, unsigned addr, unsigned val) {
  assert_true(b->n < BUF);
  b->addr[b->n] = (uint8_t)addr;
  b->val[b->n++] = (uint8_t)val;
}

static void drain(struct state *s, struct buffer *b) {
  s->mem[b->addr[0]] = b->val[0];
  b->n--;
  memmove(b->addr, b->addr + 1, BUF - 1);
  memmove(b->val, b->val + 1, BUF - 1);
  b->addr[BUF - 1] = b->val[BUF - 1] = 0; /* equal states are equal bytes */
}

static void set_grow(struct model *m) {
  struct state *old = m->set;
  size_t n = old == NULL ? 0 : m->set_mask + 1;
  m->set_mask = n == 0 ? (1u << 14) - 1 : 2 * n - 1;
  m->set = malloc((m->set_mask + 1) * sizeof *m->set);
  memset(m->set, 255, (m->set_mask + 1) * sizeof *m->set);
  for (size_t i = 0; i < n; i++) {
    if (old[i].life == 255)
      continue;
    size_t at = hash_siphash24((const uint8_t *)"0123456789abcdef", &old[i], sizeof *old) & m->set_mask;
    while (m->set[at].life != 255)
      at = (at + 1) & m->set_mask;
    m->set[at] = old[i];
  }
  free(old);
}

/** Remembers a state; if it is new it will be explored. */
static void visit(struct model *m, const struct state *s) {
  if (m->set == NULL || m->set_n * 2 > m->set_mask)
    set_grow(m);
  size_t at = hash_siphash24((const uint8_t *)"0123456789abcdef", s, sizeof *s) & m->set_mask;
  for (; m->set[at].life != 255; at = (at + 1) & m->set_mask)
    if (memcmp(&m->set[at], s, sizeof *s) == 0)
      return;
  m->set[at] = *s;
  m->set_n++;
  if (m->n_stack == m->room) {
    m->room = m->room == 0 ? 1024 : m->room * 2;
    m->stack = realloc(m->stack, m->room * sizeof *m->stack);
  }
  m->stack[m->n_stack++] = *s;
}

static int is_pending(const struct state *s, uint8_t slot, uint8_t head) {
  uint8_t pos = load(s, &s->pb, POS0 + slot);
  return (uint8_t)(pos - head) < (uint8_t)(s->tail - head) && load(s, &s->pb, ENT0 + pos % CAP) == slot;
}

static const struct push *current(const struct model *m, const struct state *s) {
  const struct push *p = &m->script->push[s->life][s->op];
  return s->op < 3 && p->val != 0 ? p : NULL;
}

static void next_push(struct state *s) {
  s->op++;
  s->pc = 0;
  s->reg = 0;
}

/** One step of hint_push. Returns whether it could move. */
static int producer_step(struct model *m, struct state *s) {
  const struct push *p = current(m, s);
  struct buffer *b = &s->pb;
  if (p == NULL)
    return 0;
  if (p->slot == 9) {
    s->bell = 1;
    next_push(s);
    return 1;
  }
  switch (s->pc) {
  case 0:
    store(b, FACT0 + p->slot, p->val);
    s->pc = 1;
    return 1;
  case 1:
    s->pc = is_pending(s, p->slot, load(s, b, HEAD)) ? 2 : 5;
    return 1;
  case 2:
    if (b->n != 0 && m->flaw != NO_PENDING_FENCE)
      return 0;
    s->pc = 3;
    return 1;
  case 3:
    s->pc = is_pending(s, p->slot, load(s, b, HEAD)) ? 4 : 5;
    return 1;
  case 4:
    m->dedupes++;
    if (m->flaw != PENDING_LOOKS_NOT_AT_ARMED && load(s, b, ARMED))
      s->pc = 10;
    else
      next_push(s);
    return 1;
  case 5:
    store(b, ENT0 + s->tail % CAP, p->slot);
    s->pc = 6;
    return 1;
  case 6:
    store(b, POS0 + p->slot, s->tail);
    s->pc = 7;
    return 1;
  case 7:
    store(b, TAIL, ++s->tail);
    s->pc = 8;
    return 1;
  case 8:
    if (b->n != 0 && m->flaw != NO_PRODUCER_FENCE)
      return 0;
    s->pc = 9;
    return 1;
  case 9:
    if (!load(s, b, ARMED)) {
      next_push(s);
    } else {
      if (m->flaw == PRODUCER_CLEARS_ARMED)
        store(b, ARMED, 0);
      s->pc = 10;
    }
    return 1;
  default:
    s->bell = 1;
    next_push(s);
    return 1;
  }
}

/** The producer is dead and its buffer has drained: a successor goes on from the shared words. */
static int producer_dies(const struct model *m, struct state *s) {
  if (s->life != 0 || s->pb.n != 0 || (!m->may_die && current(m, s) != NULL))
    return 0;
  s->life = 1;
  s->op = s->pc = s->reg = 0;
  s->tail = s->mem[TAIL];
  return 1;
}

/** One step of the consumer's loop. Returns whether it could move. */
static int consumer_step(struct model *m, struct state *s) {
  struct buffer *b = &s->cb;
  switch (s->cpc) {
  case 0:
    s->cpc = load(s, b, TAIL) == s->chead ? 5 : 1;
    return 1;
  case 1:
    s->centry = load(s, b, ENT0 + s->chead % CAP);
    s->cpc = 2;
    return 1;
  case 2:
    store(b, HEAD, ++s->chead);
    s->cpc = 3;
    return 1;
  case 3:
    if (b->n != 0 && m->flaw != NO_HEAD_FENCE)
      return 0;
    s->cpc = 4;
    return 1;
  case 4:
    s->seen[s->centry] = load(s, b, FACT0 + s->centry);
    s->cpc = 0;
    return 1;
  case 5:
    store(b, ARMED, 1);
    s->cpc = m->flaw == NO_SECOND_LOOK ? 9 : 6;
    return 1;
  case 6:
    if (b->n != 0 && m->flaw != NO_ARM_FENCE)
      return 0;
    s->cpc = 7;
    return 1;
  case 7:
    s->cpc = load(s, b, TAIL) != s->chead ? 8 : 9;
    return 1;
  case 8:
    store(b, ARMED, 0);
    s->cpc = 0;
    return 1;
  default: /* asleep */
    if (!s->bell)
      return 0;
    s->bell = 0;
    s->cpc = 8;
    return 1;
  }
}

/** In a state where nothing moves: is anything left that nobody will ever look at? */
static void check_end(struct model *m, const struct state *s) {
  if (s->mem[TAIL] != s->mem[HEAD])
    m->wrong = "asleep for ever beside a ring that is not empty";
  for (unsigned slot = 0; slot < 2; slot++)
    for (int i = 0; i < 3 && m->script->push[1][i].val != 0; i++)
      if (m->script->push[1][i].slot == slot && s->seen[slot] != s->mem[FACT0 + slot])
        m->wrong = "a fact was pushed and never seen";
}

static void explore(struct model *m, const struct state *s) {
  struct state t;
  int moved = 0;
  if (s->pb.n != 0) {
    t = *s;
    drain(&t, &t.pb);
    visit(m, &t);
    moved = 1;
  }
  if (s->cb.n != 0) {
    t = *s;
    drain(&t, &t.cb);
    visit(m, &t);
    moved = 1;
  }
  t = *s;
  if (producer_step(m, &t)) {
    visit(m, &t);
    moved = 1;
  }
  t = *s;
  if (producer_dies(m, &t)) {
    visit(m, &t);
    moved = 1;
  }
  t = *s;
  if (consumer_step(m, &t)) {
    visit(m, &t);
    moved = 1;
  }
  if (!moved)
    check_end(m, s);
}

/** Explores all of it; returns what went wrong, or NULL. */
static const char *run(const struct script *script, enum flaw flaw, int may_die, size_t *states) {
  struct model m = {.script = script, .flaw = flaw, .may_die = may_die};
  struct state s;
  memset(&s, 0, sizeof s);
  s.mem[POS0] = s.mem[POS1] = NONE;
  visit(&m, &s);
  while (m.n_stack != 0 && m.wrong == NULL) {
    s = m.stack[--m.n_stack];
    explore(&m, &s);
  }
  *states = m.set_n;
  free(m.set);
  free(m.stack);
  return m.wrong;
}

/* The first producer's pushes, then its successor's. */
static const struct script scripts[] = {
    {{{{0, 1}}, {{1, 1}}}},                         /* dies, the next one speaks of another session */
    {{{{0, 1}}, {{0, 2}}}},                         /* … of the same session: its entry may be pending */
    {{{{0, 1}, {0, 2}}, {{0, 3}}}},                 /* de-duplication */
    {{{{0, 1}, {1, 1}, {0, 2}}, {{1, 2}, {0, 3}}}}, /* two sessions */
    {{{{0, 1}, {1, 1}}, {{9, 1}}}},                 /* the successor only rings, as every new epoch does */
    {{{{1, 1}, {0, 1}, {1, 2}}, {{9, 1}, {1, 3}}}},
};

static void no_wakeup_is_lost(void **state) {
  (void)state;
  size_t total = 0;
  for (size_t i = 0; i < ARRAY_LEN(scripts); i++)
    for (int die = 0; die < 2; die++) {
      size_t states;
      const char *wrong = run(&scripts[i], SOUND, die, &states);
      if (wrong != NULL)
        fail_msg("script %zu: %s", i, wrong);
      total += states;
    }
  print_message("%zu states\n", total);
  assert_true(total > 20000);
}

static void every_part_is_needed(void **state) {
  (void)state;
  static const enum flaw flaws[] = {
      NO_PRODUCER_FENCE,     NO_PENDING_FENCE,          NO_HEAD_FENCE, NO_ARM_FENCE, NO_SECOND_LOOK,
      PRODUCER_CLEARS_ARMED, PENDING_LOOKS_NOT_AT_ARMED};
  for (size_t f = 0; f < ARRAY_LEN(flaws); f++) {
    const char *wrong = NULL;
    for (size_t i = 0; i < ARRAY_LEN(scripts) && wrong == NULL; i++) {
      size_t states;
      wrong = run(&scripts[i], flaws[f], 1, &states);
    }
    if (wrong == NULL)
      fail_msg("flaw %d was not noticed", (int)flaws[f]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_wakeup_is_lost),
      cmocka_unit_test(every_part_is_needed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
