/*
 * Datagrams of sessions that are not connected: which of them go over a branch (vcl_roam.h).
 *
 * Called by branch.c on the worker's thread or under its mutex. A branch is made as for a session that connects, if the
 * address is the stack's, source and destination are one address (as the engine would choose), and the broker grants
 * it. What connect decides once is decided anew here while datagrams flow: the broker is asked about a branch once a
 * second, so that a rule counts. At most ROAM_MAX branches per session; the one that is longest without a datagram
 * goes, and only when it is idle and all is read: a session that goes round more destinations than that leaves the
 * others to the engine. Order: a branch gets its first datagram only ROAM_CALM_US after the last one that went there
 * through the engine; what the engine had brought until then is read first (branch_begin).
 */
#include "vcl_roam.h"

#include "abi/dgram.h"
#include "base/clock.h"
#include "vcl_app.h"
#include "vcl_branch.h"

#define ROAM_MAX     16u
#define ROAM_IDLE_US (1 * CLOCK_US_PER_S)
#define ROAM_CALM_US (20 * CLOCK_US_PER_MS)

static const uint8_t roam_any[16], roam_any4[16] = {[10] = 0xff, [11] = 0xff};

/** When s last sent to there through the engine; others may share the word, so it may be later. */
static usec_t *roam_mark(const struct session *s, const struct abi_dgram *d) {
  uint64_t a, b;
  memcpy(&a, d->ip, 8);
  memcpy(&b, d->ip + 8, 8);
  uint64_t h = (a * 31 + b + ((uint64_t)d->port.raw << 24) + s->serial * 131) * 0x9e3779b97f4a7c15ull;
  return &s->w->cut->by_engine[(h >> 40) % CUT_ROAM];
}

/** Nothing that went there through the engine can be on its way still. */
static int roam_calm(const struct session *s, const struct abi_dgram *d, usec_t now) {
  usec_t last = *roam_mark(s, d);
  return last == 0 || (now >= last + ROAM_CALM_US && s->tx.tail == __atomic_load_n(s->tx.peer_head, __ATOMIC_ACQUIRE));
}

/** Whether s may have branches at all, and d be sent as from where it goes to. */
static int roam_fits(const struct session *s, const struct abi_dgram *d) {
  struct abi_endpoint near = s->e->local;
  int four = memcmp(d->ip, roam_any4, 12) == 0;
  if (s->life != SESSION_OPEN || s->broken != 0 || s->accepts || s->shared || s->heard_apart || s->home != s->w->home ||
      s->home->detached || d->ifindex != 0 || near.port.raw == 0)
    return 0;
  if ((d->family == 4) != four || (four ? s->v6only : s->domain == 4))
    return 0;
  if (memcmp(near.ip, roam_any, 16) != 0 && memcmp(near.ip, roam_any4, 16) != 0 && memcmp(near.ip, d->ip, 16) != 0)
    return 0;
  return memcmp(d->local, roam_any, 16) == 0 || memcmp(d->local, d->ip, 16) == 0;
}

/** Room for one more branch, made if need be. 0: there is none. */
static int roam_room(struct session *s, const struct abi_dgram *d, usec_t now) {
  struct session *oldest = NULL;
  uint32_t n = 0, all = 0;
  struct list *pos;
  list_for_each(pos, &s->branches) {
    struct session *b = list_entry(pos, struct session, branches);
    if (b->cut->mirror.remote.port.raw == d->port.raw && memcmp(b->cut->mirror.remote.ip, d->ip, 16) == 0)
      return 0; /* one that was left, and may hold what is not read yet */
    if (!b->cut->client)
      continue;
    all++;
    if (branch_has_left(b))
      continue;
    n++;
    if (oldest == NULL || b->cut->used < oldest->cut->used)
      oldest = b;
  }
  if (n < ROAM_MAX)
    return all < 2 * ROAM_MAX;
  cut_sess_settle(oldest); /* it may have been accepted since */
  if (now - oldest->cut->used < ROAM_IDLE_US ||
      oldest->tx.tail != __atomic_load_n(oldest->tx.peer_head, __ATOMIC_ACQUIRE))
    return 0;
  branch_leave(oldest);
  return all < 2 * ROAM_MAX;
}

static struct session *roam_new(struct session *s, const struct abi_dgram *d, usec_t now) {
  struct abi_endpoint local = {.family = d->family}, remote = {.port = d->port, .family = d->family};
  usec_t until = 0;
  memcpy(local.ip, d->ip, sizeof local.ip);
  memcpy(remote.ip, d->ip, sizeof remote.ip);
  local.port = s->e->local.port;
  if (!roam_fits(s, d) || !roam_calm(s, d, now) || !roam_room(s, d, now))
    return NULL;
  struct cut_grant *g = cut_dest_roam(s, &remote, now, &until);
  struct session *b = g != NULL ? branch_place(s, g, &local, &remote) : NULL;
  if (b != NULL) {
    b->cut->until = until;
    b->cut->used = now;
  }
  return b;
}

/** A branch that is there: whether this datagram may go over it. */
static int roam_use(struct session *s, const struct abi_dgram *d, struct session *b, usec_t now) {
  if (b->cut->used == 0 && !roam_calm(s, d, now))
    return 0;
  if (b->cut->client && now >= b->cut->until && cut_dest_holds(b, now) == 0) {
    branch_leave(b);
    return 0;
  }
  b->cut->used = now;
  return 1;
}

struct session *roam_over(struct session *s, const struct abi_dgram *d, struct session *b) {
  usec_t now = clock_now_us();
  if (b == NULL && (cut_ready(s->w) < 0 || cut_dest_own(s->w, d->ip, now) == 0))
    return NULL;
  if (b != NULL ? roam_use(s, d, b, now) : (b = roam_new(s, d, now)) != NULL)
    return b;
  *roam_mark(s, d) = now;
  return NULL;
}

void roam_heard_slow(struct session *s, const struct abi_dgram *d) {
  if (!s->heard_apart && cut_dest_own(s->w, d->ip, clock_now_us()) == 1)
    s->heard_apart = 1;
}
