/*
 * The book of lent RX slots (lend.h). Lcore thread, hot path.
 */
#include "lend.h"

#include "base/bug.h"

#include <string.h>

void lend_init(struct lend *l, struct lend_rec *rec, uint32_t n_rx) {
  memset(l, 0, sizeof *l);
  l->rec = rec;
  l->n_rx = n_rx;
  for (uint32_t i = 0; i < n_rx; i++)
    rec[i].link = LEND_HOME;
  for (uint32_t i = 0; i < ABI_LINKS_MAX; i++)
    l->list[i] = (struct lend_list){.head = ABI_SEG_NONE, .tail = ABI_SEG_NONE, .unpushed = ABI_SEG_NONE};
}

void lend_frame(struct lend *l, uint32_t link, const struct abi_frame_desc *d, uint32_t n) {
  struct lend_list *ll = &l->list[link];

  for (uint32_t i = 0; i < n; i++) {
    uint32_t slot = d[i].slot;
    BUG_ON(slot >= l->n_rx);
    struct lend_rec *r = &l->rec[slot];
    BUG_ON(r->link != LEND_HOME);
    r->d = d[i];
    r->d.tag = 0;
    r->frame = l->frames;
    r->link = (uint8_t)link;
    r->index = (uint8_t)i;
    r->pieces = (uint8_t)n;
    r->next = ABI_SEG_NONE;
    r->prev = ll->tail;
    if (ll->tail != ABI_SEG_NONE)
      l->rec[ll->tail].next = slot;
    else
      ll->head = slot;
    ll->tail = slot;
    if (ll->unpushed == ABI_SEG_NONE)
      ll->unpushed = slot;
  }
  ll->n += n;
  l->frames++;
}

static void lend_unlink(struct lend *l, struct lend_list *ll, uint32_t slot) {
  struct lend_rec *r = &l->rec[slot];

  if (ll->unpushed == slot)
    ll->unpushed = r->next;
  if (r->prev != ABI_SEG_NONE)
    l->rec[r->prev].next = r->next;
  else
    ll->head = r->next;
  if (r->next != ABI_SEG_NONE)
    l->rec[r->next].prev = r->prev;
  else
    ll->tail = r->prev;
  r->link = LEND_HOME;
  ll->n--;
}

/** Whether the slot lies at or behind `unpushed`: such a slot was never shown to the present engine. Only frames at the
 * cursor can be asked about cheaply, so the mark is kept in the record: an unpushed record has tag 0. */
static int lend_is_unpushed(const struct lend_rec *r) {
  return r->d.tag == 0;
}

int lend_home(struct lend *l, uint32_t link, uint32_t slot) {
  if (slot >= l->n_rx || l->rec[slot].link != link || lend_is_unpushed(&l->rec[slot]))
    return -ENOENT;
  lend_unlink(l, &l->list[link], slot);
  return 0;
}

int lend_next(struct lend *l, uint32_t link, struct abi_frame_desc *d, uint32_t room) {
  struct lend_list *ll = &l->list[link];
  uint32_t slot = ll->unpushed;

  if (slot == ABI_SEG_NONE)
    return 0;
  uint32_t n = l->rec[slot].pieces;
  if (n > room)
    return -ENOSPC;
  for (uint32_t i = 0; i < n; i++) {
    BUG_ON(slot == ABI_SEG_NONE || l->rec[slot].index != i);
    d[i] = l->rec[slot].d;
    l->rec[slot].d.tag = 1;
    slot = l->rec[slot].next;
  }
  ll->unpushed = slot;
  return (int)n;
}

/** Pieces 0 … n-1 of one frame follow each other from `slot`. */
static int lend_whole(const struct lend *l, uint32_t slot) {
  uint32_t n = l->rec[slot].pieces, frame = l->rec[slot].frame;
  uint32_t at = slot;

  for (uint32_t i = 0; i < n; i++) {
    if (at == ABI_SEG_NONE || l->rec[at].index != i || l->rec[at].frame != frame)
      return 0;
    at = l->rec[at].next;
  }
  return 1;
}

uint32_t lend_again(struct lend *l, uint32_t link, uint32_t *slots, uint32_t max) {
  struct lend_list *ll = &l->list[link];
  uint32_t slot = ll->head, out = 0;

  while (slot != ABI_SEG_NONE) {
    uint32_t next = l->rec[slot].next;
    if (l->rec[slot].index == 0 && lend_whole(l, slot)) {
      for (uint32_t i = 0, n = l->rec[slot].pieces; i < n; i++) {
        l->rec[slot].d.tag = 0;
        slot = l->rec[slot].next;
      }
      continue;
    }
    if (out == max)
      break;
    lend_unlink(l, ll, slot);
    slots[out++] = slot;
    slot = next;
  }
  ll->unpushed = ll->head;
  return out;
}

void lend_spread(struct lend *l, uint32_t (*link_of)(void *ctx, const struct abi_frame_desc *first), void *ctx) {
  uint32_t head[ABI_LINKS_MAX];

  for (uint32_t i = 0; i < ABI_LINKS_MAX; i++) {
    head[i] = l->list[i].head;
    l->list[i] = (struct lend_list){.head = ABI_SEG_NONE, .tail = ABI_SEG_NONE, .unpushed = ABI_SEG_NONE};
  }
  for (uint32_t i = 0; i < ABI_LINKS_MAX; i++) {
    for (uint32_t slot = head[i]; slot != ABI_SEG_NONE;) {
      struct abi_frame_desc d[UINT8_MAX];
      uint32_t n = l->rec[slot].pieces;
      for (uint32_t k = 0; k < n; k++) {
        BUG_ON(slot == ABI_SEG_NONE);
        struct lend_rec *r = &l->rec[slot];
        d[k] = r->d;
        r->link = LEND_HOME;
        slot = r->next;
      }
      lend_frame(l, link_of(ctx, d), d, n);
    }
  }
}

int lend_check(const struct lend *l) {
  uint32_t total = 0, out = 0;

  for (uint32_t i = 0; i < l->n_rx; i++)
    out += l->rec[i].link != LEND_HOME ? 1u : 0u;
  for (uint32_t k = 0; k < ABI_LINKS_MAX; k++) {
    const struct lend_list *ll = &l->list[k];
    uint32_t prev = ABI_SEG_NONE, n = 0;
    int unpushed = 0;
    for (uint32_t s = ll->head; s != ABI_SEG_NONE; prev = s, s = l->rec[s].next) {
      if (s >= l->n_rx || l->rec[s].link != k || l->rec[s].prev != prev)
        return -__LINE__;
      unpushed |= s == ll->unpushed;
      if (lend_is_unpushed(&l->rec[s]) != unpushed)
        return -__LINE__;
      if (++n > l->n_rx)
        return -__LINE__;
    }
    if (ll->tail != prev || n != ll->n)
      return -__LINE__;
    total += n;
  }
  return total == out ? 0 : -__LINE__;
}
