/*
 * Neighbour discovery messages (RFC 4861 4). Parser and builder of each option lie side by side. Called by the
 * engine's ip room, not on the hot path.
 */
#include "wire/nd.h"
#include "base/bits.h"
#include "wire/icmp.h"

#define ND_OPT_SLLA   1
#define ND_OPT_TLLA   2
#define ND_OPT_PREFIX 3
#define ND_OPT_MTU    5

#define ND_LLA_LEN    8u
#define ND_PREFIX_LEN 32u
#define ND_MTU_LEN    8u

/* Bytes before the options, 0 for a type that is not ours. */
static unsigned nd_fixed_len(uint8_t type) {
  switch (type) {
  case ICMP6_RS:
    return 8;
  case ICMP6_RA:
    return 16;
  case ICMP6_NS:
  case ICMP6_NA:
    return 24;
  case ICMP6_REDIRECT:
    return 40;
  default:
    return 0;
  }
}

static void nd_prefix_take(const uint8_t *p, struct nd_msg *out) {
  struct nd_prefix x = {.prefix = ip_addr_load6(p + 16),
                        .valid_s = load_be32(p + 4),
                        .preferred_s = load_be32(p + 8),
                        .len = p[2],
                        .flags = p[3]};
  if (x.len > 128 || ip_addr_is4(&x.prefix) || out->n_prefixes == ND_PREFIXES_MAX)
    return; /* RFC 4862 5.5.3: a bad prefix option is ignored */
  out->prefixes[out->n_prefixes++] = x;
}

/* An option of another size than its RFC's is skipped like an unknown one (RFC 4861 4.6, 9). */
static void nd_opt_take(const uint8_t *p, unsigned size, struct nd_msg *out) {
  if (p[0] == ND_OPT_SLLA && size == ND_LLA_LEN) {
    out->slla = mac_addr_load(p + 2);
    out->present |= ND_HAS_SLLA;
  } else if (p[0] == ND_OPT_TLLA && size == ND_LLA_LEN) {
    out->tlla = mac_addr_load(p + 2);
    out->present |= ND_HAS_TLLA;
  } else if (p[0] == ND_OPT_MTU && size == ND_MTU_LEN) {
    out->mtu = load_be32(p + 4);
    out->present |= ND_HAS_MTU;
  } else if (p[0] == ND_OPT_PREFIX && size == ND_PREFIX_LEN) {
    nd_prefix_take(p, out);
  }
}

static int nd_opts_walk(const uint8_t *p, size_t len, size_t at, struct nd_msg *out) {
  for (unsigned n = 0; at < len; n++) {
    if (n == ND_OPTS_MAX)
      return WIRE_LIMIT;
    if (len - at < 8)
      return WIRE_LENGTH;
    unsigned size = p[at + 1] * 8u;
    if (size == 0 || size > len - at) /* RFC 4861 4.6: zero MUST be discarded */
      return WIRE_LENGTH;
    nd_opt_take(p + at, size, out);
    at += size;
  }
  return 0;
}

int nd_msg_parse(const uint8_t *p, size_t len, struct nd_msg *out) {
  if (len < ICMP_HLEN)
    return WIRE_SHORT;
  unsigned fixed = nd_fixed_len(p[0]);
  if (fixed == 0)
    return WIRE_VERSION;
  if (len < fixed)
    return WIRE_SHORT;
  if (p[1] != 0 || len > 65535)
    return WIRE_VALUE;
  memset(out, 0, sizeof *out);
  out->type = p[0];
  if (out->type == ICMP6_RA) {
    out->hop_limit = p[4];
    out->flags = p[5];
    out->lifetime_s = load_be16(p + 6);
    out->reachable_ms = load_be32(p + 8);
    out->retrans_ms = load_be32(p + 12);
  }
  if (out->type == ICMP6_NA)
    out->flags = p[4];
  if (fixed >= 24) {
    out->target = ip_addr_load6(p + 8);
    if (ip_addr_is_multicast(&out->target) || ip_addr_is4(&out->target))
      return WIRE_VALUE; /* RFC 4861 7.1; a mapped address would pass for IPv4 */
  }
  if (out->type == ICMP6_REDIRECT) {
    out->dest = ip_addr_load6(p + 24);
    if (ip_addr_is_multicast(&out->dest) || ip_addr_is4(&out->dest))
      return WIRE_VALUE; /* RFC 4861 8.1 */
  }
  int err = nd_opts_walk(p, len, fixed, out);
  return err < 0 ? err : (int)len;
}

static size_t nd_lla_put(uint8_t *p, uint8_t type, const struct mac_addr *mac) {
  p[0] = type;
  p[1] = 1;
  memcpy(p + 2, mac->b, 6);
  return ND_LLA_LEN;
}

static size_t nd_mtu_put(uint8_t *p, uint32_t mtu) {
  p[0] = ND_OPT_MTU;
  p[1] = 1;
  store_be32(p + 4, mtu);
  return ND_MTU_LEN;
}

static size_t nd_prefix_put(uint8_t *p, const struct nd_prefix *x) {
  p[0] = ND_OPT_PREFIX;
  p[1] = 4;
  p[2] = x->len;
  p[3] = x->flags;
  store_be32(p + 4, x->valid_s);
  store_be32(p + 8, x->preferred_s);
  memcpy(p + 16, x->prefix.b, 16);
  return ND_PREFIX_LEN;
}

static size_t nd_built_len(const struct nd_msg *in) {
  return nd_fixed_len(in->type) + (in->present & ND_HAS_SLLA ? ND_LLA_LEN : 0) +
         (in->present & ND_HAS_TLLA ? ND_LLA_LEN : 0) + (in->present & ND_HAS_MTU ? ND_MTU_LEN : 0) +
         in->n_prefixes * ND_PREFIX_LEN;
}

int nd_msg_build(uint8_t *p, size_t room, const struct nd_msg *in) {
  size_t fixed = nd_fixed_len(in->type), need = nd_built_len(in);
  if (fixed == 0 || in->type == ICMP6_REDIRECT || in->n_prefixes > ND_PREFIXES_MAX)
    return WIRE_VALUE;
  if (room < need)
    return WIRE_ROOM;
  memset(p, 0, need);
  p[0] = in->type;
  if (in->type == ICMP6_RA) {
    p[4] = in->hop_limit;
    p[5] = in->flags;
    store_be16(p + 6, in->lifetime_s);
    store_be32(p + 8, in->reachable_ms);
    store_be32(p + 12, in->retrans_ms);
  }
  if (in->type == ICMP6_NA)
    p[4] = in->flags;
  if (fixed == 24)
    memcpy(p + 8, in->target.b, 16);
  size_t at = fixed;
  if (in->present & ND_HAS_SLLA)
    at += nd_lla_put(p + at, ND_OPT_SLLA, &in->slla);
  if (in->present & ND_HAS_TLLA)
    at += nd_lla_put(p + at, ND_OPT_TLLA, &in->tlla);
  if (in->present & ND_HAS_MTU)
    at += nd_mtu_put(p + at, in->mtu);
  for (unsigned i = 0; i < in->n_prefixes; i++)
    at += nd_prefix_put(p + at, &in->prefixes[i]);
  return (int)at;
}
