/*
 * Parts of A segments in the fake: AddPart, PartMapped, DropPart (fake_engine.h).
 *
 * Called by the fake's thread with its lock held. What was asked while `part_hold` is set is never answered: a client
 * that wants it says it again on its next connection.
 */
#include "fake_engine.h"

#include "attach.pb-c.h"
#include "shm/part.h"

#include <errno.h>
#include <unistd.h>

static struct fake_worker *part_worker(struct fake *f, uint64_t id) {
  for (int i = 0; i < FAKE_PROCS; i++)
    if (f->worker[i].used && f->worker[i].id == id)
      return &f->worker[i];
  return NULL;
}

static struct fake_part *part_at(struct fake_worker *w, uint64_t place) {
  for (int i = 0; w != NULL && i < 64; i++)
    if (w->part[i].fd != 0 && w->part[i].place == place)
      return &w->part[i];
  return NULL;
}

static void part_end(struct fake *f, struct fake_worker *w, struct fake_part *p) {
  if (p->mapped)
    (void)part_clear(&w->v.seg_a, p->place, p->size);
  f->n_parts -= p->mapped;
  close(p->fd);
  *p = (struct fake_part){.fd = 0};
}

void fake_part_free(struct fake *f, struct fake_worker *w) {
  for (int i = 0; i < 64; i++)
    if (w->part[i].fd != 0)
      part_end(f, w, &w->part[i]);
}

static int part_add(struct fake *f, const Hoststack__Attach__AddPart *m, Hoststack__Attach__AddPartReply *ap, int *fd) {
  struct fake_worker *w = part_worker(f, m->worker_id);
  uint64_t off, len;
  f->n_part_asked++;
  f->n_part_whole += m->whole != 0;
  if (f->part_refuse != 0)
    return f->part_refuse;
  if (w == NULL || part_place(w->v.ga.arena_size, w->v.ga.arena_keep, w->v.ga.arena_step, m->n, &off, &len) < 0)
    return EINVAL;
  struct fake_part *p = &w->part[m->n];
  if (p->fd != 0 && p->mapped)
    return EEXIST;
  if (p->fd != 0)
    part_end(f, w, p);
  *p = (struct fake_part){.place = w->v.ga.arena_off + off, .size = m->whole ? w->v.ga.arena_size - off : len};
  p->fd = *fd = part_create(p->size);
  ap->place = p->place;
  ap->size = p->size;
  return *fd < 0 ? EMFILE : 0;
}

static int part_mapped(struct fake *f, const Hoststack__Attach__PartMapped *m) {
  struct fake_worker *w = part_worker(f, m->worker_id);
  struct fake_part *p = part_at(w, m->place);
  if (p == NULL)
    return ENOENT;
  if (f->part_forget > 0) {
    f->part_forget--;
    part_end(f, w, p);
    return ENOENT;
  }
  if (!p->mapped && (seg_seal_writers(p->fd) < 0 || part_map(&w->v.seg_a, p->fd, p->place, p->size) < 0))
    return EPERM;
  f->n_parts += !p->mapped;
  p->mapped = 1;
  return 0;
}

int fake_part_request(struct fake *f, struct fake_proc *p, const void *request, void *reply, int *fd) {
  static Hoststack__Attach__AddPartReply ap;
  const Hoststack__Attach__Request *rq = request;
  Hoststack__Attach__Reply *r = reply;
  (void)p;
  if (rq->body_case != HOSTSTACK__ATTACH__REQUEST__BODY_ADD_PART &&
      rq->body_case != HOSTSTACK__ATTACH__REQUEST__BODY_PART_MAPPED &&
      rq->body_case != HOSTSTACK__ATTACH__REQUEST__BODY_DROP_PART)
    return 0;
  if (f->part_hold) {
    f->n_part_held++;
    return 2;
  }
  if (rq->body_case == HOSTSTACK__ATTACH__REQUEST__BODY_ADD_PART) {
    hoststack__attach__add_part_reply__init(&ap);
    r->rc = part_add(f, rq->add_part, &ap, fd);
    if (r->rc == 0) {
      r->body_case = HOSTSTACK__ATTACH__REPLY__BODY_ADD_PART;
      r->add_part = &ap;
    }
  } else if (rq->body_case == HOSTSTACK__ATTACH__REQUEST__BODY_PART_MAPPED) {
    r->rc = part_mapped(f, rq->part_mapped);
  } else {
    struct fake_worker *w = part_worker(f, rq->drop_part->worker_id);
    struct fake_part *at = part_at(w, rq->drop_part->place);
    if (at != NULL)
      part_end(f, w, at);
    f->n_part_dropped++;
  }
  return 1;
}
