/*
 * Fuzz target over cut-through for datagrams with a hostile peer (vcl/branch.c): the input is a program of what the
 * other side of a pair does (connects, accepts, sends, leaves, closes; or lies: headers, want words, generations,
 * cursors, any word at all), and of what our program does in between. Byte 0 says which side is ours: one that
 * connected, one that sends without, or one that is bound.
 *
 * Oracle: until the first lie a twin knows each datagram that was sent and not read: recv gives just these, per sender
 * in order, with their length and bytes, also after the other side's death, and none is lost. After a lie the source
 * of whatever comes is still one that the branch may have, no call gives more than was asked for, the session lives,
 * nothing of the pair is left when it is gone, and an honest peer is heard and answered afterwards. Corpus in
 * corpus/branch.
 */
#include "abi/dgram.h"
#include "base/bits.h"
#include "pair_liar.h"
#include "vcl_branch.h"
#include "vcl_dgram.h"

#include <poll.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PORT  7700  /* of ours that is bound */
#define GOAL  7701  /* where ours that connects is connected to */
#define NEAR  40000 /* port of the other side's socket n is NEAR + n */
#define OPS   400   /* of one input */
#define SIDES 3u    /* the other side's sockets */
#define CHUNK (1u << 20)
#define QUEUE 64u

/** What the other side's socket has sent, honestly. */
struct twin {
  uint32_t slot, gen, tail;
  uint8_t up, left, closed;
  uint32_t head, n;
  struct {
    uint32_t len;
    uint8_t tag;
  } sent[QUEUE];
};

static struct fake fake;
static uint32_t bound, connected, roaming, sink, sessions;
static uint8_t bytes[1 << 17];

struct play {
  struct worker *w;
  struct liar liar;
  struct twin twin[SIDES];
  struct session *s; /* ours */
  uint32_t h;
  uint32_t hints;
  int client, roams, lied;
};

static void teardown(void) {
  vppcom_app_destroy();
  fake_stop(&fake);
}

static uint32_t live(const struct worker *w) {
  uint32_t n = 0;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1))
    n++;
  return n;
}

static uint32_t udp(uint16_t bind_to, uint16_t connect_to) {
  uint8_t ip[16];
  vppcom_endpt_t near = liar_endpoint(ip, bind_to);
  int h = vppcom_session_create(VPPCOM_PROTO_UDP, 1);
  REQUIRE(h >= 0);
  if (bind_to != 0)
    REQUIRE(vppcom_session_bind((uint32_t)h, &near) == 0);
  vppcom_endpt_t far = liar_endpoint(ip, connect_to);
  if (connect_to != 0)
    REQUIRE(vppcom_session_connect((uint32_t)h, &far) == 0);
  far = liar_endpoint(ip, GOAL);
  if (connect_to == 0 && bind_to == 0)
    REQUIRE(vppcom_session_sendto((uint32_t)h, bytes, 1, 0, &far) == 1); /* it is open from then on */
  REQUIRE(vppcom_session_recvfrom((uint32_t)h, bytes, 1, 0, NULL) == VPPCOM_EAGAIN);
  return (uint32_t)h;
}

static void setup(void) {
  if (app_state.created)
    return;
  REQUIRE(fake_start(&fake) == 0 && atexit(teardown) == 0 && vppcom_app_create("fuzz") == 0);
  sink = udp(GOAL, 0); /* what goes through the engine is dropped here, not refused */
  bound = udp(PORT, 0);
  connected = udp(0, GOAL);
  roaming = udp(0, 0);
  sessions = 4;
}

static void pump(struct play *p) {
  p->hints = 0;
  (void)vppcom_poll(&(vcl_poll_t){.sh = ~0u}, 0, 0);
}

/** A hint; the ring has room for what nobody looks at for a while. */
static void tell(struct play *p, uint32_t slot) {
  hint(&p->liar, slot);
  if (++p->hints == 16)
    pump(p);
}

static const struct abi_sess_app *ours(const struct play *p, uint32_t slot) {
  return (const struct abi_sess_app *)(const void *)(p->liar.theirs + p->liar.g.slots_off) + slot;
}

/* --- the other side, honest --- */

static void say_up(struct play *p, struct twin *t, uint32_t gen) {
  struct abi_sess_app *a = half(&p->liar, t->slot);
  t->up = 1;
  t->left = t->closed = 0;
  t->tail = 0;
  a->tx_chunk[0] = (struct abi_chunk){
      .len = CHUNK, .unit = (uint32_t)((p->liar.g.arena_off + t->slot % SIDES * CHUNK) / ABI_CHUNK_UNIT)};
  a->tx = (struct abi_fifo_prod){.chunk_tail = 1};
  t->gen = gen;
  __atomic_store_n(&a->gen, gen, __ATOMIC_RELEASE);
  __atomic_store_n(&a->accepted, gen, __ATOMIC_RELEASE);
}

