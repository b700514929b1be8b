/*
 * The acting half of fault points: which one is armed, the count of its hits, and what happens at the Nth. Armed by
 * HS_FAULT before main (a constructor), or by tests. Only one point (or "*") at a time; any thread may hit.
 */
#include "base/fault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint32_t fault_armed;

static struct {
  char name[FAULT_NAME_MAX];
  uint32_t nth;
  uint32_t hits; /* atomic */
  enum fault_action action;
  fault_hook_fn hook;
  void *hook_ctx;
} fault;

int fault_arm(const char *name, uint32_t nth, enum fault_action action) {
  size_t len = strlen(name);
  if (len == 0 || len >= sizeof fault.name || nth == 0)
    return -EINVAL;
  __atomic_store_n(&fault_armed, 0, __ATOMIC_SEQ_CST);
  memcpy(fault.name, name, len + 1);
  fault.nth = nth;
  fault.action = action;
  __atomic_store_n(&fault.hits, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&fault_armed, 1, __ATOMIC_RELEASE);
  return 0;
}

static int fault_action_parse(const char *text, enum fault_action *out) {
  static const char *const names[] = {[FAULT_KILL] = "kill", [FAULT_ABORT] = "abort", [FAULT_HANG] = "hang"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp(text, names[i]) == 0) {
      *out = (enum fault_action)i;
      return 0;
    }
  return -EINVAL;
}

int fault_arm_text(const char *text) {
  char name[FAULT_NAME_MAX];
  const char *colon = strchr(text, ':');
  enum fault_action action = FAULT_KILL;
  if (colon == NULL || (size_t)(colon - text) >= sizeof name)
    return -EINVAL;
  memcpy(name, text, (size_t)(colon - text));
  name[colon - text] = 0;
  char *end;
  errno = 0;
  unsigned long nth = strtoul(colon + 1, &end, 10);
  if (errno != 0 || end == colon + 1 || nth == 0 || nth > UINT32_MAX)
    return -EINVAL;
  if (*end == ':' ? fault_action_parse(end + 1, &action) < 0 : *end != 0)
    return -EINVAL;
  return fault_arm(name, (uint32_t)nth, action);
}

void fault_disarm(void) {
  __atomic_store_n(&fault_armed, 0, __ATOMIC_SEQ_CST);
  fault.hook = NULL;
  fault.hook_ctx = NULL;
}

void fault_set_hook(fault_hook_fn hook, void *ctx) {
  fault.hook = hook;
  fault.hook_ctx = ctx;
}

uint32_t fault_hits(void) {
  return __atomic_load_n(&fault.hits, __ATOMIC_RELAXED);
}

void fault_hit(const char *name) {
  if (__atomic_load_n(&fault_armed, __ATOMIC_ACQUIRE) == 0)
    return;
  if (strcmp(fault.name, "*") != 0 && strcmp(fault.name, name) != 0)
    return;
  uint32_t hit = __atomic_add_fetch(&fault.hits, 1, __ATOMIC_RELAXED);
  if (fault.action == FAULT_HOOK) {
    if (hit >= fault.nth && fault.hook != NULL)
      fault.hook(name, fault.hook_ctx);
    return;
  }
  if (hit != fault.nth)
    return;
  if (fault.action == FAULT_ABORT)
    abort();
  if (fault.action == FAULT_KILL)
    kill(getpid(), SIGKILL);
  for (;;)
    pause();
}

#ifdef HS_FAULT_POINTS

/* Bounds of the section that FAULT_POINT fills, one per program or library; absent if there is no point at all. */
extern const char *const __start_hs_fault[] __attribute__((weak, visibility("hidden")));
extern const char *const __stop_hs_fault[] __attribute__((weak, visibility("hidden")));

static int fault_name_cmp(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A point in a static inline function appears once per object file: sorted, equal names lie together. */
size_t fault_list(const char **names, size_t room) {
  size_t n = __start_hs_fault != NULL ? (size_t)(__stop_hs_fault - __start_hs_fault) : 0;
  if (n == 0)
    return 0;
  const char **all = malloc(n * sizeof *all);
  if (all == NULL)
    return 0;
  for (size_t i = 0; i < n; i++)
    all[i] = __start_hs_fault[i];
  qsort(all, n, sizeof *all, fault_name_cmp);
  size_t unique = 0;
  for (size_t i = 0; i < n; i++) {
    if (i > 0 && strcmp(all[i], all[i - 1]) == 0)
      continue;
    if (unique < room)
      names[unique] = all[i];
    unique++;
  }
  free(all);
  return unique;
}

/* A misspelt HS_FAULT must not let a restart test pass without a kill. */
__attribute__((constructor)) static void fault_arm_from_env(void) {
  const char *text = getenv("HS_FAULT");
  if (text == NULL || *text == 0)
    return;
  if (fault_arm_text(text) < 0) {
    fprintf(stderr, "HS_FAULT=%s is not name:N[:kill|abort|hang]\n", text);
    abort();
  }
}

#else

size_t fault_list(const char **names, size_t room) {
  (void)names;
  (void)room;
  return 0;
}

#endif
