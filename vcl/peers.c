/*
 * Peers: listen and accept of datagrams (vcl_peers.h).
 *
 * Called by listen.c, attr.c (SET_CONNECTED), dgram.c (what is kept is read first), session.c and fork.c, under the
 * worker's mutex; accept releases it while it waits. The engine knows nothing of accepting: it is asked for a session
 * that is connected to the peer and sends from the listener's port (abi/session.h: OPEN with both ends), which it gives
 * to the worker that holds the port. Until it answers, what the peer sends comes to the listener, whose fifo is emptied
 * once more then; from there on it finds the new session by itself (RFC 768 knows ports only; the most specific match
 * wins, as for a connected socket).
 */
#include "vcl_peers.h"

#include "abi/dgram.h"
#include "base/bits.h"
#include "vcl_app.h"
#include "vcl_branch.h"
#include "vcl_dgram.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>

#define PEERS_KEEP (1u << 20) /* bytes that wait for an accept; more stays in the fifo, and is dropped there */

struct peers_item {
  struct list link;
  struct abi_dgram d;
  uint8_t bytes[];
};

static struct peers_item *peers_first(const struct session *s) {
  return list_entry(list_first(&s->stash), struct peers_item, link);
}

const struct abi_dgram *peers_head(const struct session *s) {
  return &peers_first(s)->d;
}

int peers_copy(const struct session *s, const struct iovec *iov, int n) {
  const struct peers_item *it = peers_first(s);
  uint32_t done = 0;
  for (int i = 0; i < n && done < it->d.len; i++) {
    uint32_t part = (uint32_t)HS_MIN(iov[i].iov_len, (size_t)(it->d.len - done));
    if (part != 0)
      memcpy(iov[i].iov_base, it->bytes + done, part);
    done += part;
  }
  return (int)done;
}

static void peers_put(struct session *s, struct peers_item *it) {
  list_add_tail(&s->stash, &it->link);
  s->stash_bytes += (uint32_t)sizeof *it + it->d.len;
}

static struct peers_item *peers_get(struct session *s) {
  struct peers_item *it = peers_first(s);
  list_del(&it->link);
  s->stash_bytes -= (uint32_t)sizeof *it + it->d.len;
  return it;
}

void peers_consume(struct session *s) {
  free(peers_get(s));
}

void peers_drop(struct session *s) {
  while (peers_pending(s))
    peers_consume(s);
}

/** The port that it was sent to if that is not the listener's own (app-proxy-transport-udp), else 0. */
static uint16_t peers_stray(const struct abi_dgram *d) {
  return (d->flags & ABI_DGRAM_STRAY) != 0 ? d->seg : 0;
}

static int peers_same(const struct abi_dgram *a, const struct abi_dgram *b) {
  return a->port.raw == b->port.raw && peers_stray(a) == peers_stray(b) && memcmp(a->ip, b->ip, sizeof a->ip) == 0 &&
         memcmp(a->local, b->local, sizeof a->local) == 0;
}

/** Whose datagram it is: a session's that is being opened for its sender, else the listener's. */
static struct session *peers_goal(struct session *l, const struct abi_dgram *d) {
  struct list *pos;
  list_for_each(pos, &l->opening) {
    struct session *s = list_entry(pos, struct session, opening);
    if (peers_same(peers_head(s), d))
      return s;
  }
  return l;
}

/** The next datagram of the listener's fifo. 1, 0 = none, or no memory; -EPROTO. Under session_lock. */
static int peers_drain_one(struct session *l) {
  struct abi_dgram d;
  int rc = dgram_head(l, &d);
  if (rc <= 0)
    return rc;
  struct peers_item *it = malloc(sizeof *it + d.len);
  if (it == NULL)
    return 0;
  it->d = d;
  if (d.len != 0 && fifo_cons_peek(&l->rx, (uint32_t)sizeof d, it->bytes, d.len) != (int64_t)d.len) {
    free(it);
    return -EPROTO;
  }
  fifo_cons_consume(&l->rx, (uint32_t)sizeof d + d.len);
  peers_put(peers_goal(l, &d), it);
  return 1;
}

/** All that has come. 0 or -EPROTO. */
static int peers_drain(struct session *l) {
  int rc = 1;
  session_lock(l);
  while (rc > 0 && l->stash_bytes < PEERS_KEEP)
    rc = peers_drain_one(l);
  session_unlock(l);
  return rc < 0 ? rc : 0;
}

