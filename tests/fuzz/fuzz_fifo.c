/*
 * Fuzz target over both ends of a byte fifo with a hostile peer: the input is a program that scribbles over the words
 * and the chunk table that a peer owns, and calls the consumer, or moves the head under a producer. No piece lies
 * outside the arena, no call returns more than it was asked for, and the producer's own records stay sound. Corpus in
 * corpus/fifo.
 */
#include "base/err.h"
#include "fuzz.h"
#include "shm/fifo.h"

#define ARENA_OFF  ((uint64_t)ABI_CHUNK_MAX)
#define ARENA_SIZE (2ull * ABI_CHUNK_MAX)
#define MAX        (3u << 20)

struct peer {
  struct abi_fifo_prod words;
  struct abi_chunk table[ABI_FIFO_CHUNKS];
  uint32_t head;
};

static void *block;   /* the arena */
static uint8_t *base; /* so that base + ARENA_OFF begins a heap block of ARENA_SIZE */
static uint8_t bytes[1 << 16];

static void setup(void) {
  if (block == NULL)
    block = calloc(1, ARENA_SIZE);
  REQUIRE(block != NULL);
  base = (uint8_t *)((uintptr_t)block - ARENA_OFF);
}

static void check_pieces(const struct fifo_piece *pc, int n, uint32_t got, uint32_t len) {
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) {
    REQUIRE(pc[i].len != 0 && pc[i].off >= ARENA_OFF && pc[i].off + pc[i].len <= ARENA_OFF + ARENA_SIZE);
    REQUIRE(pc[i].p == (uint8_t *)((uintptr_t)base + pc[i].off));
    sum += pc[i].len;
  }
  REQUIRE(sum == got && got <= len);
}

/** The peer writes: raw words, or an entry that is nearly right so that deeper checks are reached. */
static void scribble(struct fuzz_input *in, struct peer *w, uint8_t op) {
  struct abi_chunk *e = &w->table[(op >> 4) % ABI_FIFO_CHUNKS];
  switch (op & 7) {
  case 0:
    w->words.tail = fuzz_take_le(in, 4);
    break;
  case 1:
    w->words.tail += fuzz_take_le(in, 3);
    break;
  case 2:
    w->words.chunk_tail = fuzz_take_le(in, 4);
    break;
  case 3:
    w->words.chunk_tail += fuzz_take_le(in, 1) % 20;
    break;
  case 4:
    e->start = fuzz_take_le(in, 4);
    e->len = fuzz_take_le(in, 4);
    e->unit = fuzz_take_le(in, 4);
    e->seg = fuzz_take_le(in, 1);
    break;
  default: /* goes on where the entry before ends */
    e->start = e == w->table ? w->table[ABI_FIFO_CHUNKS - 1].start + w->table[ABI_FIFO_CHUNKS - 1].len
                             : e[-1].start + e[-1].len;
    e->len = ABI_CHUNK_UNIT << (fuzz_take_le(in, 1) % 11);
    e->unit = (uint32_t)(ARENA_OFF / ABI_CHUNK_UNIT) + fuzz_take_le(in, 2) % 1030;
    e->seg = 0;
    break;
  }
}