/** A socket of it connects to our bound one. */
static void say_connect(struct play *p, uint32_t k) {
  struct twin *t = &p->twin[k];
  struct abi_sess_app *a = half(&p->liar, k);
  struct session *s = session_find(p->w, bound);
  if (p->client || t->up || (t->closed && (ours(p, k)->want & ABI_WANT_CLOSE) == 0))
    return;
  memset((uint8_t *)a + sizeof a->gen, 0, offsetof(struct abi_sess_app, tx_chunk) - sizeof a->gen);
  t->slot = k;
  a->req = (struct abi_request){.id = s->listener_id, .proto = VPPCOM_PROTO_UDP, .remote = s->local, .local = s->local};
  a->req.local.port = be16_from((uint16_t)(NEAR + k));
  a->pair_slot = s->slot;
  say_up(p, t, a->gen + 1);
  __atomic_store_n(&a->op, (uint32_t)ABI_OP_CONNECT, __ATOMIC_RELEASE);
  tell(p, k);
  pump(p);
  t->up = ours(p, k)->gen == t->gen && ours(p, k)->op != CUT_OP_REFUSED;
  REQUIRE(p->lied || t->up || p->s->connected);
  if (!t->up)
    a->want = ABI_WANT_CLOSE;
  t->closed = !t->up;
}

/** It accepts the branch of our connected one. */
static void say_accept(struct play *p) {
  struct twin *t = &p->twin[0];
  if (!p->client || t->up || t->closed)
    return;
  say_up(p, t, ours(p, t->slot)->gen);
  tell(p, t->slot);
}

static void say_datagram(struct play *p, uint32_t k, uint32_t len, uint8_t tag) {
  struct twin *t = &p->twin[k];
  struct abi_sess_app *a = half(&p->liar, t->slot);
  struct abi_dgram d = {.len = len, .family = 6, .port = be16_from(1), .ip = {0xee}, .local = {0xee}};
  if (!t->up || t->left || t->n - t->head == QUEUE || t->tail + sizeof d + len > CHUNK || ours(p, t->slot)->want != 0)
    return;
  uint8_t *at = p->liar.base + p->liar.g.arena_off + t->slot % SIDES * CHUNK + t->tail;
  memcpy(at, &d, sizeof d);
  memset(at + sizeof d, tag, len);
  t->tail += (uint32_t)sizeof d + len;
  t->sent[t->n % QUEUE].len = len;
  t->sent[t->n++ % QUEUE].tag = tag;
  __atomic_store_n(&a->tx.tail, t->tail, __ATOMIC_RELEASE);
  tell(p, t->slot);
}

static void say_end(struct play *p, uint32_t k, int close) {
  struct twin *t = &p->twin[k];
  struct abi_sess_app *a = half(&p->liar, t->slot);
  if (!t->up || (close && ours(p, t->slot)->rx_head != t->tail)) /* an honest one waits until all is read */
    return;
  __atomic_store_n(&a->want, a->want | ABI_WANT_SHUT_WR | ABI_WANT_SHUT_RD | (close ? ABI_WANT_CLOSE : 0),
                   __ATOMIC_RELEASE);
  t->left = 1;
  if (close) {
    t->up = 0;
    t->closed = 1;
  }
  tell(p, t->slot);
}

/** It reads what we sent. */
static void say_read(struct play *p, uint32_t k) {
  struct twin *t = &p->twin[k];
  if (t->up)
    __atomic_store_n(&half(&p->liar, t->slot)->rx_head, ours(p, t->slot)->tx.tail, __ATOMIC_RELEASE);
}

/* --- … and not --- */

