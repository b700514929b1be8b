/*
 * Parts of the own A segment: asked for when half of the memory is used, given back when they have fallen empty
 * (shm/part.h; ATTACH.md has the conversation).
 *
 * Nobody waits for the broker: a request is sent, and its answer is taken by a later pump; the attach socket is in the
 * front meanwhile, so that whoever sleeps is woken by it. A session whose write found no memory at all starves: it is
 * not writable until a part has come, or acknowledged bytes of any session have made room, which a timer in the front
 * looks for every PARTS_TICK_US. A sixteenth of the memory is left to sessions that hold none, so that those which
 * stand still do not stop the others.
 *
 * What goes back is the highest place, if the most that was used in the last seconds is well below what is left: first
 * no chunk is made there any more, then it falls empty, then it is unmapped, then the broker is told. A home that is
 * shared with a forked child has all its places at once and keeps them, because a child can't map what comes later
 * (its seals forbid a second writer): from the fork on nobody asks for a part of it or gives one back, neither its
 * maker nor, once that is dead, its heirs (kin.c). All here is about worker.home, which is never one that was
 * inherited.
 */
#include "vcl_parts.h"

#include "abi/dgram.h"
#include "base/bits.h"
#include "base/clock.h"
#include "shm/part.h"
#include "vcl_app.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PARTS_TICK_US    (5 * CLOCK_US_PER_MS)
#define PARTS_RETRY_US   (20 * CLOCK_US_PER_MS)  /* the broker is away */
#define PARTS_REFUSED_US (100 * CLOCK_US_PER_MS) /* a limit */
#define PARTS_FORK_US    (1000 * CLOCK_US_PER_MS)
#define PARTS_LOOK       (1ull << 31)  /* cycles: about a second between two looks at what can go back */
#define PARTS_SPARE      16u           /* this fraction of the memory is for sessions that hold none, … */
#define PARTS_SPARE_MIN  (64u * 1024u) /* … but at least so many bytes */
#define PARTS_RECLAIM    512u          /* sessions looked at per tick */

enum parts_step {
  PARTS_IDLE,
  PARTS_ASK,   /* the request is to be sent */
  PARTS_HELLO, /* … after a Hello on a new connection, whose answer is on its way */
  PARTS_WAIT,  /* it was sent */
};

/* --- the home's side --- */

static int parts_place(const struct home *h, uint32_t n, uint64_t *off, uint64_t *len) {
  const struct abi_worker_geom *g = &h->view.ga;
  return part_place(g->arena_size, g->arena_keep, g->arena_step, n, off, len);
}

/** The lowest place that is not there, or -1. */
static int parts_next(const struct home *h) {
  uint64_t off, len;
  for (uint32_t n = 0; n < PART_MAX; n++)
    if ((h->parts.have >> n & 1) == 0)
      return parts_place(h, n, &off, &len) == 0 ? (int)n : -1;
  return -1;
}

/** What follows from the bytes that are there. */
static void parts_measure(struct home *h) {
  struct home_parts *p = &h->parts;
  uint64_t spare = HS_MIN(HS_MAX(p->backed / PARTS_SPARE, PARTS_SPARE_MIN), p->backed / 2);
  (void)arena_limit_set(h->arena, p->backed - spare, 0, p->backed - spare);
  p->low = !h->forked && parts_next(h) >= 0 ? p->backed / 2 : 0;
}

void parts_found(struct home *h) {
  const struct abi_worker_geom *g = &h->view.ga;
  uint64_t here = h->view.seg_a.file - g->arena_off;
  if (h->pair != NULL || here != g->arena_keep) /* a pair's, or all of it is there */
    return;
  if (here < g->arena_size)
    arena_bound(h->arena, here);
  h->parts.backed = here;
  parts_measure(h);
}

/** A place is to stay after all. */
static void parts_undrain(struct home *h) {
  uint64_t off, len;
  if (h->parts.draining == 0 || parts_place(h, h->parts.draining - 1, &off, &len) < 0)
    return;
  h->parts.draining = 0;
  arena_undrain(h->arena);
  h->parts.backed += len;
  parts_measure(h);
}

