/*
 * Custody client: keeps the vault and the conversation with the broker alive.
 *
 * Called by engine, nicio and api on the loop's thread. The broker may be gone at any time: the vault and the facts
 * said to it stay here, and the next one is shown the vault (Hello), gets back what it asks for (Return) and, once it
 * says Ready, hears every fact again that still holds. Facts said before Ready wait for it, since a new broker has no
 * registry before. All messages are idempotent.
 */
#include "svc/custody.h"

#include "abi/seg.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "svc/custody_msg.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CUSTODY_RETRY_US 20000u

#define FACT_LIVE    1u
#define FACT_DRAINED 2u
#define FACT_LIED    4u

/** What was said about a worker and holds as long as its segments are in the vault. */
struct custody_fact {
  struct list link;
  uint64_t worker_id;
  unsigned said; /* FACT_* */
  char why[80];
};

/** A descriptor offered to the broker that has not come back as an item yet. */
struct custody_offer {
  struct list link;
  struct custody_item it;
};

struct custody_held {
  struct list link;
  struct custody_item it;
};

struct custody {
  struct loop *loop;
  char path[108];
  enum custody_service who;
  const struct custody_ops *ops;
  void *ctx;
  struct chan *ch; /* NULL while there is no broker */
  int retry;       /* timer */
  int ready;       /* the present broker said Ready */
  uint32_t broker_epoch;
  uint32_t policy_seen;
  int policy_said;
  struct list held, facts, offers;
};

static const struct chan_ops custody_chan_ops;
static void custody_connect(void *ctx);

static int custody_say(struct custody *c, const Hoststack__Custody__Message *m, int fd) {
  int rc = c->ch != NULL ? custody_msg_send(c->ch, m, fd) : -ENOTCONN;
  if (rc < 0 && rc != -EPIPE && rc != -ECONNRESET && rc != -ENOTCONN)
    log_warn_rl("custody.send", "%s", err_text(rc));
  return rc;
}

static struct custody_held *custody_held_by_id(struct custody *c, uint64_t id) {
  for (struct list *p = c->held.next; p != &c->held; p = p->next) {
    struct custody_held *h = container_of(p, struct custody_held, link);
    if (h->it.id == id)
      return h;
  }
  return NULL;
}

static struct custody_fact *custody_fact_of(struct custody *c, uint64_t worker_id, int make) {
  for (struct list *p = c->facts.next; p != &c->facts; p = p->next) {
    struct custody_fact *f = container_of(p, struct custody_fact, link);
    if (f->worker_id == worker_id)
      return f;
  }
  struct custody_fact *f = make ? calloc(1, sizeof *f) : NULL;
  if (f != NULL) {
    f->worker_id = worker_id;
    list_add_tail(&c->facts, &f->link);
  }
  return f;
}

/* --- to the broker --- */

/** Shows the vault, in as many messages as it takes. */
static int custody_hello(struct custody *c) {
  Hoststack__Custody__Item pb[CUSTODY_HAVE_MAX], *have[CUSTODY_HAVE_MAX];
  struct list *p = c->held.next;
  int rc;
  do {
    Hoststack__Custody__Hello hello = HOSTSTACK__CUSTODY__HELLO__INIT;
    size_t n = 0;
    for (; p != &c->held && n < CUSTODY_HAVE_MAX; p = p->next, n++) {
      custody_msg_from_item(&pb[n], &container_of(p, struct custody_held, link)->it);
      have[n] = &pb[n];
    }
    hello.service = (uint32_t)c->who;
    hello.pid = (uint32_t)getpid();
    hello.abi_major = ABI_MAJOR;
    hello.abi_minor = ABI_MINOR;
    hello.n_have = n;
    hello.have = have;
    hello.more = p != &c->held;
    Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
    m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_HELLO;
    m.hello = &hello;
    rc = custody_say(c, &m, -1);
  } while (rc == 0 && p != &c->held);
  return rc;
}

static int custody_say_vaulted(struct custody *c, uint64_t id) {
  Hoststack__Custody__Vaulted v = HOSTSTACK__CUSTODY__VAULTED__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  v.id = id;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_VAULTED;
  m.vaulted = &v;
  return custody_say(c, &m, -1);
}

