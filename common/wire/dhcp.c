/*
 * DHCPv4 messages (RFC 2131, 2132). Parser and builder of the options lie side by side. Called by the engine's DHCP
 * client, a few times per lease.
 */
#include "wire/dhcp.h"
#include "base/bits.h"

#define DHCP_FIXED  240u /* with the cookie */
#define DHCP_COOKIE 0x63825363u
#define DHCP_PADDED 300u
#define DHCP_SNAME  44u
#define DHCP_FILE   108u

enum {
  DHCP_OPT_PAD = 0,
  DHCP_OPT_MASK = 1,
  DHCP_OPT_ROUTER = 3,
  DHCP_OPT_MTU = 26,
  DHCP_OPT_REQUESTED = 50,
  DHCP_OPT_LEASE = 51,
  DHCP_OPT_OVERLOAD = 52,
  DHCP_OPT_TYPE = 53,
  DHCP_OPT_SERVER = 54,
  DHCP_OPT_WANTED = 55,
  DHCP_OPT_LARGEST = 57,
  DHCP_OPT_T1 = 58,
  DHCP_OPT_T2 = 59,
  DHCP_OPT_CLIENT = 61,
  DHCP_OPT_END = 255,
};

/* Options of four bytes, and where they go. */
static const struct {
  uint8_t code;
  uint16_t has;
  uint16_t at;
} dhcp_words[] = {
    {DHCP_OPT_MASK, DHCP_HAS_MASK, offsetof(struct dhcp_msg, mask)},
    {DHCP_OPT_ROUTER, DHCP_HAS_ROUTER, offsetof(struct dhcp_msg, router)},
    {DHCP_OPT_REQUESTED, DHCP_HAS_REQUESTED, offsetof(struct dhcp_msg, requested)},
    {DHCP_OPT_LEASE, DHCP_HAS_LEASE, offsetof(struct dhcp_msg, lease_s)},
    {DHCP_OPT_SERVER, DHCP_HAS_SERVER, offsetof(struct dhcp_msg, server)},
    {DHCP_OPT_T1, DHCP_HAS_T1, offsetof(struct dhcp_msg, t1_s)},
    {DHCP_OPT_T2, DHCP_HAS_T2, offsetof(struct dhcp_msg, t2_s)},
};

static void dhcp_word_take(const uint8_t *p, uint8_t code, unsigned size, struct dhcp_msg *out) {
  for (unsigned i = 0; i < ARRAY_LEN(dhcp_words); i++) {
    int list = code == DHCP_OPT_ROUTER && size >= 4 && size % 4 == 0; /* of several routers the first */
    if (dhcp_words[i].code != code || out->present & dhcp_words[i].has || (size != 4 && !list))
      continue;
    uint32_t v = load_be32(p);
    memcpy((uint8_t *)out + dhcp_words[i].at, &v, sizeof v);
    out->present |= dhcp_words[i].has;
  }
}

static void dhcp_opt_take(const uint8_t *p, uint8_t code, unsigned size, struct dhcp_msg *out, unsigned *overload) {
  if (code == DHCP_OPT_TYPE && size == 1 && out->type == 0) {
    out->type = p[0];
  } else if (code == DHCP_OPT_OVERLOAD && size == 1) {
    *overload = p[0];
  } else if (code == DHCP_OPT_MTU && size == 2 && !(out->present & DHCP_HAS_MTU)) {
    out->mtu = load_be16(p);
    out->present |= DHCP_HAS_MTU;
  } else {
    dhcp_word_take(p, code, size, out);
  }
}

/* Options in [at, end). Returns 0 or WIRE_*. */
static int dhcp_opts_walk(const uint8_t *p, size_t at, size_t end, struct dhcp_msg *out, unsigned *overload) {
  for (unsigned n = 0; at < end && p[at] != DHCP_OPT_END;) {
    if (p[at] == DHCP_OPT_PAD) {
      at++;
      continue;
    }
    if (++n > DHCP_OPTS_MAX)
      return WIRE_LIMIT;
    if (end - at < 2 || p[at + 1] > end - at - 2)
      return WIRE_LENGTH;
    dhcp_opt_take(p + at + 2, p[at], p[at + 1], out, overload);
    at += 2u + p[at + 1];
  }
  return 0;
}