/* --- sessions that wait for memory --- */

void parts_fed(struct session *s) {
  if (!list_linked(&s->starved))
    return;
  list_del(&s->starved);
  s->w->parts.n_starved--;
}

/** Whether a write would find memory, or something else to say. What it finds is the session's already. */
static int parts_can_write(struct session *s) {
  struct fifo_piece pc[ABI_FIFO_CHUNKS];
  uint32_t got = 0;
  int64_t room = s->life == SESSION_OPEN && s->broken == 0 && s->fifos_open ? ready_tx_room(s) : 0;
  if (room <= 0)
    return 1;
  uint32_t want = session_is_dgram(s) ? (uint32_t)HS_MIN(room, (int64_t)(ABI_DGRAM_FIFO / 3)) : 1;
  return fifo_prod_pieces(&s->tx, 0, want, pc, (int)ABI_FIFO_CHUNKS, &got) < 0 || got == want;
}

/** Those who find memory now (or with `all`, everybody) may try again. Returns whether there was anybody. */
static int parts_feed(struct worker *w, int all) {
  int any = 0;
  for (uint32_t n = w->parts.n_starved; n != 0; n--) {
    struct session *s = list_entry(list_first(&w->parts.starved), struct session, starved);
    list_del(&s->starved);
    if (!all && !parts_can_write(s)) {
      list_add_tail(&w->parts.starved, &s->starved);
      continue;
    }
    w->parts.n_starved--;
    held_note(s);
    session_touch(s);
    any = 1;
  }
  return any;
}

/** Memory of bytes that were acknowledged since anybody looked. */
static void parts_reclaim(struct worker *w) {
  uint32_t n = PARTS_RECLAIM;
  struct list *pos;
  list_for_each(pos, &w->held) {
    struct session *s = list_entry(pos, struct session, held);
    if (n-- == 0)
      return;
    if (s->fifos_open && !s->home->forked && fifo_prod_room(&s->tx) > 0 && fifo_prod_used(&s->tx) == 0)
      fifo_prod_trim(&s->tx);
  }
}

/** The timer in the front runs as long as somebody starves. */
static void parts_timer(struct worker *w, usec_t now) {
  struct parts *p = &w->parts;
  struct itimerspec its = {.it_value = {.tv_nsec = (long)(PARTS_TICK_US * 1000)}};
  if (p->n_starved == 0) {
    if (p->tick == 0)
      return;
    its.it_value.tv_nsec = 0;
  } else if (p->tick != 0 && now < p->tick) {
    return;
  }
  if (p->timer < 0) {
    p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (p->timer < 0)
      return; /* a sleep's own ceiling has to do */
    worker_front_watch(w, p->timer);
  }
  p->tick = p->n_starved != 0 ? now + PARTS_TICK_US : 0;
  (void)timerfd_settime(p->timer, 0, &its, NULL); /* this also makes it unreadable */
}

void parts_starve(struct session *s) {
  struct home *h = s->home;
  if (h != s->w->home || h->parts.backed == 0 || h->forked || h->detached || list_linked(&s->starved))
    return;
  list_add_tail(&s->w->parts.starved, &s->starved);
  s->w->parts.n_starved++;
  parts_want(s->w);
  parts_timer(s->w, clock_now_us());
}

/* --- the conversation --- */

static void parts_watch(struct worker *w) {
  struct parts *p = &w->parts;
  if (w->front < 0 || w->broker.fd < 0)
    return;
  if (!p->watching || p->call != w->broker.calls)
    worker_front_watch(w, w->broker.fd);
  p->watching = 1;
  p->call = w->broker.calls;
}

static void parts_unwatch(struct worker *w) {
  struct parts *p = &w->parts;
  if (p->watching && p->call == w->broker.calls) /* else it was closed, and left the front by that */
    worker_front_forget(w, w->broker.fd);
  p->watching = 0;
}

