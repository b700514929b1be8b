/*
 * Masks of holders (share.h). fork handlers run with the table's lock not yet taken; all else under share_mutex.
 *
 * A cell is one atomic word: bit n = process n of the family holds the connection, SHARE_OWNER_LEFT = the owner has
 * closed its own number and waits for the others; 0 = free. Whoever clears the last holder's bit closes: the owner at
 * once, or a child on the owner's behalf; the owner then buries the session at its next look.
 */
#include "share.h"

#include "real.h"
#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHARE_CELLS      65536u
#define SHARE_OWNER_LEFT (1ull << 63)
#define SHARE_PROCS      63

struct share_region {
  uint64_t procs;             /* atomic: numbers in use */
  uint64_t cell[SHARE_CELLS]; /* atomic; cell 0 is never used */
};

struct share_left { /* a session whose owner we are, closed here, held elsewhere */
  uint32_t h, cell;
  struct share_left *next;
};

static pthread_mutex_t share_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct share_region *share_region;
static uint64_t share_self;  /* own bit, 0 = none */
static uint64_t share_child; /* bit of the child that is being forked */
static int share_line[2] = {-1, -1};
static int share_own_line = -1;           /* our end of the pipe to our parent */
static int share_child_line[SHARE_PROCS]; /* read end per child's number; 0 = none */
static uint64_t share_children;           /* bits of children with a line */
static struct share_left *share_left_list;
static uint32_t share_n_left; /* atomic */
static uint32_t share_hint = 1;
static bool share_forked; /* this process is somebody's child */