int dhcp_msg_parse(const uint8_t *p, size_t len, struct dhcp_msg *out) {
  unsigned overload = 0, ignored = 0;
  if (len < DHCP_LEN_MIN)
    return WIRE_SHORT;
  if (p[1] != 1 || p[2] != 6 || load_be32(p + 236) != DHCP_COOKIE)
    return WIRE_VERSION;
  memset(out, 0, sizeof *out);
  out->op = p[0];
  out->xid = load_be32(p + 4);
  out->secs = load_be16(p + 8);
  out->flags = load_be16(p + 10);
  out->ciaddr = load_be32(p + 12);
  out->yiaddr = load_be32(p + 16);
  out->chaddr = mac_addr_load(p + 28);
  int err = dhcp_opts_walk(p, DHCP_FIXED, len, out, &overload);
  if (err == 0 && overload & 1) /* RFC 2131 4.1: first file, then sname */
    err = dhcp_opts_walk(p, DHCP_FILE, DHCP_FILE + 128, out, &ignored);
  if (err == 0 && overload & 2)
    err = dhcp_opts_walk(p, DHCP_SNAME, DHCP_SNAME + 64, out, &ignored);
  if (err < 0)
    return err;
  return out->type < DHCP_DISCOVER || out->type > DHCP_RELEASE ? WIRE_VALUE : (int)len;
}

static size_t dhcp_client_put(uint8_t *p, const struct dhcp_msg *in) {
  static const uint8_t wanted[] = {DHCP_OPT_MASK,   DHCP_OPT_ROUTER, DHCP_OPT_MTU, DHCP_OPT_LEASE,
                                   DHCP_OPT_SERVER, DHCP_OPT_T1,     DHCP_OPT_T2};
  static const uint8_t largest[] = {DHCP_OPT_LARGEST, 2, 0x05, 0xdc}; /* 1500 */
  size_t at = 0;
  p[at++] = DHCP_OPT_CLIENT; /* RFC 2132 9.14: hardware type and address */
  p[at++] = 7;
  p[at++] = 1;
  memcpy(p + at, in->chaddr.b, 6);
  at += 6;
  p[at++] = DHCP_OPT_WANTED;
  p[at++] = sizeof wanted;
  memcpy(p + at, wanted, sizeof wanted);
  at += sizeof wanted;
  memcpy(p + at, largest, sizeof largest);
  return at + sizeof largest;
}

int dhcp_msg_build(uint8_t *p, size_t room, const struct dhcp_msg *in) {
  if (room < DHCP_LEN_BUILT)
    return WIRE_ROOM;
  memset(p, 0, DHCP_LEN_BUILT);
  p[0] = in->op;
  p[1] = 1;
  p[2] = 6;
  store_be32(p + 4, in->xid);
  store_be16(p + 8, in->secs);
  store_be16(p + 10, in->flags);
  store_be32(p + 12, in->ciaddr);
  store_be32(p + 16, in->yiaddr);
  memcpy(p + 28, in->chaddr.b, 6);
  store_be32(p + 236, DHCP_COOKIE);
  size_t at = DHCP_FIXED;
  p[at++] = DHCP_OPT_TYPE;
  p[at++] = 1;
  p[at++] = in->type;
  for (unsigned i = 0; i < ARRAY_LEN(dhcp_words); i++) {
    uint32_t v;
    if (!(in->present & dhcp_words[i].has))
      continue;
    memcpy(&v, (const uint8_t *)in + dhcp_words[i].at, sizeof v);
    p[at++] = dhcp_words[i].code;
    p[at++] = 4;
    store_be32(p + at, v);
    at += 4;
  }
  if (in->present & DHCP_HAS_MTU) {
    p[at++] = DHCP_OPT_MTU;
    p[at++] = 2;
    store_be16(p + at, in->mtu);
    at += 2;
  }
  if (in->present & DHCP_HAS_CLIENT)
    at += dhcp_client_put(p + at, in);
  p[at++] = DHCP_OPT_END;
  return (int)HS_MAX(at, (size_t)DHCP_PADDED);
}