static void parts_rest(struct worker *w, usec_t again) {
  parts_unwatch(w);
  w->parts.step = PARTS_IDLE;
  w->parts.again = again;
}

/** The home that the request is about; NULL: it is gone. */
static struct home *parts_home(const struct worker *w) {
  struct home *h = w->home;
  return h != NULL && !h->detached && h->worker_id == w->parts.worker_id ? h : NULL;
}

/** The next request in the same matter. */
static void parts_then(struct worker *w, enum broker_part_ask ask) {
  w->parts.ask = (uint8_t)ask;
  w->parts.step = PARTS_ASK;
  w->parts.again = 0;
}

/** A part came: mapped in its place, and said so. */
static void parts_came(struct worker *w, struct home *h, const struct broker_part *r, usec_t now) {
  struct parts *p = &w->parts;
  int rc = r->rc;
  if (rc == 0 && (r->place != p->place || r->size != p->len))
    rc = -EPROTO;
  if (rc == 0)
    rc = part_map(&h->view.seg_a, r->fd, p->place, p->len);
  if (r->fd >= 0)
    close(r->fd);
  if (rc == 0)
    parts_then(w, BROKER_PART_MAPPED);
  else if (rc == -EEXIST) /* of a request that we have given up */
    parts_then(w, BROKER_PART_DROP);
  else if (rc == -ENOMEM || rc == -ENOSPC)
    parts_rest(w, now + PARTS_REFUSED_US);
  else
    parts_rest(w, now + CLOCK_US_PER_S);
}

/** Engine and nicio have it: it may be used. */
static void parts_ready(struct worker *w, struct home *h) {
  struct parts *p = &w->parts;
  uint64_t n_all = p->whole ? ~0ull << p->n : 1ull << p->n;
  parts_rest(w, 0);
  if (arena_add(h->arena, p->place - h->view.ga.arena_off, p->len) < 0)
    return;
  h->parts.have |= n_all;
  h->parts.backed += p->len;
  parts_measure(h);
}

static void parts_answer(struct worker *w, struct home *h, const struct broker_part *r, usec_t now) {
  struct parts *p = &w->parts;
  if (r->rc == -ETIMEDOUT) { /* said again */
    p->step = PARTS_ASK;
    p->again = now + PARTS_RETRY_US;
    return;
  }
  if (p->ask == BROKER_PART_ADD) {
    parts_came(w, h, r, now);
  } else if (p->ask == BROKER_PART_DROP) {
    parts_rest(w, 0);
  } else if (r->rc == 0) {
    parts_ready(w, h);
  } else {
    (void)part_clear(&h->view.seg_a, p->place, p->len);
    if (r->rc == -ENOENT) /* it went with a broker that died */
      parts_then(w, BROKER_PART_ADD);
    else
      parts_rest(w, now + CLOCK_US_PER_S);
  }
}

/** Sends what is to be sent, a Hello first if need be. 0, or -EAGAIN: not now. */
static int parts_send(struct worker *w, usec_t now) {
  struct parts *p = &w->parts;
  struct broker *b = &w->broker;
  if (now < p->again)
    return -EAGAIN;
  int rc;
  if (b->fd < 0) {
    rc = broker_step_begin(b, BROKER_STEP_HELLO, 0);
    b->greeting = rc == 0;
    p->step = PARTS_HELLO;
  } else {
    rc = broker_part_begin(b, (enum broker_part_ask)p->ask, p->worker_id, p->n, p->whole, p->place);
    p->step = PARTS_WAIT;
  }
  if (rc == 0) {
    parts_watch(w);
    return 0;
  }
  if (b->fd >= 0)
    broker_step_quit(b);
  p->step = PARTS_ASK;
  p->again = now + PARTS_RETRY_US;
  return -EAGAIN;
}

