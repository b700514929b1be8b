/*
 * Fuzz target over lookups in a rules segment whose bank holds anything: the engine trusts the broker, and yet nothing
 * in a bank may lead it outside. The input is the geometry's choice, the head of the bank, then the arrays' beginnings;
 * lookups of both families follow. Corpus in corpus/rules.
 */
#include "base/err.h"
#include "shm/rules.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
  const uint8_t *p;
  size_t left;
};

static void take(struct input *in, void *to, size_t n) {
  size_t have = n < in->left ? n : in->left;
  memcpy(to, in->p, have);
  in->p += have;
  in->left -= have;
}

static void look(const struct rules_view *v, uint8_t table, uint8_t last, int four) {
  uint8_t remote[16] = {0x20, [15] = last}, local[16] = {0x20, [15] = 1};
  struct abi_rule_verdict out;
  if (four) {
    memset(remote, 0, 10);
    memset(local, 0, 10);
    remote[10] = remote[11] = local[10] = local[11] = 0xff;
  }
  for (uint32_t port = 0; port < 65536; port += 13107) {
    struct rules_key k = {.table = table, .proto = last & 1, .port = (uint16_t)port, .remote = remote, .local = local};
    (void)rules_find(v, &k, &out);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input in = {.p = data, .left = size};
  struct abi_rules_geom g;
  struct rules_view w, v;
  uint64_t words[16];
  struct seg s;
  const char *why = NULL;
  uint8_t lie = 0;
  uint64_t bytes = rules_geom_make(&g, 16);
  take(&in, &lie, 1);
  if (lie & 1)
    take(&in, &g, sizeof g);
  memcpy(words, &g, sizeof words);
  if (seg_create(&s, "fuzz", ABI_SEG_RULES, 1, bytes, words) < 0)
    abort();
  if (rules_open(&w, s.fd, SEG_RDWR, &why) < 0) {
    s.fd = -1;
    seg_detach(&s);
    return 0;
  }
  s.fd = -1;
  seg_detach(&s);
  uint8_t *bank = w.seg.base + g.bank_off + g.bank_size;
  take(&in, bank, sizeof(struct abi_rule_bank));
  take(&in, bank + g.in_slots, 64);
  take(&in, bank + g.in_groups, 8 * sizeof(struct abi_rule_group));
  take(&in, bank + g.in_spans, 32 * sizeof(struct abi_rule_span));
  take(&in, bank + g.in_verdicts, 64);
  w.block->gen = 1;
  rules_borrow(&v, &w);
  (void)rules_take(&v);
  for (uint8_t i = 0; i < 8; i++)
    look(&v, i & 1, i / 4, i & 2);
  rules_close(&v);
  rules_close(&w);
  return 0;
}
