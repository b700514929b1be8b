/*
 * Fuzz target over cut-through with a hostile peer: the input is a program that writes over all that the other side of
 * a pair can write (block, ring, slots, chunk tables, bytes) and, in between, uses the session as a program would. Byte
 * 0 says which side is honest: one that connected or one that accepts. Nothing but the pair may come to harm: calls
 * return, reads and writes never give more than was asked for nor EINVAL, and a new session can be made afterwards.
 * Corpus in corpus/cut.
 */
#include "base/clock.h"
#include "fake_engine.h"
#include "shm/bell.h"
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vppcom.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                                                  \
  do {                                                                                                                 \
    if (!(cond))                                                                                                       \
      abort();                                                                                                         \
  } while (0)

#define PORT  7600
#define SLOTS 64
#define ARENA (4u << 20)
#define OPS   400 /* of one input */

struct input {
  const uint8_t *p;
  size_t left;
};

/** The lying side: what it may write, and its end of the socket. */
struct liar {
  struct abi_worker_geom g;
  uint8_t *base;
  size_t size;
  int end;
  uint64_t id;
};

static struct fake fake;
static uint32_t listener;
static uint8_t bytes[1 << 16];

static uint32_t take(struct input *in, unsigned n) {
  uint32_t v = 0;
  for (unsigned i = 0; i < n && in->left != 0; i++, in->left--)
    v |= (uint32_t)*in->p++ << (8 * i);
  return v;
}

static vppcom_endpt_t endpoint(uint8_t ip[16]) {
  vppcom_endpt_t ep = {.is_ip4 = VPPCOM_IS_IP4, .ip = ip, .port = (uint16_t)(PORT << 8 | PORT >> 8)};
  memset(ip, 0, 16);
  ip[0] = 10;
  ip[3] = 1;
  return ep;
}

/* The end of the process, not of an input. */
static void teardown(void) {
  vppcom_app_destroy();
  fake_stop(&fake);
}

static void setup(void) {
  uint8_t ip[16];
  vppcom_endpt_t ep = endpoint(ip);
  if (app_state.created)
    return;
  REQUIRE(fake_start(&fake) == 0 && atexit(teardown) == 0 && vppcom_app_create("fuzz") == 0);
  int h = vppcom_session_create(VPPCOM_PROTO_TCP, 1);
  REQUIRE(h >= 0 && vppcom_session_bind((uint32_t)h, &ep) == 0 && vppcom_session_listen((uint32_t)h, 16) == 0);
  listener = (uint32_t)h;
  REQUIRE(vppcom_session_accept(listener, NULL, O_NONBLOCK) == VPPCOM_EAGAIN);
}

/** A pair of which the library has one side and the input the other one. */
static struct cut_pair *pair_up(struct worker *w, int client, struct liar *liar) {
  static uint64_t next_id = 1000;
  struct abi_worker_geom g;
  struct seg s[2];
  uint64_t words[16];
  int end[2];
  liar->id = next_id;
  next_id += 3;
  liar->size = (size_t)worker_pair_geom(&g, liar->id, SLOTS, ARENA);
  memcpy(words, &g, sizeof words);
  for (unsigned i = 0; i < 2; i++)
    REQUIRE(seg_create(&s[i], "fuzz-pair", ABI_SEG_PAIR, liar->id + 1 + i, liar->size, words) == 0);
  REQUIRE(bell_pair(end) == 0 && cut_ready(w) == 0);
  int fds[BELL_PAIR_FDS] = {dup(s[0].fd), seg_reopen_rdonly(&s[1]), end[0]};
  liar->g = g;
  liar->end = end[1];
  liar->base = mmap(NULL, liar->size, PROT_READ | PROT_WRITE, MAP_SHARED, s[1].fd, 0);
  REQUIRE(liar->base != MAP_FAILED);
  struct cut_pair *p = cut_pair_new(w, client ? liar->id : 0, client, fds);
  REQUIRE(p != NULL && p->id == liar->id);
  seg_detach(&s[0]);
  seg_detach(&s[1]);
  return p;
}