/** The Hello's answer. 0, or -EAGAIN: not now. */
static int parts_welcome(struct worker *w, usec_t now) {
  struct broker *b = &w->broker;
  int rc = b->greeting ? broker_step_end(b, BROKER_STEP_HELLO, NULL) : 0; /* else somebody has made a connection */
  if (rc == -EAGAIN)
    return rc;
  b->greeting = 0;
  w->parts.step = PARTS_ASK;
  if (rc == 0)
    return 0;
  broker_step_quit(b);
  w->parts.again = now + PARTS_RETRY_US;
  return -EAGAIN;
}

/** As far as it goes now. Caller holds broker.lock. */
static void parts_turn(struct worker *w) {
  struct parts *p = &w->parts;
  usec_t now = clock_now_us();
  int rc = 0;
  while (p->step != PARTS_IDLE && rc != -EAGAIN) {
    struct home *h = parts_home(w);
    struct broker_part r;
    if (h == NULL) {
      broker_part_forget(&w->broker);
      parts_rest(w, 0);
      return;
    }
    if (p->step == PARTS_ASK) {
      rc = parts_send(w, now);
    } else if (p->step == PARTS_HELLO) {
      rc = parts_welcome(w, now);
    } else {
      rc = broker_part_end(&w->broker, &r);
      if (rc == -EAGAIN)
        return;
      if (rc == -EPIPE) {
        p->step = PARTS_ASK;
        p->again = 0;
        rc = 0;
      } else {
        parts_answer(w, h, &r, now);
      }
    }
  }
}

static void parts_step_on(struct worker *w) {
  if (pthread_mutex_trylock(&w->broker.lock) != 0)
    return; /* whoever has it puts our answer by; a pump follows */
  parts_turn(w);
  pthread_mutex_unlock(&w->broker.lock);
}

/** Begins to ask for a place (or for it and all above it), or to give it back. */
static void parts_begin(struct worker *w, uint32_t n, enum broker_part_ask ask, int whole) {
  struct parts *p = &w->parts;
  struct home *h = w->home;
  uint64_t off;
  if (parts_place(h, n, &off, &p->len) < 0)
    return;
  if (whole)
    p->len = h->view.ga.arena_size - off;
  p->worker_id = h->worker_id;
  p->place = h->view.ga.arena_off + off;
  p->n = n;
  p->whole = whole != 0;
  parts_then(w, ask);
}

void parts_want(struct worker *w) {
  struct home *h = w->home;
  if (h == NULL || h->detached || h->forked || h->parts.low == 0)
    return;
  parts_undrain(h);
  if (w->parts.step != PARTS_IDLE || (w->parts.n_starved == 0 && arena_free_bytes(h->arena) >= h->parts.low))
    return;
  if (w->parts.again != 0 && clock_now_us() < w->parts.again)
    return;
  parts_begin(w, (uint32_t)parts_next(h), BROKER_PART_ADD, 0);
  parts_step_on(w);
}

/* --- giving back --- */

/** The highest place goes if `peak`, the most that was used lately, fits well into the rest. Returns whether it does.
 */
static int parts_shrink(struct home *h, uint64_t peak) {
  uint64_t off, len;
  uint32_t top = PART_MAX - 1;
  if (h->parts.have == 0)
    return 0;
  while ((h->parts.have >> top & 1) == 0)
    top--;
  if (parts_place(h, top, &off, &len) < 0)
    return 0;
  uint64_t rest = h->parts.backed - (h->parts.draining == 0 ? len : 0);
  if (peak * 8 > rest * 3) { /* a place is asked for at a half: it must not go and come all the time */
    parts_undrain(h);
    return 0;
  }
  if (h->parts.draining == 0 && arena_drain(h->arena, off, len) == 0) {
    h->parts.draining = top + 1;
    h->parts.backed -= len;
    parts_measure(h);
  }
  return h->parts.draining != 0;
}

