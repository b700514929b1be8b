/*
 * The other side of a pair, in the hands of a fuzz target: a segment that it may write as it likes, its end of the
 * socket, and the input that says what it writes. fuzz_cut.c (connections) and fuzz_branch.c (datagrams).
 */
#ifndef HS_TESTS_PAIR_LIAR_H
#define HS_TESTS_PAIR_LIAR_H

#include "base/clock.h"
#include "fake_engine.h"
#include "shm/bell.h"
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vppcom.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUIRE(cond)                                                                                                  \
  do {                                                                                                                 \
    if (!(cond))                                                                                                       \
      abort();                                                                                                         \
  } while (0)

#define LIAR_SLOTS 64
#define LIAR_ARENA (4u << 20)

struct input {
  const uint8_t *p;
  size_t left;
};

/** The lying side: what it may write, its end of the socket; and what it may read, as long as it is mapped. */
struct liar {
  struct abi_worker_geom g;
  uint8_t *base;
  const uint8_t *theirs;
  size_t size;
  int end;
  uint64_t id;
};

static inline uint32_t take(struct input *in, unsigned n) {
  uint32_t v = 0;
  for (unsigned i = 0; i < n && in->left != 0; i++, in->left--)
    v |= (uint32_t)*in->p++ << (8 * i);
  return v;
}

/** 10.0.0.1 and a port. */
static inline vppcom_endpt_t liar_endpoint(uint8_t ip[16], uint16_t port) {
  vppcom_endpt_t ep = {.is_ip4 = VPPCOM_IS_IP4, .ip = ip, .port = (uint16_t)(port << 8 | port >> 8)};
  memset(ip, 0, 16);
  ip[0] = 10;
  ip[3] = 1;
  return ep;
}

/** A pair of which the library has one side and the input the other one. */
static inline struct cut_pair *liar_pair_up(struct worker *w, int client, struct liar *liar) {
  static uint64_t next_id = 1000;
  struct abi_worker_geom g;
  struct seg s[2];
  uint64_t words[16];
  int end[2];
  liar->id = next_id;
  next_id += 3;
  liar->size = (size_t)worker_pair_geom(&g, liar->id, LIAR_SLOTS, LIAR_ARENA);
  memcpy(words, &g, sizeof words);
  for (unsigned i = 0; i < 2; i++)
    REQUIRE(seg_create(&s[i], "fuzz-pair", ABI_SEG_PAIR, liar->id + 1 + i, liar->size, words) == 0);
  REQUIRE(bell_pair(end) == 0 && cut_ready(w) == 0);
  int fds[BELL_PAIR_FDS] = {dup(s[0].fd), seg_reopen_rdonly(&s[1]), end[0]};
  liar->g = g;
  liar->end = end[1];
  liar->base = mmap(NULL, liar->size, PROT_READ | PROT_WRITE, MAP_SHARED, s[1].fd, 0);
  liar->theirs = mmap(NULL, liar->size, PROT_READ, MAP_SHARED, s[0].fd, 0);
  REQUIRE(liar->base != MAP_FAILED && liar->theirs != MAP_FAILED);
  struct cut_pair *p = cut_pair_new(w, client ? liar->id : 0, client, fds);
  REQUIRE(p != NULL && p->id == liar->id);
  seg_detach(&s[0]);
  seg_detach(&s[1]);
  return p;
}

/** It dies. */
static inline void liar_end(struct liar *liar) {
  close(liar->end);
  munmap(liar->base, liar->size);
  munmap((void *)(uintptr_t)liar->theirs, liar->size);
}

static inline struct cut_pair *liar_pair_of(const struct worker *w, uint64_t id) {
  struct list *pos;
  list_for_each(pos, &w->cut->pairs) {
    struct cut_pair *p = list_entry(pos, struct cut_pair, link);
    if (p->id == id)
      return p;
  }
  return NULL;
}

static inline struct abi_sess_app *half(const struct liar *liar, uint32_t slot) {
  return (struct abi_sess_app *)(void *)(liar->base + liar->g.slots_off) + slot;
}

/** "Look at this slot", as the library would be told. */
static inline void hint(const struct liar *liar, uint32_t slot) {
  struct abi_worker_app *block = (struct abi_worker_app *)(void *)(liar->base + liar->g.block_off);
  uint32_t *ring = (uint32_t *)(void *)(liar->base + liar->g.rings_off);
  uint32_t tail = block->lane[0].to_engine.tail;
  ring[tail & (liar->g.ring_cap - 1)] = slot;
  __atomic_store_n(&block->lane[0].to_engine.tail, tail + 1, __ATOMIC_RELEASE);
  (void)bell_ring_app(liar->end);
}

/** Leave to connect to `to` over p, as if the broker had given it, whatever the endpoint's hash. */
static inline void liar_grant(struct worker *w, struct cut_pair *p, const struct liar *liar, uint8_t proto,
                              const struct abi_endpoint *to) {
  struct abi_worker_app *block = (struct abi_worker_app *)(void *)(liar->base + liar->g.block_off);
  block->pid = 1;
  p->port_lo = 40000;
  p->port_span = 1000;
  struct cut_grant *g = calloc(1, sizeof *g);
  REQUIRE(g != NULL);
  *g = (struct cut_grant){.pair = p, .listener_id = 1, .backlog = 16};
  list_add_tail(&p->grants, &g->link);
  for (uint32_t i = 0; i < CUT_DESTS; i++)
    w->cut->dest[i] = (struct cut_dest){
        .to = *to, .proto = proto, .until = clock_now_us() + (1ull << 40), .n = 1, .shares = 1, .grant = {g}};
}

/** A word that the other side may write, somewhere. */
static inline void liar_scribble(const struct liar *liar, struct input *in) {
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

#endif