static uint64_t share_take_bit(void) {
  uint64_t used = __atomic_load_n(&share_region->procs, __ATOMIC_RELAXED);
  for (;;) {
    uint64_t bit = ~used & (used + 1);
    if (bit == 0 || bit == SHARE_OWNER_LEFT)
      return 0;
    if (__atomic_compare_exchange_n(&share_region->procs, &used, used | bit, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
      return bit;
  }
}

/* A free cell with its first holders. 0 = none. */
static uint32_t share_take_cell(uint64_t holders) {
  for (uint32_t i = 0; i < SHARE_CELLS; i++) {
    uint32_t at = (share_hint + i) % SHARE_CELLS;
    uint64_t free_word = 0;
    if (at != 0 && __atomic_compare_exchange_n(&share_region->cell[at], &free_word, holders, false, __ATOMIC_ACQ_REL,
                                               __ATOMIC_RELAXED)) {
      share_hint = at + 1;
      return at;
    }
  }
  return 0;
}

static void share_close_fd(int *fd) {
  if (*fd >= 0) {
    fd_clear_inner(*fd);
    real.close(*fd);
  }
  *fd = -1;
}

/* Children that are gone leave everything they held. Under the mutex. */
static void share_reap(void) {
  struct pollfd p[SHARE_PROCS];
  for (int i = 0; i < SHARE_PROCS; i++)
    p[i] = (struct pollfd){.fd = share_children & (1ull << i) ? share_child_line[i] : -1, .events = POLLIN};
  if (share_children == 0 || real.poll(p, SHARE_PROCS, 0) <= 0)
    return;
  for (int i = 0; i < SHARE_PROCS; i++) {
    uint64_t bit = 1ull << i;
    if (p[i].revents == 0)
      continue;
    share_close_fd(&share_child_line[i]);
    share_children &= ~bit;
    for (uint32_t c = 1; c < SHARE_CELLS; c++)
      if (__atomic_load_n(&share_region->cell[c], __ATOMIC_RELAXED) & bit)
        __atomic_and_fetch(&share_region->cell[c], ~bit, __ATOMIC_ACQ_REL);
    __atomic_and_fetch(&share_region->procs, ~bit, __ATOMIC_ACQ_REL);
  }
}

static int share_spread_one(int fd, struct fd_file *f, void *ctx) {
  struct sock *s = (struct sock *)f;
  (void)fd;
  (void)ctx;
  if (f->kind != FD_SOCK || s->inherited || !(sock_flags(s) & SOCK_F_HELD))
    return 0;
  if (s->cell != 0)
    __atomic_or_fetch(&share_region->cell[s->cell], share_child, __ATOMIC_ACQ_REL);
  else
    s->cell = share_take_cell(share_self | share_child);
  return 0;
}

static int share_any_one(int fd, struct fd_file *f, void *ctx) {
  struct sock *s = (struct sock *)f;
  (void)fd;
  if (f->kind == FD_SOCK && !s->inherited && (sock_flags(s) & SOCK_F_HELD))
    *(bool *)ctx = true;
  return *(bool *)ctx;
}

void share_fork_prepare(void) {
  bool any = false;
  share_child = 0;
  fd_each(NULL, share_any_one, &any);
  if (!any)
    return;
  share_sweep();
  pthread_mutex_lock(&share_mutex);
  share_reap(); /* numbers of children that are gone are free again */
  if (!share_region) {
    void *p = mmap(NULL, sizeof(*share_region), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    share_region = p == MAP_FAILED ? NULL : p;
  }
  if (share_region && share_self == 0)
    share_self = share_take_bit();
  if (share_self != 0 && pipe2(share_line, O_CLOEXEC) == 0) {
    share_line[0] = fd_make_inner(share_line[0]);
    share_line[1] = fd_make_inner(share_line[1]);
    share_child = share_take_bit();
  }
  if (share_child != 0)
    fd_each(NULL, share_spread_one, NULL);
  pthread_mutex_unlock(&share_mutex);
}

void share_fork_parent(void) {
  share_close_fd(&share_line[1]);
  if (share_child == 0) {
    share_close_fd(&share_line[0]);
    return;
  }
  pthread_mutex_lock(&share_mutex);
  share_child_line[__builtin_ctzll(share_child)] = share_line[0];
  share_children |= share_child;
  share_line[0] = -1;
  share_child = 0;
  pthread_mutex_unlock(&share_mutex);
}

static int share_inherit_one(int fd, struct fd_file *f, void *ctx) {
  struct sock *s = (struct sock *)f;
  (void)fd;
  (void)ctx;
  if (f->kind != FD_SOCK || !(sock_flags(s) & SOCK_F_HELD))
    return 0;
  if (s->inherited || share_child == 0)
    s->cell = 0; /* a grandchild's, or uncounted: not ours to close */
  s->inherited = 1;
  return 0;
}

void share_fork_child(void) {
  share_forked = true;
  pthread_mutex_init(&share_mutex, NULL);
  fd_each(NULL, share_inherit_one, NULL);
  for (int i = 0; i < SHARE_PROCS; i++) /* our brothers' lines are our parent's */
    if (share_children & (1ull << i))
      share_close_fd(&share_child_line[i]);
  share_children = 0;
  while (share_left_list) {
    struct share_left *left = share_left_list;
    share_left_list = left->next;
    free(left);
  }
  share_n_left = 0;
  share_close_fd(&share_line[0]);
  share_close_fd(&share_own_line);
  share_own_line = share_line[1];
  share_line[1] = -1;
  share_self = share_child;
  share_child = 0;
}

/* The owner closes its last number. True: others hold the connection. Under the mutex. */
static bool share_owner_leaves(struct sock *s) {
  uint64_t *cell = &share_region->cell[s->cell];
  uint64_t old = __atomic_load_n(cell, __ATOMIC_ACQUIRE);
  if (old & ~share_self)
    share_reap();
  struct share_left *left = malloc(sizeof(*left));
  old = __atomic_load_n(cell, __ATOMIC_ACQUIRE);
  for (;;) {
    bool alone = (old & ~share_self) == 0 || !left;
    if (__atomic_compare_exchange_n(cell, &old, alone ? 0 : (old & ~share_self) | SHARE_OWNER_LEFT, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      if (alone) {
        free(left);
        return false;
      }
      break;
    }
  }
  *left = (struct share_left){s->h, s->cell, share_left_list};
  share_left_list = left;
  __atomic_add_fetch(&share_n_left, 1, __ATOMIC_RELAXED);
  return true;
}

/* True: others hold the connection, the session must stay as it is. */
static bool share_leave(struct sock *s) {
  if (s->cell == 0)
    return s->inherited;
  pthread_mutex_lock(&share_mutex);
  bool stays;
  if (s->inherited)
    stays = __atomic_and_fetch(&share_region->cell[s->cell], ~share_self, __ATOMIC_ACQ_REL) != SHARE_OWNER_LEFT;
  else
    stays = share_owner_leaves(s);
  s->cell = 0;
  pthread_mutex_unlock(&share_mutex);
  return stays;
}

bool share_alone(const struct sock *s) {
  if (s->cell == 0)
    return true;
  return (__atomic_load_n(&share_region->cell[s->cell], __ATOMIC_ACQUIRE) & ~(share_self | SHARE_OWNER_LEFT)) == 0;
}

void share_close(struct sock *s) {
  bool stays = share_leave(s);
  if (s->inherited && !stays)
    (void)vppcom_session_shutdown(s->h, SHUT_RDWR); /* the end shows at once; the owner buries the session */
  if (s->inherited || !stays)
    (void)vppcom_session_close(s->h); /* of an inherited session this ends our use of it only */
}

bool share_waiting(void) {
  return __atomic_load_n(&share_n_left, __ATOMIC_RELAXED) > 0;
}

void share_sweep(void) {
  struct share_left *done = NULL;
  if (!share_waiting())
    return;
  pthread_mutex_lock(&share_mutex);
  share_reap();
  for (struct share_left **at = &share_left_list; *at;) {
    struct share_left *left = *at;
    uint64_t alone = SHARE_OWNER_LEFT;
    if (!__atomic_compare_exchange_n(&share_region->cell[left->cell], &alone, 0, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED)) {
      at = &left->next;
      continue;
    }
    *at = left->next;
    left->next = done;
    done = left;
    __atomic_sub_fetch(&share_n_left, 1, __ATOMIC_RELAXED);
  }
  pthread_mutex_unlock(&share_mutex);
  while (done) {
    struct share_left *left = done;
    done = left->next;
    (void)vppcom_session_close(left->h);
    free(left);
  }
}

static int share_exit_one(int fd, struct fd_file *f, void *ctx) {
  struct sock *s = (struct sock *)f;
  (void)fd;
  (void)ctx;
  if (f->kind != FD_SOCK)
    return 0;
  if (sock_flags(s) & SOCK_F_LISTENING) /* else the next connection may be offered to us until our death is proved */
    (void)vppcom_session_close(s->h);
  else if (s->inherited && s->cell != 0 && !share_leave(s))
    (void)vppcom_session_shutdown(s->h, SHUT_RDWR);
  return 0;
}

void share_exit(void) {
  if (share_forked && !fd_foreign_process())
    fd_each(NULL, share_exit_one, NULL);
}
