/*
 * TCB table: free records and the engine's durable secret. See tcb.h.
 */
#include "tcb.h"

#include "base/fault.h"
#include "base/rng.h"

#include <errno.h>
#include <stdlib.h>

#define COOKIE_KEY_US (600ull * 1000000) /* well above what a cookie lives */

static int tcb_draw_secret(struct abi_tcb_block *b) {
  if (__atomic_load_n(&b->secret_set, __ATOMIC_ACQUIRE) == 1)
    return 0;
  int rc = rng_secure(b->secret, sizeof b->secret);
  if (rc)
    return rc;
  FAULT_POINT("tcb.secret"); /* a successor draws again: no connection has used it */
  __atomic_store_n(&b->secret_set, 1, __ATOMIC_RELEASE);
  return 0;
}

int tcb_open(struct tcb_table *t, int fd) {
  const char *why = "";
  int rc = seg_attach(&t->seg, fd, ABI_SEG_TCB, SEG_RDWR, &why);
  if (rc)
    return rc;
  memcpy(&t->geom, t->seg.geom, sizeof t->geom);
  rc = -EPROTO;
  if (t->geom.n == 0 || t->geom.n > 1u << 24)
    goto fail;
  t->block = seg_at(&t->seg, t->geom.block_off, sizeof *t->block);
  t->tcb = seg_at(&t->seg, t->geom.table_off, t->geom.n * sizeof *t->tcb);
  if (!t->block || !t->tcb)
    goto fail;
  t->route =
      t->geom.n_route <= ABI_ROUTES_MAX ? seg_at(&t->seg, t->geom.route_off, t->geom.n_route * sizeof *t->route) : NULL;
  if (t->geom.n_route != 0 && !t->route)
    goto fail;
  rc = -ENOMEM;
  t->sh = malloc(sizeof *t->sh + t->geom.n * sizeof t->sh->next[0]);
  if (!t->sh)
    goto fail;
  rc = tcb_draw_secret(t->block);
  if (rc)
    goto fail;
  t->sh->drawing = 0;
  tcb_recount(t);
  return 0;
fail:
  tcb_close(t);
  return rc;
}

void tcb_borrow(struct tcb_table *t, const struct tcb_table *of) {
  *t = *of;
  t->borrowed = 1;
}

void tcb_close(struct tcb_table *t) {
  if (!t->borrowed) {
    free(t->sh);
    seg_detach(&t->seg);
  }
  *t = (struct tcb_table){.seg = {.fd = -1}};
}

void tcb_recount(struct tcb_table *t) {
  freelist_init(&t->sh->free, t->sh->next);
  for (uint32_t i = tcb_high(t); i > 0; i--)
    if (__atomic_load_n(&t->tcb[i - 1].life, __ATOMIC_ACQUIRE) == ABI_TCB_FREE)
      freelist_put(&t->sh->free, i - 1);
}

/* A record that was never used, ABI_SEG_NONE when there is none. */
static uint32_t tcb_raise(struct tcb_table *t) {
  uint32_t high = tcb_high(t);
  do {
    if (high >= t->geom.n)
      return ABI_SEG_NONE;
  } while (!__atomic_compare_exchange_n(&t->block->high, &high, high + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  return high;
}

struct abi_tcb *tcb_get(struct tcb_table *t, uint32_t *n) {
  *n = freelist_get(&t->sh->free);
  if (*n == FREELIST_NONE)
    *n = tcb_raise(t);
  if (*n == ABI_SEG_NONE)
    return NULL;
  struct abi_tcb *d = &t->tcb[*n];
  uint32_t gen = d->gen;
  memset(d, 0, sizeof *d); /* life stays FREE */
  d->gen = gen + 1;
  return d;
}

void tcb_put(struct tcb_table *t, uint32_t n) {
  freelist_put(&t->sh->free, n);
}

int tcb_cookie_key(struct tcb_table *t, usec_t now) {
  struct abi_cookie *k = &t->block->cookie;
  if (k->gen != 0 && now - k->drawn_at < COOKIE_KEY_US)
    return 0;
  if (__atomic_exchange_n(&t->sh->drawing, 1, __ATOMIC_ACQUIRE)) /* another worker is at it: the last one does */
    return __atomic_load_n(&k->gen, __ATOMIC_ACQUIRE) != 0 ? 0 : -EAGAIN;
  int rc = 0;
  if (k->gen != 0 && now - k->drawn_at < COOKIE_KEY_US)
    goto out; /* it has been done meanwhile */
  rc = rng_secure(k->key[(k->gen + 1) & 1], sizeof k->key[0]);
  if (rc)
    goto out;
  k->drawn_at = now;
  FAULT_POINT("tcb.cookie_key"); /* prefix: the last but one key is gone; what it made is over anyway */
  __atomic_store_n(&k->gen, k->gen + 1, __ATOMIC_RELEASE);
out:
  __atomic_store_n(&t->sh->drawing, 0, __ATOMIC_RELEASE);
  return rc;
}
