/*
 * Address classes, prefixes and text. Called from configuration and control code, and (classes, prefixes) by the ip
 * room per packet. Any thread; no allocation.
 */
#include "wire/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

int ip_addr_is_any(const struct ip_addr *a) {
  return (ip_addr_hi_(a) == 0 && ip_addr_lo_(a) == 0) || (ip_addr_is4(a) && ip_addr_get4(a) == 0);
}

int ip_addr_is_loopback(const struct ip_addr *a) {
  if (ip_addr_is4(a))
    return a->b[12] == 127;
  return ip_addr_hi_(a) == 0 && ip_addr_lo_(a) == 1ull << 56;
}

int ip_addr_is_multicast(const struct ip_addr *a) {
  return ip_addr_is4(a) ? (a->b[12] & 0xf0) == 0xe0 : a->b[0] == 0xff;
}

int ip_addr_is_linklocal(const struct ip_addr *a) {
  if (ip_addr_is4(a))
    return a->b[12] == 169 && a->b[13] == 254;
  return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

int ip_addr_is_broadcast(const struct ip_addr *a) {
  return ip_addr_is4(a) && ip_addr_get4(a) == 0xffffffffu;
}

/* One half of a prefix as a mask over its 64 bits in memory order. */
static uint64_t ip_addr_half_mask(unsigned bits) {
  if (bits == 0)
    return 0;
  return __builtin_bswap64(bits >= 64 ? UINT64_MAX : ~(UINT64_MAX >> bits));
}

int ip_addr_match(const struct ip_addr *a, const struct ip_addr *b, unsigned bits) {
  uint64_t hi = (ip_addr_hi_(a) ^ ip_addr_hi_(b)) & ip_addr_half_mask(bits);
  uint64_t lo = (ip_addr_lo_(a) ^ ip_addr_lo_(b)) & ip_addr_half_mask(bits > 64 ? bits - 64 : 0);
  return (hi | lo) == 0;
}

struct ip_addr ip_addr_mask(const struct ip_addr *a, unsigned bits) {
  uint64_t hi = ip_addr_hi_(a) & ip_addr_half_mask(bits);
  uint64_t lo = ip_addr_lo_(a) & ip_addr_half_mask(bits > 64 ? bits - 64 : 0);
  struct ip_addr out;
  memcpy(out.b, &hi, 8);
  memcpy(out.b + 8, &lo, 8);
  return out;
}

int ip_addr_parse(const char *text, struct ip_addr *out) {
  uint8_t wire[16];
  if (inet_pton(AF_INET, text, wire) == 1) {
    *out = ip_addr_load4(wire);
    return 0;
  }
  if (inet_pton(AF_INET6, text, wire) == 1) {
    *out = ip_addr_load6(wire);
    return 0;
  }
  return -EINVAL;
}

char *ip_addr_format(const struct ip_addr *a, char *buf, size_t room) {
  if (room == 0)
    return buf;
  const char *text = ip_addr_is4(a) ? inet_ntop(AF_INET, a->b + 12, buf, (socklen_t)room)
                                    : inet_ntop(AF_INET6, a->b, buf, (socklen_t)room);
  if (text == NULL)
    buf[0] = 0;
  return buf;
}

int ip_addr_parse_prefix(const char *text, struct ip_addr *out, unsigned *prefix) {
  char addr[IP_ADDR_TEXT_MAX];
  const char *slash = strchr(text, '/');
  size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
  struct ip_addr a;
  if (len >= sizeof addr)
    return -EINVAL;
  memcpy(addr, text, len);
  addr[len] = 0;
  if (ip_addr_parse(addr, &a) < 0)
    return -EINVAL;
  unsigned max = ip_addr_is4(&a) ? 32 : 128;
  unsigned long n = max;
  if (slash != NULL) {
    char *end;
    if (slash[1] < '0' || slash[1] > '9') /* strtoul would take blanks and signs */
      return -EINVAL;
    n = strtoul(slash + 1, &end, 10);
    if (*end != 0 || n > max)
      return -EINVAL;
  }
  *out = a;
  *prefix = (unsigned)n;
  return 0;
}

struct mac_addr ip_addr_mcast_mac(const struct ip_addr *a) {
  if (ip_addr_is4(a))
    return (struct mac_addr){{0x01, 0x00, 0x5e, a->b[13] & 0x7f, a->b[14], a->b[15]}};
  return (struct mac_addr){{0x33, 0x33, a->b[12], a->b[13], a->b[14], a->b[15]}};
}

struct ip_addr ip_addr_solicited(const struct ip_addr *a) {
  struct ip_addr s = {{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff, a->b[13], a->b[14], a->b[15]}};
  return s;
}

struct ip_addr ip_addr_linklocal(const struct mac_addr *mac) {
  const uint8_t *m = mac->b;
  struct ip_addr a = {{0xfe, 0x80, 0, 0, 0, 0, 0, 0, (uint8_t)(m[0] ^ 0x02), m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}};
  return a;
}

int mac_addr_is_broadcast(const struct mac_addr *m) {
  static const struct mac_addr all = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  return mac_addr_eq(m, &all);
}

int mac_addr_is_zero(const struct mac_addr *m) {
  static const struct mac_addr zero;
  return mac_addr_eq(m, &zero);
}

static int mac_addr_nibble(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

int mac_addr_parse(const char *text, struct mac_addr *out) {
  struct mac_addr m;
  if (strlen(text) != MAC_ADDR_TEXT_MAX - 1)
    return -EINVAL;
  for (unsigned i = 0; i < 6; i++) {
    int hi = mac_addr_nibble(text[3 * i]), lo = mac_addr_nibble(text[3 * i + 1]);
    if (hi < 0 || lo < 0 || (i < 5 && text[3 * i + 2] != ':'))
      return -EINVAL;
    m.b[i] = (uint8_t)(hi << 4 | lo);
  }
  *out = m;
  return 0;
}

char *mac_addr_format(const struct mac_addr *m, char *buf, size_t room) {
  const uint8_t *b = m->b;
  int n = snprintf(buf, room, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
  if (room > 0 && (n < 0 || (size_t)n >= room))
    buf[0] = 0;
  return buf;
}