static void lie(struct play *p, struct input *in) {
  static const uint32_t lens[] = {0, 1, 47, 48, 49, ABI_DGRAM_MAX, ABI_DGRAM_MAX + 1, 0x7fffffff, 0xffffffffu};
  uint32_t what = take(in, 1), slot = p->twin[(what >> 4) % SIDES].slot;
  struct abi_sess_app *a = half(&p->liar, slot);
  p->lied = 1;
  switch (what % 8) {
  case 0:
  case 1: { /* a header, and a tail that fits it or does not */
    struct abi_dgram d = {.len = lens[take(in, 1) % ARRAY_LEN(lens)], .seg = (uint16_t)take(in, 1)};
    uint32_t tail = a->tx.tail, add = take(in, 1), moved = (add & 1) != 0 ? d.len + 48u : add * 16u;
    uint64_t at = p->liar.g.arena_off + slot % SIDES * CHUNK + tail % CHUNK;
    if (at + sizeof d <= p->liar.size)
      memcpy(p->liar.base + at, &d, sizeof d);
    __atomic_store_n(&a->tx.tail, tail + moved, __ATOMIC_RELEASE);
    break;
  }
  case 2:
    __atomic_store_n(&a->want, take(in, 1), __ATOMIC_RELEASE);
    break;
  case 3:
    __atomic_store_n(&a->gen, a->gen + take(in, 1) - 128, __ATOMIC_RELEASE);
    break;
  case 4:
    __atomic_store_n(&a->op, take(in, 1), __ATOMIC_RELEASE);
    break;
  case 5:
    __atomic_store_n(&a->rx_head, ours(p, slot)->tx.tail + take(in, 1) - 128, __ATOMIC_RELEASE);
    break;
  case 6:
    a->tx_chunk[take(in, 1) & 15] = (struct abi_chunk){.start = take(in, 2), .len = take(in, 3), .unit = take(in, 2)};
    __atomic_store_n(&a->tx.chunk_tail, take(in, 1), __ATOMIC_RELEASE);
    break;
  default: /* a connect that names what it may not */
    a->req.proto = (uint8_t)(take(in, 1) & 1);
    a->req.local.port = be16_from((uint16_t)take(in, 2));
    a->pair_slot = take(in, 1);
    a->accepted = a->gen;
    __atomic_store_n(&a->op, (uint32_t)ABI_OP_CONNECT, __ATOMIC_RELEASE);
  }
  tell(p, slot);
}

/* --- our program --- */

static struct twin *twin_of(struct play *p, uint16_t port) {
  return p->client ? &p->twin[0] : port >= NEAR && port < NEAR + SIDES ? &p->twin[port - NEAR] : NULL;
}

/** One recv, against the twin. Its result. */
static int hear(struct play *p, uint32_t n, int flags) {
  uint8_t ip[16] = {0};
  vppcom_endpt_t ep = {.ip = ip};
  int rc = vppcom_session_recvfrom(p->h, bytes, n, flags, &ep);
  uint16_t port = (uint16_t)(ep.port << 8 | ep.port >> 8);
  REQUIRE(rc != -EINVAL && (rc <= (int)n || ((flags & MSG_TRUNC) != 0 && rc <= (int)ABI_DGRAM_MAX)));
  if (rc < 0) {
    for (uint32_t k = 0; k < SIDES && rc == VPPCOM_EAGAIN && !p->lied; k++)
      REQUIRE(p->twin[k].head == p->twin[k].n);
    return rc;
  }
  REQUIRE(ep.is_ip4 && ip[0] == 10 && ip[1] == 0 && ip[2] == 0 && ip[3] == 1 && port != 0);
  REQUIRE(!p->client || port == GOAL);
  if (p->lied)
    return rc;
  struct twin *t = twin_of(p, port);
  REQUIRE(t != NULL && t->head != t->n);
  uint32_t len = t->sent[t->head % QUEUE].len, got = HS_MIN(len, n);
  REQUIRE((uint32_t)rc == ((flags & MSG_TRUNC) != 0 ? len : got));
  for (uint32_t i = 0; i < got; i++)
    REQUIRE(bytes[i] == t->sent[t->head % QUEUE].tag);
  if ((flags & MSG_PEEK) == 0)
    t->head++;
  return rc;
}

static int speak(struct play *p, uint32_t n, uint32_t k) {
  uint8_t ip[16];
  vppcom_endpt_t ep = liar_endpoint(ip, p->roams ? GOAL : (uint16_t)(NEAR + k % SIDES));
  return vppcom_session_sendto(p->h, bytes, n, 0, p->s->connected ? NULL : &ep);
}

/** Ours becomes one that hears a single sender, or anybody again. */
static void aim(struct play *p, int at) {
  struct vcl_dgram peer = {.family = at ? 4 : 0, .port = be16_from(NEAR).raw, .ip = {[10] = 0xff, 0xff, 10, 0, 0, 1}};
  if (!p->client)
    REQUIRE(dgram_connect(p->s, &peer) == 0);
}

static void use(struct play *p, struct input *in) {
  uint32_t what = take(in, 1), n = take(in, 2);
  uint32_t len = sizeof(int);
  int v, rc;
  switch (what % 8) {
  case 0:
  case 1:
    (void)hear(p, n, 0);
    break;
  case 2:
    (void)hear(p, n, MSG_PEEK);
    break;
  case 3:
    (void)hear(p, n, MSG_TRUNC);
    break;
  case 4:
    rc = speak(p, n, what >> 4);
    REQUIRE(rc <= (int)n && rc != -EINVAL);
    break;
  case 5:
    (void)vppcom_session_attr(p->h, n & 1 ? VPPCOM_ATTR_GET_NREAD : VPPCOM_ATTR_GET_ERROR, &v, &len);
    break;
  case 6:
    (void)vppcom_poll(&(vcl_poll_t){.sh = p->h, .events = POLLIN | POLLOUT}, 1, 0);
    break;
  default:
    if (n % 8 == 0)
      aim(p, (what & 0x10) != 0);
  }
}

