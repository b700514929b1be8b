/*
 * Fuzz target over cut-through with a hostile peer: the input is a program that writes over all that the other side of
 * a pair can write (block, ring, slots, chunk tables, bytes) and, in between, uses the session as a program would. Byte
 * 0 says which side is honest: one that connected or one that accepts. Nothing but the pair may come to harm: calls
 * return, reads and writes never give more than was asked for nor EINVAL, and a new session can be made afterwards.
 * Corpus in corpus/cut.
 */
#include "pair_liar.h"

#include <fcntl.h>
#include <poll.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PORT 7600
#define OPS  400 /* of one input */

static struct fake fake;
static uint32_t listener;
static uint8_t bytes[1 << 16];

static vppcom_endpt_t endpoint(uint8_t ip[16]) {
  return liar_endpoint(ip, PORT);
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
  ep.port = (uint16_t)((PORT + 1) << 8 | (PORT + 1) >> 8);
  REQUIRE(connect_endpoint(&ep, &to) == 0);
  liar_grant(w, p, liar, VPPCOM_PROTO_TCP, &to);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input in = {data, size};
  struct liar liar;
  setup();
  struct worker *w = worker_enter();
  uint32_t how = take(&in, 1);
  struct cut_pair *p = liar_pair_up(w, how & 1, &liar);
  uint32_t h = (how & 1) != 0 ? connect_to(w, p, &liar, (how & 2) != 0) : be_connected_to(w, &liar);
  for (int i = 0; i < OPS && in.left != 0; i++) {
    uint32_t what = take(&in, 1);
    if (what % 4 == 3)
      use(h, &in);
    else if (what % 4 == 2)
      hint(&liar, (what >> 2) % LIAR_SLOTS);
    else
      liar_scribble(&liar, &in);
  }
  (void)vppcom_session_close(h);
  liar_end(&liar);
  (void)vppcom_poll(&(vcl_poll_t){.sh = ~0u}, 0, 0);
  p = liar_pair_of(w, liar.id);
  if (p != NULL)
    cut_pair_dead(p, 0);
  for (int rc; (rc = vppcom_session_accept(listener, NULL, O_NONBLOCK)) >= 0;)
    (void)vppcom_session_close((uint32_t)rc);
  REQUIRE(liar_pair_of(w, liar.id) == NULL);
  memset(w->cut->dest, 0, sizeof w->cut->dest);
  w->cut->n_gone = 0; /* the broker knows none of them */
  worker_leave(w);
  return 0;
}