static struct abi_sess_app *half(const struct liar *liar, uint32_t slot) {
  return (struct abi_sess_app *)(void *)(liar->base + liar->g.slots_off) + slot;
}

/** "Look at this slot", as the library would be told. */
static void hint(const struct liar *liar, uint32_t slot) {
  struct abi_worker_app *block = (struct abi_worker_app *)(void *)(liar->base + liar->g.block_off);
  uint32_t *ring = (uint32_t *)(void *)(liar->base + liar->g.rings_off);
  uint32_t tail = block->lane[0].to_engine.tail;
  ring[tail & (liar->g.ring_cap - 1)] = slot;
  __atomic_store_n(&block->lane[0].to_engine.tail, tail + 1, __ATOMIC_RELEASE);
  (void)bell_ring_app(liar->end);
}

/** The other side connects to our listener. */
static uint32_t be_connected_to(struct worker *w, const struct liar *liar) {
  struct session *l = session_find(w, listener);
  struct abi_sess_app *a = half(liar, 0);
  REQUIRE(l != NULL);
  a->req = (struct abi_request){.id = l->listener_id, .remote = l->local, .local = l->local};
  a->req.local.port = be16_from(40000);
  a->pair_slot = l->slot;
  a->gen = a->accepted = 1;
  a->op = ABI_OP_CONNECT;
  hint(liar, 0);
  int h = vppcom_session_accept(listener, NULL, O_NONBLOCK);
  REQUIRE(h >= 0);
  return (uint32_t)h;
}

/** We connect, as if the broker had granted it; the other side has accepted if the input says so. */
static uint32_t connect_to(struct worker *w, struct cut_pair *p, const struct liar *liar, int accepted) {
  uint8_t ip[16];
  vppcom_endpt_t ep = endpoint(ip);
  struct abi_endpoint to;
  struct abi_worker_app *block = (struct abi_worker_app *)(void *)(liar->base + liar->g.block_off);
  ep.port = (uint16_t)((PORT + 1) << 8 | (PORT + 1) >> 8);
  REQUIRE(connect_endpoint(&ep, &to) == 0);
  block->pid = 1;
  p->port_lo = 40000;
  p->port_span = 1000;
  struct cut_grant *g = calloc(1, sizeof *g);
  REQUIRE(g != NULL);
  *g = (struct cut_grant){.pair = p, .listener_id = 1, .backlog = 16};
  list_add_tail(&p->grants, &g->link);
  for (uint32_t i = 0; i < CUT_DESTS; i++) /* whatever its hash */
    w->cut->dest[i] =
        (struct cut_dest){.to = to, .until = clock_now_us() + (1ull << 40), .n = 1, .shares = 1, .grant = {g}};
  int h = vppcom_session_create(VPPCOM_PROTO_TCP, 1);
  REQUIRE(h >= 0 && vppcom_session_connect((uint32_t)h, &ep) == VPPCOM_EINPROGRESS);
  struct session *s = session_find(w, (uint32_t)h);
  REQUIRE(s != NULL && s->cut != NULL);
  if (accepted) {
    half(liar, s->slot)->accepted = s->gen;
    __atomic_store_n(&half(liar, s->slot)->gen, s->gen, __ATOMIC_RELEASE);
    hint(liar, s->slot);
  }
  return (uint32_t)h;
}

/** What the other side writes next. */
static void scribble(const struct liar *liar, struct input *in) {
  static const uint32_t seen[] = {0, 1, 2, 4, 16, 0x80000000u, 0xffffffffu, ABI_FIFO_MAX};
  uint32_t what = take(in, 1);
  uint64_t at;
  switch (what % 5) {
  case 0: /* ring and its cursors */
    at = liar->g.block_off + take(in, 1) * 4u;
    break;
  case 1:
    at = liar->g.rings_off + take(in, 1) * 4u;
    break;
  case 2: /* hot words, request, chunk table of a slot */
  case 3:
    at = liar->g.slots_off + (take(in, 1) & 3u) * sizeof(struct abi_sess_app) + (take(in, 1) & 127u) * 4u;
    break;
  default:
    at = take(in, 3) * 4ull;
  }
  uint32_t word = (what & 0x80) != 0 ? take(in, 4) : seen[(what >> 4) & 7];
  if ((what & 0x08) != 0 && at + 4 <= liar->size)
    word += *(uint32_t *)(void *)(liar->base + at);
  if (at + 4 <= liar->size)
    __atomic_store_n((uint32_t *)(void *)(liar->base + at), word, __ATOMIC_RELEASE);
}

