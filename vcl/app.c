/*
 * The application: made once per process, its workers registered thread by thread, undone at the end.
 *
 * Called by the program's threads. The thread that creates the application is worker 0. A worker whose thread ends is
 * cleaned up by a thread-specific value's destructor; a process that just exits leaves orphans, which the engine ends
 * as Linux would (ARCHITECTURE section 3).
 */
#include "vcl_app.h"

#include "vcl_family.h"
#include "vcl_kin.h"
#include "vcl_session.h"

#include <stdarg.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WORKER_MARK_BITS 8 /* an index + 1 */

struct app app_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Which worker this thread acts as, and of which application: of one that is destroyed it is none of the next one's. */
static __thread int app_thread = -1;
static __thread uint32_t app_thread_life;

int app_thread_index(void) {
  return app_thread_life == __atomic_load_n(&app_state.life, __ATOMIC_RELAXED) ? app_thread : -1;
}

static void app_thread_act(int index) {
  app_thread = index;
  app_thread_life = __atomic_load_n(&app_state.life, __ATOMIC_RELAXED);
}

/** What a thread's end is told: life and index + 1 of its own worker. */
static void *app_thread_mark(int index) {
  return index < 0 ? NULL : (void *)((uintptr_t)app_thread_life << WORKER_MARK_BITS | (uintptr_t)(index + 1));
}

/** The worker that this thread registered, whomever it acts as; -1 for none. */
static int app_thread_own(void) {
  uintptr_t mark = app_state.have_key ? (uintptr_t)pthread_getspecific(app_state.thread_end) : 0;
  uint32_t life = (uint32_t)(mark >> WORKER_MARK_BITS);
  return mark != 0 && life == app_state.life ? (int)(mark & ((1u << WORKER_MARK_BITS) - 1)) - 1 : -1;
}

void app_debug(int level, const char *fmt, ...) {
  char line[256];
  va_list ap;
  if (app_state.cfg.debug < level)
    return;
  va_start(ap, fmt);
  int n = vsnprintf(line, sizeof line - 1, fmt, ap);
  va_end(ap);
  if (n < 0)
    return;
  size_t len = (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
  line[len++] = '\n';
  if (write(STDERR_FILENO, line, len) < 0)
    return;
}

/** A registered thread ends: its worker goes with it. `value` is what app_thread_mark made. */
static void app_thread_ended(void *value) {
  if (app_state.created && !app_state.lock_mode && pthread_setspecific(app_state.thread_end, value) == 0)
    vppcom_worker_unregister();
  app_thread_bind(-1);
}

void app_thread_bind(int index) {
  app_thread_act(index);
  if (app_state.have_key)
    (void)pthread_setspecific(app_state.thread_end, app_thread_mark(index));
}

static int app_create(const vppcom_cfg_t *pub, const char *name) {
  struct worker *w = NULL;
  pthread_mutex_lock(&app_state.lock);
  int rc = app_state.created ? -EEXIST : 0;
  if (rc < 0)
    goto out;
  config_defaults(&app_state.cfg);
  if (pub != NULL) {
    config_from_public(&app_state.cfg, pub);
  } else {
    const char *path = getenv(VPPCOM_ENV_CONF);
    int loaded = config_load(&app_state.cfg, path != NULL ? path : VPPCOM_CONF_DEFAULT);
    if (loaded < 0 && (path != NULL || loaded != -ENOENT))
      app_debug(1, "vcl.config %s: cannot be read (%s)", path != NULL ? path : VPPCOM_CONF_DEFAULT, err_name(loaded));
  }
  config_env(&app_state.cfg);
  rc = app_state.cfg.refused;
  if (rc < 0)
    goto out;
  snprintf(app_state.name, sizeof app_state.name, "%s", name != NULL ? name : "");
  if (!app_state.have_key)
    app_state.have_key = pthread_key_create(&app_state.thread_end, app_thread_ended) == 0;
  fork_watch();
  (void)kin_make();
  (void)family_make(); /* without it each process comes back on its own */
  rc = worker_new(&w, 0, app_state.have_join ? app_state.join : NULL);
  if (rc < 0 && app_state.have_join) { /* that application is gone: one of its own */
    app_state.have_join = 0;
    rc = worker_new(&w, 0, NULL);
  }
  if (rc < 0) {
    app_debug(1, "vcl.attach %s: %s", app_state.cfg.socket_path, err_text(rc));
    goto out;
  }
  app_state.workers[0] = w;
  app_state.created = 1;
  app_thread_bind(0);
  app_debug(1, "vcl.attach %s: worker %llu", app_state.cfg.socket_path, (unsigned long long)w->home->worker_id);
out:
  pthread_mutex_unlock(&app_state.lock);
  return rc == -ENOENT ? VPPCOM_ECONNREFUSED : rc;
}

int vppcom_app_create(const char *app_name) {
  return app_create(NULL, app_name);
}

int vppcom_app_create_with_config(const vppcom_cfg_t *cfg) {
  return cfg == NULL ? VPPCOM_EINVAL : app_create(cfg, NULL);
}

void vppcom_app_destroy(void) {
  pthread_mutex_lock(&app_state.lock);
  app_state.created = 0;
  __atomic_store_n(&app_state.life, app_state.life + 1, __ATOMIC_RELAXED);
  for (uint32_t i = WORKER_MAX; i-- > 0;) {
    struct worker *w = app_state.workers[i];
    app_state.workers[i] = NULL;
    if (w != NULL)
      worker_free(w);
  }
  app_thread_bind(-1);
  pthread_mutex_unlock(&app_state.lock);
}

int vppcom_worker_register(void) {
  struct worker *first, *w = NULL;
  uint32_t index = 0;
  if (app_thread_index() >= 0 || app_state.lock_mode)
    return app_state.lock_mode && app_state.created ? VPPCOM_OK : VPPCOM_EEXIST;
  pthread_mutex_lock(&app_state.lock);
  int rc = app_state.created ? 0 : VPPCOM_EINVAL;
  while (rc == 0 && index < app_state.cfg.max_workers && app_state.workers[index] != NULL)
    index++;
  if (rc == 0 && index >= app_state.cfg.max_workers)
    rc = -ENOSPC;
  first = NULL;
  for (uint32_t i = 0; i < WORKER_MAX && first == NULL; i++)
    first = app_state.workers[i];
  if (rc == 0)
    rc = worker_new(&w, index, first != NULL ? first->broker.token : NULL);
  if (rc == 0) {
    app_state.workers[index] = w;
    app_thread_bind((int)index);
  }
  pthread_mutex_unlock(&app_state.lock);
  return rc;
}

void vppcom_worker_unregister(void) {
  int index;
  if (app_state.lock_mode)
    return;
  pthread_mutex_lock(&app_state.lock);
  index = app_thread_own();
  if (index < 0) { /* none of its own: it acted as another's, which stays */
    app_thread_act(-1);
    pthread_mutex_unlock(&app_state.lock);
    return;
  }
  struct worker *w = app_state.workers[index];
  app_state.workers[index] = NULL;
  app_thread_bind(-1);
  if (w != NULL)
    worker_free(w);
  pthread_mutex_unlock(&app_state.lock);
}

int vppcom_worker_index(void) {
  int index = app_state.lock_mode ? 0 : app_thread_index();
  return index >= 0 && app_state.workers[index] != NULL ? index : -1;
}

void vppcom_worker_index_set(int index) {
  if (index >= 0 && index < (int)WORKER_MAX && app_state.workers[index] != NULL)
    app_thread_act(index); /* the thread's own worker, if any, stays tied to its end */
}