static int custody_say_deposit(struct custody *c, const struct custody_offer *o) {
  Hoststack__Custody__Item it;
  Hoststack__Custody__Deposit d = HOSTSTACK__CUSTODY__DEPOSIT__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  custody_msg_from_item(&it, &o->it);
  d.item = &it;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_DEPOSIT;
  m.deposit = &d;
  return custody_say(c, &m, o->it.fd);
}

static int custody_say_policy(struct custody *c) {
  Hoststack__Custody__PolicySeen ps = HOSTSTACK__CUSTODY__POLICY_SEEN__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  ps.gen = c->policy_seen;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_POLICY_SEEN;
  m.policy_seen = &ps;
  return custody_say(c, &m, -1);
}

static int custody_say_fact(struct custody *c, struct custody_fact *f, unsigned what) {
  Hoststack__Custody__WorkerLive live = HOSTSTACK__CUSTODY__WORKER_LIVE__INIT;
  Hoststack__Custody__WorkerDrained drained = HOSTSTACK__CUSTODY__WORKER_DRAINED__INIT;
  Hoststack__Custody__WorkerLied lied = HOSTSTACK__CUSTODY__WORKER_LIED__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  live.worker_id = drained.worker_id = lied.worker_id = f->worker_id;
  lied.why = f->why;
  if (what == FACT_LIVE) {
    m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_LIVE;
    m.worker_live = &live;
  } else if (what == FACT_DRAINED) {
    m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_DRAINED;
    m.worker_drained = &drained;
  } else {
    m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_LIED;
    m.worker_lied = &lied;
  }
  return custody_say(c, &m, -1);
}

/** Everything that still holds, to a broker that has just become ready. */
static void custody_say_all(struct custody *c) {
  for (struct list *p = c->offers.next; p != &c->offers; p = p->next)
    custody_say_deposit(c, container_of(p, struct custody_offer, link));
  for (struct list *p = c->facts.next; p != &c->facts; p = p->next) {
    struct custody_fact *f = container_of(p, struct custody_fact, link);
    for (unsigned what = FACT_LIVE; what <= FACT_LIED; what <<= 1)
      if ((f->said & what) != 0)
        custody_say_fact(c, f, what);
  }
  if (c->policy_said)
    custody_say_policy(c);
}

/* --- from the broker --- */

static void custody_on_welcome(struct custody *c, const Hoststack__Custody__Welcome *w) {
  c->broker_epoch = w->broker_epoch;
  for (size_t i = 0; i < w->n_need; i++) {
    struct custody_held *h = custody_held_by_id(c, w->need[i]);
    if (h == NULL)
      continue;
    Hoststack__Custody__Item it;
    Hoststack__Custody__Return ret = HOSTSTACK__CUSTODY__RETURN__INIT;
    Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
    custody_msg_from_item(&it, &h->it);
    ret.item = &it;
    m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_RETURN;
    m.return_ = &ret;
    custody_say(c, &m, h->it.fd);
  }
}

/** A deposit has come back as an item: the broker has it for good. */
static void custody_offer_done(struct custody *c, const struct custody_item *it) {
  for (struct list *p = c->offers.next; p != &c->offers; p = p->next) {
    struct custody_offer *o = container_of(p, struct custody_offer, link);
    if (o->it.kind == it->kind && o->it.owner == it->owner) {
      close(o->it.fd);
      list_del(&o->link);
      free(o);
      return;
    }
  }
}

static void custody_on_give(struct custody *c, const Hoststack__Custody__Give *g, int fd) {
  if (g->item == NULL || fd < 0) {
    log_warn_rl("custody.give", "a Give without item or descriptor");
    if (fd >= 0)
      close(fd);
    return;
  }
  if (custody_held_by_id(c, g->item->id) != NULL) {
    close(fd); /* said twice; ours is the same file */
  } else {
    struct custody_held *h = calloc(1, sizeof *h);
    if (h == NULL) {
      close(fd);
      return; /* no Vaulted: the broker asks again when we or it come back */
    }
    custody_msg_to_item(&h->it, g->item, fd);
    list_add_tail(&c->held, &h->link);
    custody_offer_done(c, &h->it);
    if (c->ops->item != NULL && c->ops->item(c->ctx, &h->it) < 0) {
      close(fd); /* no Vaulted, now or by a later Hello: nobody may count on it */
      list_del(&h->link);
      free(h);
      return;
    }
  }
  custody_say_vaulted(c, g->item->id);
}