/** A drained place that has fallen empty is unmapped and given back. */
static void parts_drop(struct worker *w, struct home *h) {
  uint64_t off, len;
  uint32_t n = h->parts.draining - 1;
  if (h->parts.draining == 0 || w->parts.step != PARTS_IDLE || parts_place(h, n, &off, &len) < 0 ||
      !arena_remove(h->arena))
    return;
  h->parts.draining = 0;
  h->parts.have &= ~(1ull << n);
  parts_measure(h);
  (void)part_clear(&h->view.seg_a, h->view.ga.arena_off + off, len);
  parts_begin(w, n, BROKER_PART_DROP, 0);
  parts_step_on(w);
}

/** Once a second it is seen how much is needed; what is not goes, place by place. */
static void parts_give_back(struct worker *w, struct home *h) {
  struct parts *p = &w->parts;
  uint64_t cycles = __builtin_ia32_rdtsc();
  if (h->parts.have == 0 || h->forked)
    return;
  if (cycles - p->looked > PARTS_LOOK) {
    p->looked = cycles;
    p->peak = arena_peak(h->arena);
    p->shrinks = 1;
  }
  if (p->shrinks && p->step == PARTS_IDLE) {
    p->shrinks = parts_shrink(h, HS_MAX(p->peak, arena_taken_bytes(h->arena))) != 0;
    if (h->parts.draining != 0)
      parts_drop(w, h);
  }
}

int parts_look_slow(struct worker *w) {
  struct parts *p = &w->parts;
  struct home *h = w->home;
  uint64_t backed = h != NULL ? h->parts.backed : 0;
  int fed = 0;
  if (p->step != PARTS_IDLE)
    parts_step_on(w);
  if (h == NULL || h->detached) {
    fed = parts_feed(w, 1);
    parts_timer(w, 0);
    return fed;
  }
  parts_give_back(w, h);
  if (p->n_starved != 0) {
    usec_t now = clock_now_us();
    if (now >= p->tick || h->parts.backed != backed) {
      parts_reclaim(w);
      fed = parts_feed(w, 0);
      if (p->n_starved != 0)
        parts_want(w);
    }
    parts_timer(w, now);
  }
  if (p->n_starved == 0)
    parts_timer(w, 0);
  return fed;
}

/* --- life --- */

void parts_init(struct worker *w) {
  w->parts = (struct parts){.timer = -1};
  list_init(&w->parts.starved);
}

void parts_fini(struct worker *w) {
  if (w->parts.timer >= 0)
    close(w->parts.timer);
  w->parts.timer = -1;
}

/** Until there are all places, the second answer that brings none, or PARTS_FORK_US. */
static void parts_whole(struct worker *w, struct home *h) {
  struct parts *p = &w->parts;
  usec_t end = clock_now_us() + PARTS_FORK_US;
  for (int asked = 0; clock_now_us() < end;) {
    parts_turn(w);
    if (p->step == PARTS_IDLE) {
      uint32_t n = PART_MAX;
      while (n > 0 && (h->parts.have >> (n - 1) & 1) == 0)
        n--;
      if (asked == 2 || n == PART_MAX) /* twice: the first may find a part whose request we have given up */
        return;
      asked++;
      parts_begin(w, n, BROKER_PART_ADD, 1);
      continue;
    }
    struct pollfd pfd = {.fd = p->step != PARTS_ASK ? w->broker.fd : -1, .events = POLLIN};
    (void)poll(&pfd, 1, (int)(PARTS_RETRY_US / CLOCK_US_PER_MS));
  }
}

void parts_fork(struct worker *w) {
  struct home *h = w->home;
  if (h != NULL && !h->forked && !h->detached && h->parts.backed != 0) {
    parts_undrain(h);
    parts_whole(w, h);
  }
  parts_rest(w, 0);
  broker_part_forget(&w->broker);
  if (h != NULL)
    h->parts.low = 0; /* nothing more comes, nothing goes */
  (void)parts_feed(w, 1);
  parts_timer(w, 0);
}

void parts_fork_child(struct worker *w) {
  parts_fini(w);
  parts_init(w); /* nobody starved: parts_fork */
}
