/*
 * Who holds a session after a fork, and what becomes of what the dead held (vcl_kin.h).
 *
 * Called by fork.c, session.c and worker.c under the worker's mutex, and by the shim's exit.
 *
 * A close: under the home's lock, if nobody else has the byte locked, CLOSE is stored; then the own lock goes. Killed
 * before that store, the process leaves a session that nobody holds; killed after it, one whose hint may be missing.
 * Both are found by whoever looks: the maker, as long as it lives, at its own sessions that it closed while others held
 * them; after its death each heir at all slots of the home, and later at those that others still held then. The bell's
 * end (the last process of the family is gone) ends the rest.
 *
 * Birth: the parent waits in its fork handler until the child holds (ldp/fork.c). `births` says that a child may be
 * about to: should the parent be killed meanwhile, nobody ends anything until the child has come so far.
 */
#include "vcl_kin.h"

#include "base/clock.h"
#include "base/fault.h"
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_rejoin.h"
#include "vcl_wait.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define KIN_LOOK_US  (50 * CLOCK_US_PER_MS)
#define KIN_BIRTH_US (10 * CLOCK_US_PER_S) /* a child that has not come so far by then never will */
#define KIN_PAGE     4096

/** At the file's beginning; the bytes from KIN_SPAN on are for locks and hold nothing. */
struct kin_page {
  uint64_t homes;  /* atomic: made so far in this family */
  uint32_t births; /* atomic: forks whose child does not hold its own yet */
};

static struct kin_page *kin_page;
static int kin_fd = -1;
static int kin_birth;          /* a fork of this process has begun */
static uint32_t kin_birth_was; /* births at the last look … */
static usec_t kin_birth_at;    /* … and since when */