static void custody_forget(struct custody *c, struct custody_held *h) {
  if (c->ops->drop != NULL)
    c->ops->drop(c->ctx, &h->it);
  if (h->it.kind == ABI_ITEM_SEG && h->it.seg_kind == ABI_SEG_APP) {
    struct custody_fact *f = custody_fact_of(c, h->it.owner, 0);
    if (f != NULL) {
      list_del(&f->link);
      free(f);
    }
  }
  close(h->it.fd);
  list_del(&h->link);
  free(h);
}

static void custody_on_drop(struct custody *c, const Hoststack__Custody__Drop *d) {
  for (size_t i = 0; i < d->n_id; i++) {
    struct custody_held *h = custody_held_by_id(c, d->id[i]);
    if (h != NULL)
      custody_forget(c, h);
  }
}

static void custody_on_ready(struct custody *c) {
  if (c->ops->ready != NULL)
    c->ops->ready(c->ctx, c->broker_epoch);
  c->ready = 1; /* what the callback said goes out below, once */
  custody_say_all(c);
}

static void custody_on_msg(void *ctx, const uint8_t *buf, size_t len, int *fds, int n_fds) {
  struct custody *c = ctx;
  Hoststack__Custody__Message *m = hoststack__custody__message__unpack(NULL, len, buf);
  if (m == NULL) {
    log_warn_rl("custody.decode", "unreadable message of %zu bytes from the broker", len);
    if (n_fds > 0)
      close(fds[0]);
    return;
  }
  if (n_fds > 0 && m->body_case != HOSTSTACK__CUSTODY__MESSAGE__BODY_GIVE)
    close(fds[0]);
  switch (m->body_case) {
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WELCOME:
    custody_on_welcome(c, m->welcome);
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_GIVE:
    custody_on_give(c, m->give, n_fds > 0 ? fds[0] : -1);
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_DROP:
    custody_on_drop(c, m->drop);
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_READY:
    custody_on_ready(c);
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_POLICY_GEN:
    if (c->ops->policy != NULL)
      c->ops->policy(c->ctx, m->policy_gen->gen);
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_DEAD:
    if (c->ops->worker_dead != NULL)
      c->ops->worker_dead(c->ctx, m->worker_dead->worker_id);
    break;
  default:
    log_warn_rl("custody.unknown", "message %d is not for a service", (int)m->body_case);
  }
  hoststack__custody__message__free_unpacked(m, NULL);
}

static void custody_on_closed(void *ctx, int why) {
  struct custody *c = ctx;
  log_info("custody.gone", "broker is gone (%s); going on with what is in the vault",
           why == 0 ? "closed" : err_text(why));
  chan_free(c->ch);
  c->ch = NULL;
  c->ready = 0;
  c->retry = loop_add_timer(c->loop, CUSTODY_RETRY_US, CUSTODY_RETRY_US, custody_connect, c);
}

static const struct chan_ops custody_chan_ops = {.msg = custody_on_msg, .closed = custody_on_closed};

static void custody_connect(void *ctx) {
  struct custody *c = ctx;
  if (c->ch != NULL)
    return;
  int fd = attach_connect_nb(c->path);
  if (fd < 0) {
    if (fd != -ENOENT && fd != -ECONNREFUSED && fd != -EAGAIN)
      log_warn_rl("custody.connect", "%s: %s", c->path, err_text(fd));
    return;
  }
  int rc = chan_new(&c->ch, c->loop, fd, 1, CUSTODY_QUEUE, &custody_chan_ops, c);
  if (rc < 0) {
    close(fd);
    log_warn_rl("custody.connect", "%s: %s", c->path, err_text(rc));
    return;
  }
  loop_del_timer(c->loop, c->retry);
  c->retry = 0;
  custody_hello(c);
}

