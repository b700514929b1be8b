/*
 * poll and select over sessions.
 *
 * Called by the program's threads under the worker's mutex. Facts first; then a waiter that every hint of the worker
 * concerns, so nothing is attached per session and a call costs O(n) per look.
 */
#include "base/clock.h"
#include "vcl_app.h"
#include "vcl_session.h"

#include <poll.h>
#include <stdlib.h>

#define POLL_READ  (EPOLLIN | EPOLLRDNORM | EPOLLRDBAND | EPOLLHUP | EPOLLERR)
#define POLL_WRITE (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLERR)

_Static_assert(POLLIN == EPOLLIN && POLLPRI == EPOLLPRI && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR &&
                   POLLHUP == EPOLLHUP && POLLRDNORM == EPOLLRDNORM && POLLWRNORM == EPOLLWRNORM &&
                   POLLRDHUP == EPOLLRDHUP,
               "poll and epoll bits are the same numbers");

/** A look at everything that the caller waits for: how much of it is ready, or -errno. */
typedef int poll_look_fn(struct worker *w, void *ctx);

/** Looks, sleeps, looks again until the time is over. The worker stays entered. */
static int poll_loop(struct worker *w, poll_look_fn *look, void *ctx, double wait_for_time) {
  int forever = !(wait_for_time >= 0) || wait_for_time > 1e9;
  usec_t deadline = forever ? 0 : clock_now_us() + (usec_t)(wait_for_time * 1e6);
  if (w->watched)
    worker_take_bell(w);
  (void)worker_pump(w);
  int n = look(w, ctx);
  if (n != 0 || wait_for_time == 0)
    return n;
  struct waiter *wt = waiter_get(w);
  if (wt == NULL)
    return -ENOMEM;
  wt->any = 1;
  int rc = 0;
  while (n == 0 && rc == 0) {
    rc = waiter_wait(wt, deadline);
    n = look(w, ctx);
  }
  waiter_put(wt);
  return n == 0 && rc != -ETIMEDOUT ? rc : n;
}

struct poll_list {
  vcl_poll_t *vp;
  uint32_t n;
};

static int poll_look(struct worker *w, void *ctx) {
  const struct poll_list *l = ctx;
  int ready = 0;
  for (uint32_t i = 0; i < l->n; i++) {
    vcl_poll_t *p = &l->vp[i];
    struct session *s = session_find(w, p->sh);
    if (s == NULL || listen_arm(s) == -EBADF) {
      p->revents = POLLNVAL;
    } else {
      uint32_t ev = ready_events(s) & ((uint32_t)(uint16_t)p->events | EPOLLERR | EPOLLHUP);
      p->revents = (short)ev;
    }
    ready += p->revents != 0;
  }
  return ready;
}

int vppcom_poll(vcl_poll_t *vp, uint32_t n_sids, double wait_for_time) {
  struct worker *w = worker_enter();
  if (w == NULL)
    return VPPCOM_EINVAL;
  struct poll_list l = {.vp = vp, .n = n_sids};
  int rc = vp == NULL && n_sids != 0 ? VPPCOM_EFAULT : poll_loop(w, poll_look, &l, wait_for_time);
  worker_leave(w);
  return rc;
}

#define POLL_WORD_BITS (8 * sizeof(vcl_si_set))
#define POLL_WORDS     16 /* of a map that needs no memory: as FD_SETSIZE */

struct poll_maps {
  int n_bits;
  vcl_si_set *map[3];
  vcl_si_set *want[3]; /* copies of what was asked for */
  vcl_si_set few[3 * POLL_WORDS];
};

static int poll_bit(const vcl_si_set *map, int i) {
  return (int)(map[(size_t)i / POLL_WORD_BITS] >> ((size_t)i % POLL_WORD_BITS) & 1u);
}

/** One session of the maps. How many bits were set, or -EBADFD. */
static int poll_select_one(struct worker *w, struct poll_maps *m, int i) {
  static const uint32_t events[3] = {POLL_READ, POLL_WRITE, EPOLLPRI};
  int asked = poll_bit(m->want[0], i) | poll_bit(m->want[1], i) | poll_bit(m->want[2], i);
  int ready = 0;
  if (!asked)
    return 0;
  struct session *s = session_find(w, w->index << WORKER_INDEX_BITS | (uint32_t)i);
  if (s == NULL || listen_arm(s) == -EBADF)
    return VPPCOM_EBADFD;
  uint32_t ev = ready_events(s);
  for (int k = 0; k < 3; k++) {
    if (!poll_bit(m->want[k], i) || (ev & events[k]) == 0)
      continue;
    m->map[k][(size_t)i / POLL_WORD_BITS] |= (vcl_si_set)1 << ((size_t)i % POLL_WORD_BITS);
    ready++;
  }
  return ready;
}

static size_t poll_words(int n_bits) {
  return ((size_t)n_bits + POLL_WORD_BITS - 1) / POLL_WORD_BITS;
}

static int poll_select_look(struct worker *w, void *ctx) {
  struct poll_maps *m = ctx;
  int ready = 0;
  for (int k = 0; k < 3; k++)
    if (m->map[k] != NULL)
      memset(m->map[k], 0, poll_words(m->n_bits) * sizeof(vcl_si_set));
  for (int i = 0; i < m->n_bits; i++) {
    int rc = poll_select_one(w, m, i);
    if (rc < 0)
      return rc;
    ready += rc;
  }
  return ready;
}

/** Keeps what is asked for, as the maps are also the answer. Memory to be freed, or NULL; -ENOMEM in *rc. */
static vcl_si_set *poll_keep(struct poll_maps *m, int *rc) {
  size_t words = poll_words(m->n_bits);
  vcl_si_set *many = words > POLL_WORDS ? calloc(3 * words, sizeof *many) : NULL;
  *rc = words > POLL_WORDS && many == NULL ? VPPCOM_ENOMEM : 0;
  for (size_t k = 0; k < 3 && *rc == 0; k++) {
    m->want[k] = (many != NULL ? many : m->few) + k * words;
    if (m->map[k] != NULL)
      memcpy(m->want[k], m->map[k], words * sizeof(vcl_si_set));
  }
  return many;
}

int vppcom_select(int n_bits, vcl_si_set *read_map, vcl_si_set *write_map, vcl_si_set *except_map,
                  double wait_for_time) {
  struct poll_maps m = {.n_bits = n_bits, .map = {read_map, write_map, except_map}};
  if (n_bits < 0 || (uint32_t)n_bits > WORKER_INDEX_MASK + 1)
    return VPPCOM_EINVAL;
  struct worker *w = worker_enter();
  if (w == NULL)
    return VPPCOM_EINVAL;
  int rc;
  vcl_si_set *many = poll_keep(&m, &rc);
  if (rc == 0)
    rc = poll_loop(w, poll_select_look, &m, wait_for_time);
  worker_leave(w);
  free(many);
  return rc;
}