/** What our program does next. */
static void use(uint32_t h, struct input *in) {
  uint32_t what = take(in, 1), n = take(in, 2);
  vppcom_data_segment_t ds[4];
  uint32_t len = sizeof(int);
  int rc = 0;
  switch (what % 9) {
  case 0:
    rc = vppcom_session_read(h, bytes, n);
    break;
  case 1:
    rc = vppcom_session_write(h, bytes, n);
    break;
  case 2:
    rc = vppcom_session_recvfrom(h, bytes, n, MSG_PEEK, NULL);
    break;
  case 3:
    rc = vppcom_session_read_segments(h, ds, 4, n + 1);
    for (int i = 0; i < 4 && rc > 0; i++)
      for (uint32_t k = 0; k < ds[i].len; k += 997)
        bytes[k % sizeof bytes] ^= ds[i].data[k]; /* it has to be there */
    if (rc > 0)
      vppcom_session_free_segments(h, (uint32_t)rc);
    rc = rc > 0 ? rc - 1 : rc;
    break;
  case 4:
    (void)vppcom_session_shutdown(h, (int)(n % 3));
    break;
  case 5: {
    int v;
    (void)vppcom_session_attr(h, n & 1 ? VPPCOM_ATTR_GET_NREAD : VPPCOM_ATTR_GET_ERROR, &v, &len);
    break;
  }
  case 6: {
    vcl_poll_t p = {.sh = h, .events = POLLIN | POLLOUT};
    (void)vppcom_poll(&p, 1, 0);
    break;
  }
  case 7:
    rc = vppcom_session_accept(listener, NULL, O_NONBLOCK);
    if (rc >= 0)
      (void)vppcom_session_close((uint32_t)rc);
    rc = 0;
    break;
  default:
    (void)vppcom_session_attr(h, VPPCOM_ATTR_GET_NWRITE, NULL, NULL);
  }
  REQUIRE(rc <= (int)n && rc != -EINVAL);
}

static struct cut_pair *pair_of(const struct worker *w, uint64_t id) {
  struct list *pos;
  list_for_each(pos, &w->cut->pairs) {
    struct cut_pair *p = list_entry(pos, struct cut_pair, link);
    if (p->id == id)
      return p;
  }
  return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input in = {data, size};
  struct liar liar;
  setup();
  struct worker *w = worker_enter();
  uint32_t how = take(&in, 1);
  struct cut_pair *p = pair_up(w, how & 1, &liar);
  uint32_t h = (how & 1) != 0 ? connect_to(w, p, &liar, (how & 2) != 0) : be_connected_to(w, &liar);
  for (int i = 0; i < OPS && in.left != 0; i++) {
    uint32_t what = take(&in, 1);
    if (what % 4 == 3)
      use(h, &in);
    else if (what % 4 == 2)
      hint(&liar, (what >> 2) % SLOTS);
    else
      scribble(&liar, &in);
  }
  (void)vppcom_session_close(h);
  close(liar.end);
  munmap(liar.base, liar.size);
  (void)vppcom_poll(&(vcl_poll_t){.sh = ~0u}, 0, 0);
  p = pair_of(w, liar.id);
  if (p != NULL)
    cut_pair_dead(p, 0);
  for (int rc; (rc = vppcom_session_accept(listener, NULL, O_NONBLOCK)) >= 0;)
    (void)vppcom_session_close((uint32_t)rc);
  REQUIRE(pair_of(w, liar.id) == NULL);
  memset(w->cut->dest, 0, sizeof w->cut->dest);
  w->cut->n_gone = 0; /* the broker knows none of them */
  worker_leave(w);
  return 0;
}