/* --- to the service --- */

int custody_new(struct custody **out, struct loop *l, const char *path, enum custody_service who,
                const struct custody_ops *ops, void *ctx) {
  if (strlen(path) >= sizeof((struct custody *)0)->path)
    return -ENAMETOOLONG;
  struct custody *c = calloc(1, sizeof *c);
  if (c == NULL)
    return -ENOMEM;
  c->loop = l;
  memcpy(c->path, path, strlen(path) + 1);
  c->who = who;
  c->ops = ops;
  c->ctx = ctx;
  list_init(&c->held);
  list_init(&c->facts);
  list_init(&c->offers);
  c->retry = loop_add_timer(l, 0, CUSTODY_RETRY_US, custody_connect, c);
  if (c->retry < 0) {
    int rc = c->retry;
    free(c);
    return rc;
  }
  *out = c;
  return 0;
}

void custody_free(struct custody *c) {
  struct list *p;
  if (c == NULL)
    return;
  loop_del_timer(c->loop, c->retry);
  chan_free(c->ch);
  while ((p = list_first(&c->held)) != NULL) {
    struct custody_held *h = container_of(p, struct custody_held, link);
    close(h->it.fd);
    list_del(p);
    free(h);
  }
  while ((p = list_first(&c->facts)) != NULL) {
    list_del(p);
    free(container_of(p, struct custody_fact, link));
  }
  while ((p = list_first(&c->offers)) != NULL) {
    struct custody_offer *o = container_of(p, struct custody_offer, link);
    close(o->it.fd);
    list_del(p);
    free(o);
  }
  free(c);
}

void custody_each(struct custody *c, void (*cb)(void *ctx, const struct custody_item *it), void *ctx) {
  for (struct list *p = c->held.next; p != &c->held; p = p->next)
    cb(ctx, &container_of(p, struct custody_held, link)->it);
}

const struct custody_item *custody_find(struct custody *c, uint32_t kind, uint32_t seg_kind, uint64_t owner) {
  for (struct list *p = c->held.next; p != &c->held; p = p->next) {
    const struct custody_item *it = &container_of(p, struct custody_held, link)->it;
    if (it->kind == kind && it->seg_kind == seg_kind && it->owner == owner)
      return it;
  }
  return NULL;
}

int custody_deposit(struct custody *c, uint32_t kind, uint64_t owner, int fd) {
  struct custody_offer *o = calloc(1, sizeof *o);
  if (o == NULL)
    return -ENOMEM;
  o->it = (struct custody_item){.kind = kind, .owner = owner, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)};
  if (o->it.fd < 0) {
    int rc = err_last();
    free(o);
    return rc;
  }
  list_add_tail(&c->offers, &o->link);
  if (c->ready)
    custody_say_deposit(c, o);
  return 0;
}

int custody_policy_seen(struct custody *c, uint32_t gen) {
  c->policy_seen = gen;
  c->policy_said = 1;
  if (c->ready)
    custody_say_policy(c);
  return 0;
}

static int custody_fact_say(struct custody *c, uint64_t worker_id, unsigned what, const char *why) {
  struct custody_fact *f = custody_fact_of(c, worker_id, 1);
  if (f == NULL)
    return -ENOMEM;
  f->said |= what;
  if (what == FACT_DRAINED)
    f->said &= ~FACT_LIVE;
  if (why != NULL) {
    size_t n = strnlen(why, sizeof f->why - 1);
    memcpy(f->why, why, n);
    f->why[n] = '\0';
  }
  if (c->ready)
    custody_say_fact(c, f, what);
  return 0;
}

int custody_worker_live(struct custody *c, uint64_t worker_id) {
  return custody_fact_say(c, worker_id, FACT_LIVE, NULL);
}

int custody_worker_drained(struct custody *c, uint64_t worker_id) {
  return custody_fact_say(c, worker_id, FACT_DRAINED, NULL);
}

int custody_worker_lied(struct custody *c, uint64_t worker_id, const char *why) {
  return custody_fact_say(c, worker_id, FACT_LIED, why);
}