/* --- a whole play --- */

static void begin(struct play *p, struct worker *w, int client, int roams) {
  memset(p, 0, sizeof *p);
  p->w = w;
  p->client = client;
  p->roams = client && roams;
  p->h = p->roams ? roaming : client ? connected : bound;
  p->s = session_find(w, p->h);
  REQUIRE(p->s != NULL);
  for (uint32_t k = 0; k < SIDES; k++)
    p->twin[k].slot = k;
  struct cut_pair *pair = liar_pair_up(w, client, &p->liar);
  w->cut->roam_after = clock_now_us() + (1ull << 40); /* a sender asks nobody but for what was granted here */
  if (!client)
    return;
  struct abi_endpoint to = session_find(w, connected)->e->remote;
  liar_grant(w, pair, &p->liar, VPPCOM_PROTO_UDP, &to);
  if (p->roams)
    REQUIRE(speak(p, 0, 0) == 0);
  else
    branch_connected(p->s);
  REQUIRE(!list_empty(&p->s->branches));
  p->twin[0].slot = list_entry(list_first(&p->s->branches), struct session, branches)->slot;
}

/** The other side dies; what it had sent is heard, then nothing of it is left. */
static void end(struct play *p) {
  liar_end(&p->liar);
  pump(p);
  struct cut_pair *pair = liar_pair_of(p->w, p->liar.id);
  if (pair != NULL)
    cut_pair_dead(pair, 0);
  for (int i = 0; i < 10000 && hear(p, ABI_DGRAM_MAX, 0) != VPPCOM_EAGAIN; i++)
    continue;
  REQUIRE(liar_pair_of(p->w, p->liar.id) == NULL);
  REQUIRE(list_empty(&p->s->branches) && list_empty(&p->s->offers));
  REQUIRE(p->s->broken == 0 && p->s->life == SESSION_OPEN && live(p->w) == sessions);
  if (p->s->connected && !p->client)
    aim(p, 0);
  memset(p->w->cut->dest, 0, sizeof p->w->cut->dest);
  memset(p->w->cut->by_engine, 0, sizeof p->w->cut->by_engine);
  p->w->cut->n_gone = 0; /* the broker knows none of them */
}

/** An honest peer is heard and answered, by way of the pair. */
static void honest(struct worker *w, int client, int roams) {
  struct play p;
  struct abi_dgram d;
  begin(&p, w, client, roams);
  say_connect(&p, 0);
  say_accept(&p);
  say_datagram(&p, 0, 100, 'x');
  REQUIRE(hear(&p, 200, 0) == 100);
  memcpy(bytes, "hello", 5);
  REQUIRE(speak(&p, 5, 0) == 5);
  const struct abi_sess_app *a = ours(&p, p.twin[0].slot);
  uint32_t before = p.roams ? sizeof d : 0; /* an empty one */
  REQUIRE(a->tx.tail == before + sizeof d + 5 && a->tx.chunk_tail == 1);
  const uint8_t *at = p.liar.theirs + (uint64_t)a->tx_chunk[0].unit * ABI_CHUNK_UNIT + before;
  memcpy(&d, at, sizeof d);
  REQUIRE(d.len == 5 && memcmp(at + sizeof d, "hello", 5) == 0);
  end(&p);
}

static void act(struct play *p, struct input *in) {
  static const uint32_t lens[] = {0, 1, 2, 100, 1472, 9000, 65507, 3};
  uint32_t what = take(in, 1), k = p->client ? 0 : (what >> 6) % SIDES;
  switch (what % 8) {
  case 0:
  case 1:
    say_datagram(p, k, lens[(what >> 3) & 7], (uint8_t)in->left);
    break;
  case 2:
  case 3:
    use(p, in);
    break;
  case 4:
    tell(p, (what >> 3) % LIAR_SLOTS);
    break;
  case 5:
    switch ((what >> 3) & 7) {
    case 0:
    case 1:
      say_end(p, k, (what & 8) != 0);
      break;
    case 2:
    case 3:
      say_read(p, k);
      break;
    default:
      say_connect(p, k);
      say_accept(p);
    }
    break;
  case 6:
    lie(p, in);
    break;
  default:
    p->lied = 1;
    liar_scribble(&p->liar, in);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input in = {data, size};
  struct play p;
  setup();
  struct worker *w = worker_enter();
  uint32_t how = take(&in, 1);
  begin(&p, w, how & 1, how & 4);
  if ((how & 2) == 0) {
    say_connect(&p, 0);
    say_accept(&p);
  }
  for (int i = 0; i < OPS && in.left != 0; i++)
    act(&p, &in);
  end(&p);
  honest(w, how & 1, how & 4);
  worker_leave(w);
  return 0;
}