static void consume(struct fuzz_input *in) {
  struct peer w;
  struct fifo_cons c;
  struct fifo_piece pc[4];
  uint32_t got;
  memset(&w, 0, sizeof w);
  w.head = w.words.tail = fuzz_take_le(in, 4);
  fifo_cons_init(&c, &w.words, w.table, &w.head, base, ARENA_OFF, ARENA_SIZE, MAX);
  while (in->left != 0) {
    uint8_t op = (uint8_t)fuzz_take_le(in, 1);
    uint32_t off, len;
    int64_t n;
    switch (op & 15) {
    case 8:
      n = fifo_cons_used(&c);
      REQUIRE(n == -EPROTO || (n >= 0 && n <= MAX));
      break;
    case 9:
    case 10:
      off = fuzz_take_le(in, 3);
      len = fuzz_take_le(in, 3);
      n = fifo_cons_pieces(&c, off, len, pc, (op >> 4) % 5, &got);
      REQUIRE(n == -EPROTO || (n >= 0 && n <= 4));
      if (n >= 0)
        check_pieces(pc, (int)n, got, len);
      for (int i = 0; i < n; i++)
        bytes[0] = (uint8_t)(bytes[0] + *(volatile uint8_t *)pc[i].p + ((volatile uint8_t *)pc[i].p)[pc[i].len - 1]);
      break;
    case 11:
      len = fuzz_take_le(in, 2);
      n = fifo_cons_peek(&c, fuzz_take_le(in, 3), bytes, len);
      REQUIRE(n == -EPROTO || (n >= 0 && n <= len));
      break;
    case 12:
      len = fuzz_take_le(in, 2);
      n = fifo_cons_read(&c, bytes, len);
      REQUIRE(n == -EPROTO || (n >= 0 && n <= len));
      break;
    case 13:
      fifo_cons_consume(&c, fuzz_take_le(in, 3));
      break;
    case 14:
      fifo_cons_init(&c, &w.words, w.table, &w.head, base, ARENA_OFF, ARENA_SIZE, MAX);
      break;
    default:
      scribble(in, &w, op);
      break;
    }
    REQUIRE(c.head == w.head);
  }
}

static void produce(struct fuzz_input *in) {
  static uint8_t meta[1 << 16];
  struct peer w;
  struct fifo_prod f;
  REQUIRE(arena_meta_size(ARENA_SIZE) <= sizeof meta);
  struct arena *a = arena_init(meta, sizeof meta, (uint32_t)(ARENA_OFF / ABI_CHUNK_UNIT), ARENA_SIZE);
  memset(&w, 0, sizeof w);
  w.words.tail = w.head = fuzz_take_le(in, 4);
  REQUIRE(fifo_prod_resume(&f, &w.words, w.table, &w.head, base, a, fuzz_take_le(in, 3)) == 0);
  while (in->left != 0) {
    uint32_t len, off;
    int64_t n = 0;
    switch (fuzz_take_le(in, 1) & 7) {
    case 0:
      w.head = fuzz_take_le(in, 4);
      break;
    case 1:
      w.head += fuzz_take_le(in, 3);
      break;
    case 2:
      n = fifo_prod_room(&f);
      REQUIRE(n == -EPROTO || (n >= 0 && n <= f.size));
      break;
    case 3:
      len = fuzz_take_le(in, 2);
      n = fifo_prod_write(&f, bytes, len);
      REQUIRE(n == -EPROTO || (n >= 0 && n <= len));
      break;
    case 4:
      off = fuzz_take_le(in, 4);
      len = fuzz_take_le(in, 2);
      n = fifo_prod_place(&f, off, bytes, len);
      REQUIRE(n == -EPROTO || (n >= 0 && n <= len));
      break;
    case 5:
      fifo_prod_trim(&f);
      break;
    case 6:
      fifo_prod_size_set(&f, fuzz_take_le(in, 3));
      break;
    default: /* its successor finds a lie, or the same fifo */
      a = arena_init(meta, sizeof meta, (uint32_t)(ARENA_OFF / ABI_CHUNK_UNIT), ARENA_SIZE);
      n = fifo_prod_resume(&f, &w.words, w.table, &w.head, base, a, f.size);
      REQUIRE(n == 0 || n == -EPROTO || n == -EEXIST);
      break;
    }
    if (n < 0)
      break; /* the peer would be detached */
    REQUIRE(fifo_prod_check(&f) == 0 && arena_check(a) == 0);
  }
  fifo_prod_fini(&f);
  REQUIRE(arena_free_bytes(a) == ARENA_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input in = {.p = data, .left = size};
  setup();
  if (fuzz_take_le(&in, 1) & 1)
    produce(&in);
  else
    consume(&in);
  return 0;
}