int kin_make(void) {
  if (kin_page != NULL)
    return 0;
  int raw = memfd_create("hs-kin", MFD_CLOEXEC);
  if (raw < 0)
    return -errno;
  struct kin_page *p =
      ftruncate(raw, KIN_PAGE) == 0 ? mmap(NULL, KIN_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, raw, 0) : MAP_FAILED;
  int fd = p != MAP_FAILED ? dup(raw) : -1; /* the shim moves it out of the program's way */
  int rc = fd < 0 ? -errno : 0;
  if (rc < 0 && p != MAP_FAILED)
    (void)munmap(p, KIN_PAGE);
  close(raw); /* before the first lock: it would end them */
  if (rc < 0)
    return rc;
  (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
  kin_fd = fd;
  kin_page = p;
  return 0;
}

uint64_t kin_base(void) {
  return kin_page != NULL ? __atomic_add_fetch(&kin_page->homes, 1, __ATOMIC_RELAXED) * KIN_SPAN : 0;
}

static int kin_lock(int cmd, int type, const struct home *h, uint32_t at, uint32_t n, struct flock *l) {
  *l = (struct flock){
      .l_type = (short)type, .l_whence = SEEK_SET, .l_start = (off_t)(h->kin_base + at), .l_len = (off_t)n};
  return h->kin_base != 0 ? fcntl(kin_fd, cmd, l) : -1;
}

static void kin_hold(const struct home *h, uint32_t at, uint32_t n) {
  struct flock l;
  if (kin_lock(F_SETLK, F_RDLCK, h, at, n, &l) < 0)
    app_debug(1, "vcl.kin no lock on %u: %s", at, err_name(errno));
}

static void kin_drop(const struct home *h, uint32_t at) {
  struct flock l;
  (void)kin_lock(F_SETLK, F_UNLCK, h, at, 1, &l);
}

/** Whether another process has this byte locked. */
static int kin_held(const struct home *h, uint32_t at) {
  struct flock l;
  return kin_lock(F_GETLK, F_WRLCK, h, at, 1, &l) == 0 && l.l_type != F_UNLCK;
}

int kin_has_heirs(const struct home *h) {
  return h->forked && kin_held(h, KIN_HEIR);
}

void kin_forsake(const struct home *h) {
  kin_drop(h, KIN_HEIR);
}

/* --- fork --- */

/** Slots of the home that were ever used: app slots below *app, engine slots from n_slots_app on below *engine. */
static void kin_slots(const struct home *h, uint32_t *app, uint32_t *engine) {
  const struct worker_view *v = &h->view;
  uint32_t high = __atomic_load_n(&v->app->slots_high, __ATOMIC_ACQUIRE);
  *app = high < h->n_slots_app ? high : h->n_slots_app;
  if (h->pair != NULL) /* the accepting side's are those that the other side has begun */
    high = h->n_slots_app == 0 ? __atomic_load_n(&v->partner->slots_high, __ATOMIC_ACQUIRE) : 0;
  else
    high = __atomic_load_n(&v->engine->slots_high, __ATOMIC_ACQUIRE);
  *engine = high < h->n_slots ? high : h->n_slots;
}

static struct session *kin_owner(struct worker *w, const struct home *h, uint32_t slot) {
  struct session *s = h->owner[slot] != HOME_NO_OWNER ? pool_ref(&w->sessions, h->owner[slot] - 1) : NULL;
  return s != NULL && s->kind == SESSION_STREAM && (s->life == SESSION_OPEN || s->life == SESSION_CONNECT) ? s : NULL;
}

/** Holds this process's connections among the slots [from, to), by runs. How many. */
static uint32_t kin_hold_range(struct worker *w, struct home *h, uint32_t from, uint32_t to) {
  uint32_t n = 0, run = 0;
  for (uint32_t slot = from; slot < to; slot++) {
    struct session *s = kin_owner(w, h, slot);
    if (s != NULL) {
      s->kin = 1;
      run++;
      n++;
    }
    if (run != 0 && (s == NULL || slot + 1 == to)) {
      kin_hold(h, slot + (s != NULL) - run, run);
      run = 0;
    }
  }
  return n;
}

static uint32_t kin_hold_all(struct worker *w, struct home *h) {
  uint32_t app, engine;
  kin_slots(h, &app, &engine);
  return kin_hold_range(w, h, 0, app) + kin_hold_range(w, h, h->n_slots_app, engine);
}

void kin_fork_prepare(struct worker *w) {
  struct list *pos;
  if (kin_page == NULL)
    return;
  kin_birth = 1;
  (void)__atomic_add_fetch(&kin_page->births, 1, __ATOMIC_ACQ_REL);
  if (w->home != NULL && kin_hold_all(w, w->home) != 0)
    kin_hold(w->home, KIN_MAKER, 1);
  if (w->cut == NULL)
    return;
  list_for_each(pos, &w->cut->pairs) {
    struct home *h = &list_entry(pos, struct cut_pair, link)->home;
    if (h->n_sessions != 0 && kin_hold_all(w, h) != 0)
      kin_hold(h, KIN_MAKER, 1);
  }
}

void vcl_fork_unborn(void) {
  if (kin_page != NULL && __atomic_load_n(&kin_page->births, __ATOMIC_RELAXED) != 0)
    (void)__atomic_sub_fetch(&kin_page->births, 1, __ATOMIC_ACQ_REL);
}

/** The child, or the copy, holds what it will hold. */
static void kin_born(void) {
  FAULT_POINT("vcl.kin_born");
  if (kin_birth)
    vcl_fork_unborn();
  kin_birth = 0;
}

static void kin_hold_inherited(struct worker *w) {
  struct list *pos, *tmp;
  list_for_each_safe(pos, tmp, &w->inherited) {
    struct home *h = list_entry(pos, struct home, link);
    if (h->detached)
      continue;
    if (kin_hold_all(w, h) != 0)
      kin_hold(h, KIN_HEIR, 1);
    else if (h->n_sessions != 0) /* nothing of the maker's is used: its death must show */
      home_let_go(h);
    else
      home_drop(h);
  }
  if (w->cut == NULL)
    return;
  list_for_each(pos, &w->cut->inherited) {
    struct home *h = &list_entry(pos, struct cut_pair, link)->home;
    if (!h->detached && kin_hold_all(w, h) != 0)
      kin_hold(h, KIN_HEIR, 1);
  }
}

void kin_fork_child(struct worker *w) {
  kin_hold_inherited(w);
  w->heir = !list_empty(&w->inherited) || cut_is_heir(w);
  kin_born();
}

void kin_again(struct worker *w) {
  int birth = kin_birth;
  kin_fork_prepare(w);
  vcl_fork_unborn();
  kin_birth = birth;
  kin_hold_inherited(w);
  kin_born();
}

/* --- close --- */

int kin_alone(const struct session *s) {
  return !s->kin || !kin_held(s->home, s->slot);
}

int kin_leave(struct session *s, uint32_t want) {
  struct home *h = s->home;
  home_lock(h);
  int last = h->kin_base != 0 ? !kin_held(h, s->slot) : !h->inherited;
  if (last && want != 0)
    (void)__atomic_or_fetch(&s->a->want, want, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.kin_want");
  kin_drop(h, s->slot);
  FAULT_POINT("vcl.kin_left");
  home_unlock(h);
  s->kin = 0;
  return last;
}

/** ABI_WANT_* of a close by options as whoever set them last published them. */
static uint32_t kin_want(struct session *s, int abortive) {
  uint32_t want = s->cut != NULL ? cut_sess_close_bits(s) : ABI_WANT_CLOSE;
  int linger = s->a->opt_gen != 0 && (s->a->opt.flags & ABI_OPT_LINGER) != 0 && s->a->opt.linger_s == 0;
  return abortive || linger ? want | ABI_WANT_ABORT : want;
}

/** A slot of a dead maker's that others still held at the last look. */
static void kin_note(struct home *h, uint32_t slot) {
  uint32_t *more = realloc(h->left, (h->n_left + 1) * sizeof *more);
  if (more == NULL)
    return; /* the bell's end will do it */
  more[h->n_left++] = slot;
  h->left = more;
}

void kin_close(struct session *s, int abortive) {
  struct home *h = s->home;
  if (!s->kin || h->detached)
    return;
  if (!kin_leave(s, kin_want(s, abortive))) {
    if (h->mourned)
      kin_note(h, s->slot);
    return;
  }
  session_hint(s);
  home_flush(h); /* which may go with its last session */
  if (s->bound) {
    struct broker_slot slot = {.worker_id = h->worker_id, .slot = s->slot, .gen = s->gen};
    s->bound = 0;
    (void)worker_later_unbind(s->w, &slot);
  }
}

void kin_wait(struct session *s) {
  s->left = 1;
  list_add_tail(&s->w->left, &s->kin_link);
}

/* --- deaths --- */

/** The maker's own that it closed while others held them. */
static void kin_look_left(struct worker *w) {
  struct list *pos, *tmp;
  list_for_each_safe(pos, tmp, &w->left) {
    struct session *s = list_entry(pos, struct session, kin_link);
    if (!s->home->detached && kin_held(s->home, s->slot))
      continue;
    list_del(&s->kin_link);
    s->left = 0;
    session_end(s);
  }
}

/** Whether the slot is a session that somebody would still have to close. */
static int kin_lives(const struct home *h, uint32_t slot) {
  const struct abi_sess_app *a = worker_view_app(&h->view, slot);
  uint32_t gen = __atomic_load_n(&a->gen, __ATOMIC_ACQUIRE);
  if (gen == 0)
    return 0;
  if (h->pair == NULL && slot >= h->n_slots_app &&
      __atomic_load_n(&worker_view_engine(&h->view, slot)->gen, __ATOMIC_ACQUIRE) != gen)
    return 0;
  uint32_t op = __atomic_load_n(&a->op, __ATOMIC_ACQUIRE);
  return __atomic_load_n(&a->accepted, __ATOMIC_ACQUIRE) == gen ||
         (h->pair == NULL && slot < h->n_slots_app && op != ABI_OP_NONE);
}

/** Ends what nobody holds. */
static void kin_end_slot(struct worker *w, struct home *h, uint32_t slot) {
  struct abi_sess_app *a = worker_view_app(&h->view, slot);
  struct session_local *local = (struct session_local *)(void *)a->local;
  struct broker_slot at = {.worker_id = h->worker_id, .slot = slot, .gen = a->gen};
  uint32_t want = ABI_WANT_CLOSE;
  if (a->gen != 0 && local->bound != 0 && slot < h->n_slots_app && h->pair == NULL && worker_later_unbind(w, &at) == 0)
    local->bound = 0;
  if (!kin_lives(h, slot))
    return;
  if ((a->opt_gen != 0 && (a->opt.flags & ABI_OPT_LINGER) != 0 && a->opt.linger_s == 0) ||
      (h->pair != NULL &&
       a->rx_head != __atomic_load_n(&worker_view_partner(&h->view, slot)->tx.tail, __ATOMIC_ACQUIRE)))
    want |= ABI_WANT_ABORT;
  __atomic_store_n(&a->listen_armed, 0u, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.kin_disarm");
  if ((__atomic_load_n(&a->want, __ATOMIC_RELAXED) & ABI_WANT_CLOSE) == 0)
    (void)__atomic_or_fetch(&a->want, want, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.kin_end");
  home_hint(h, h->pair != NULL ? 0 : session_lane(h, slot, a->gen), slot, a);
}

static void kin_mourn_range(struct worker *w, struct home *h, uint32_t from, uint32_t to) {
  for (uint32_t slot = from; slot < to; slot++) {
    if (kin_owner(w, h, slot) != NULL)
      continue;
    if (kin_lives(h, slot) && kin_held(h, slot))
      kin_note(h, slot);
    else
      kin_end_slot(w, h, slot);
  }
}

/** The maker is dead: what it alone had ends; what others have is looked at again. */
static void kin_mourn(struct worker *w, struct home *h) {
  uint32_t app, engine;
  if (!h->mourned) {
    h->mourned = 1;
    kin_slots(h, &app, &engine);
    app_debug(2, "vcl.kin worker %llu: its maker is gone", (unsigned long long)h->worker_id);
    kin_mourn_range(w, h, 0, app);
    kin_mourn_range(w, h, h->n_slots_app, engine);
    if (h->pair != NULL && !h->pair->client) /* who connects by this pair asks the broker again */
      __atomic_store_n(&h->view.app->epoch_seen, h->view.app->epoch_seen + 1, __ATOMIC_RELEASE);
  }
  if (h->pair != NULL)
    cut_sess_refuse_rest(h->pair);
  for (uint32_t i = 0; i < h->n_left;) {
    uint32_t slot = h->left[i];
    if (kin_owner(w, h, slot) == NULL && kin_lives(h, slot) && kin_held(h, slot)) {
      i++;
      continue;
    }
    h->left[i] = h->left[--h->n_left];
    if (kin_owner(w, h, slot) == NULL)
      kin_end_slot(w, h, slot);
  }
}

/** An inherited home. 1: the walk over them must not go on. */
static int kin_look_home(struct worker *w, struct home *h) {
  struct pollfd p = {.fd = h->bell};
  if (h->detached || h->bell < 0)
    return 0;
  if (h->pair == NULL && w->home == NULL && w->rejoin == NULL && poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0) {
    rejoin_begin(w); /* every service is gone */
    return 1;
  }
  if (h->kin_base != 0 && (h->mourned || !kin_held(h, KIN_MAKER)))
    kin_mourn(w, h);
  return 0;
}

/** Whether a child of somebody dead may be about to hold what nobody seems to hold. */
static int kin_births(usec_t now) {
  uint32_t births = kin_page != NULL ? __atomic_load_n(&kin_page->births, __ATOMIC_ACQUIRE) : 0;
  if (births != kin_birth_was || births == 0) {
    kin_birth_was = births;
    kin_birth_at = now;
  } else if (now - kin_birth_at > KIN_BIRTH_US) { /* parent and child died in between */
    (void)__atomic_compare_exchange_n(&kin_page->births, &births, 0, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
  }
  return births != 0;
}

void kin_look_slow(struct worker *w) {
  struct list *pos, *tmp;
  usec_t now = clock_now_us();
  if (now < w->kin_next)
    return;
  w->kin_next = now + KIN_LOOK_US;
  if (kin_births(now))
    return;
  kin_look_left(w);
  list_for_each_safe(pos, tmp, &w->inherited) if (kin_look_home(w, list_entry(pos, struct home, link))) return;
  if (w->cut != NULL)
    list_for_each(pos, &w->cut->inherited)(void) kin_look_home(w, &list_entry(pos, struct cut_pair, link)->home);
  w->settle_due = !list_empty(&w->unbinds);
}

/* --- the shim's face --- */

int vcl_session_alone(uint32_t h) {
  struct session *s = session_enter(h);
  if (s == NULL)
    return 1;
  int alone = kin_alone(s);
  worker_leave(s->w);
  return alone;
}

int vcl_kin_waiting(void) {
  const struct worker *w = app_state.lock_mode ? app_state.workers[0] : NULL;
  return w != NULL && (!list_empty(&w->left) || !list_empty(&w->inherited) || cut_is_heir(w));
}

void vcl_kin_forget(void) {
  struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
  if (kin_fd >= 0)
    (void)fcntl(kin_fd, F_SETLK, &all);
}

void vcl_kin_exit(void) {
  struct worker *w = worker_enter();
  if (w == NULL)
    return;
  int heirs = w->home != NULL && kin_has_heirs(w->home);
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind != SESSION_STREAM || s->life == SESSION_ZOMBIE || s->life == SESSION_OFFER)
      continue;
    int all = s->home == w->home ? heirs : s->home->pair != NULL && kin_has_heirs(s->home);
    if (all || s->home->inherited || (s->life == SESSION_LISTEN && app_state.fork_serial != 0))
      session_close(s, 0);
  }
  life_settle_broker(w);
  worker_leave(w);
}