/** Whether it also gets datagrams to ports that nobody has; the engine looks at that for a proxy's sessions alone. */
static void peers_strays(struct session *s, int wanted) {
  uint32_t was = s->opt.flags;
  s->opt.flags = wanted ? was | ABI_OPT_STRAYS : was & ~ABI_OPT_STRAYS;
  if (s->opt.flags != was)
    session_publish_options(s);
}

void peers_end(struct session *s) {
  s->accepts = 0;
  peers_strays(s, 0);
}

int peers_begin(struct session *s) {
  if (s->life != SESSION_NEW && (s->life != SESSION_OPEN || !s->bound || s->connected))
    return -EINVAL;
  s->accepts = 1;
  peers_strays(s, app_state.cfg.proxy_udp != 0);
  if (s->armed_offer) { /* other apps were told that they may bring branches */
    s->armed_offer = 0;
    __atomic_store_n(&s->a->listen_armed, 0u, __ATOMIC_RELEASE);
    cut_revoke(s->w);
  }
  branch_drop_all(s);
  return 0;
}

/** A new session for the sender of what is kept first, with all that is kept of it. */
static struct session *peers_new(struct session *l, uint32_t flags, int *err) {
  struct session *s = session_new_stream(l->w, l->proto, (flags & O_NONBLOCK) != 0, err);
  if (s == NULL)
    return NULL;
  const struct abi_dgram first = *peers_head(l);
  s->local = (struct abi_endpoint){.port = l->local.port, .family = first.family};
  if (peers_stray(&first) != 0)
    s->local.port = be16_from(peers_stray(&first));
  memcpy(s->local.ip, first.local, sizeof s->local.ip);
  s->pktinfo = l->pktinfo;
  s->opt = l->opt;
  s->opt.flags &= ~ABI_OPT_STRAYS;
  if (l->a->opt_gen != 0)
    session_publish_options(s);
  struct list *pos, *tmp;
  list_for_each_safe(pos, tmp, &l->stash) {
    struct peers_item *it = list_entry(pos, struct peers_item, link);
    if (!peers_same(&it->d, &first))
      continue;
    list_del(&it->link);
    l->stash_bytes -= (uint32_t)sizeof *it + it->d.len;
    peers_put(s, it);
  }
  return s;
}

/** Lets go of one that came to nothing, or came too late. */
static void peers_undo(struct session *s) {
  if (s->life != SESSION_ZOMBIE)
    session_close(s, 0);
}

/** Opens a session for the peer that is kept first. 0, -EAGAIN there is none, -ENOENT it may not have one and is
 * dropped (a rule, a namespace, no way there), -EBADF the listener was closed meanwhile, -errno. */
static int peers_open(struct session *l, uint32_t flags, struct session **out) {
  int err = EAGAIN;
  if (l->broken != 0)
    return -l->broken;
  if (peers_drain(l) < 0)
    return l->broken = ECONNRESET, -ECONNRESET;
  struct session *s = peers_pending(l) ? peers_new(l, flags, &err) : NULL;
  if (s == NULL)
    return -err;
  const struct abi_dgram *d = peers_head(s);
  struct vcl_dgram to = {.port = d->port.raw, .family = d->family};
  memcpy(to.ip, d->ip, sizeof to.ip);
  list_add_tail(&l->opening, &s->opening);
  l->pins++;
  int rc = dgram_open(s, ABI_REQ_CONNECT, &to);
  int gone = l->life == SESSION_ZOMBIE;
  int lied = !gone && peers_drain(l) < 0; /* what came before the engine knew it */
  list_del(&s->opening);
  session_unpin(l);
  if (rc == 0 && !gone && !lied) {
    s->listener = l->index;
    s->listener_serial = l->serial;
    *out = s;
    return 0;
  }
  peers_undo(s);
  if (gone)
    return -EBADF;
  if (lied)
    l->broken = ECONNRESET;
  return rc == -ENETDOWN || rc == -ETIMEDOUT ? rc : -ENOENT;
}

int peers_accept(struct session *l, uint32_t flags, struct session **out) {
  if (!peers_listens(l))
    return -EINVAL;
  if (l->home->inherited)
    return -EOPNOTSUPP; /* the port is lent within the parent's worker alone */
  for (;;) {
    int rc;
    do {
      rc = peers_open(l, flags, out);
    } while (rc == -ENOENT || (rc == -EAGAIN && worker_pump(l->w) > 0));
    if (rc != -EAGAIN || l->nonblock)
      return rc;
    home_flush(l->home);
    rc = ready_wait(l, EPOLLIN | EPOLLRDHUP, -1);
    if (rc < 0)
      return rc;
  }
}
