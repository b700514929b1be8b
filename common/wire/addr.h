/*
 * IP addresses: one 16-byte type for both families, IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2), so that one key and one
 * table serve both. Bytes are in network order as on the wire. Any thread.
 */
#ifndef HS_WIRE_ADDR_H
#define HS_WIRE_ADDR_H

#include "base/bytes.h"
#include "base/err.h"

#include <stddef.h>

struct ip_addr {
  uint8_t b[16];
};

struct mac_addr {
  uint8_t b[6];
};

#define IP_ADDR_TEXT_MAX  46 /* longest text and its NUL */
#define MAC_ADDR_TEXT_MAX 18

static inline uint64_t ip_addr_hi_(const struct ip_addr *a) {
  uint64_t v;
  memcpy(&v, a->b, sizeof v);
  return v;
}
static inline uint64_t ip_addr_lo_(const struct ip_addr *a) {
  uint64_t v;
  memcpy(&v, a->b + 8, sizeof v);
  return v;
}

/** Whether it is an IPv4 address in its mapped form. */
static inline int ip_addr_is4(const struct ip_addr *a) {
  return ip_addr_hi_(a) == 0 && ((uint32_t)ip_addr_lo_(a)) == 0xffff0000u;
}

/** From an IPv4 address in host order (0x7f000001) or in wire bytes, and from IPv6 wire bytes. */
static inline struct ip_addr ip_addr_from4(uint32_t host) {
  struct ip_addr a = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}};
  store_be32(a.b + 12, host);
  return a;
}
static inline struct ip_addr ip_addr_load4(const void *wire) {
  return ip_addr_from4(load_be32(wire));
}
static inline struct ip_addr ip_addr_load6(const void *wire) {
  struct ip_addr a;
  memcpy(a.b, wire, 16);
  return a;
}

/** The IPv4 address in host order; only meaningful if ip_addr_is4. */
static inline uint32_t ip_addr_get4(const struct ip_addr *a) {
  return load_be32(a->b + 12);
}

static inline int ip_addr_eq(const struct ip_addr *a, const struct ip_addr *b) {
  return ((ip_addr_hi_(a) ^ ip_addr_hi_(b)) | (ip_addr_lo_(a) ^ ip_addr_lo_(b))) == 0;
}

/** memcmp order: < 0, 0, > 0. */
static inline int ip_addr_cmp(const struct ip_addr *a, const struct ip_addr *b) {
  return memcmp(a->b, b->b, 16);
}

/** "::" or 0.0.0.0 (RFC 4291 2.5.2, RFC 1122 3.2.1.3). */
int ip_addr_is_any(const struct ip_addr *a);
/** ::1 or 127/8. */
int ip_addr_is_loopback(const struct ip_addr *a);
/** ff00::/8 or 224/4. */
int ip_addr_is_multicast(const struct ip_addr *a);
/** fe80::/10 or 169.254/16. */
int ip_addr_is_linklocal(const struct ip_addr *a);
/** 255.255.255.255. */
int ip_addr_is_broadcast(const struct ip_addr *a);

/**
 * Whether the first `bits` bits agree. For IPv4 give bits of the mapped form: 96 + prefix length (ip_addr_bits).
 * bits 0..128.
 */
int ip_addr_match(const struct ip_addr *a, const struct ip_addr *b, unsigned bits);

/** Prefix length of this family as bits of the 16-byte form: 24 of an IPv4 address → 120. */
static inline unsigned ip_addr_bits(const struct ip_addr *a, unsigned prefix) {
  return ip_addr_is4(a) ? 96u + prefix : prefix;
}

/** Copy with all bits after the first `bits` cleared. */
struct ip_addr ip_addr_mask(const struct ip_addr *a, unsigned bits);

/** Text "10.0.0.1" or "fe80::1" (RFC 5952 on output). Returns 0 or -EINVAL; *out is unchanged on failure. */
HS_MUST_CHECK int ip_addr_parse(const char *text, struct ip_addr *out);
/** Writes text and NUL, room ≥ IP_ADDR_TEXT_MAX always fits. Returns buf ("" if room is too small). */
char *ip_addr_format(const struct ip_addr *a, char *buf, size_t room);

/** "10.0.0.0/8" or "fd00::/64"; without a slash the whole address. *prefix is of the family (0..32 or 0..128). */
HS_MUST_CHECK int ip_addr_parse_prefix(const char *text, struct ip_addr *out, unsigned *prefix);

/** Multicast Ethernet address of an IP multicast address (RFC 1112 6.4, RFC 2464 7). */
struct mac_addr ip_addr_mcast_mac(const struct ip_addr *a);
/** Solicited-node multicast address of an IPv6 address (RFC 4291 2.7.1). */
struct ip_addr ip_addr_solicited(const struct ip_addr *a);
/** fe80::/64 address by modified EUI-64 of a MAC (RFC 4291 appendix A). */
struct ip_addr ip_addr_linklocal(const struct mac_addr *mac);

static inline struct mac_addr mac_addr_load(const void *wire) {
  struct mac_addr m;
  memcpy(m.b, wire, 6);
  return m;
}
static inline int mac_addr_eq(const struct mac_addr *a, const struct mac_addr *b) {
  return memcmp(a->b, b->b, 6) == 0;
}
static inline int mac_addr_is_multicast(const struct mac_addr *m) {
  return m->b[0] & 1;
}
int mac_addr_is_broadcast(const struct mac_addr *m);
int mac_addr_is_zero(const struct mac_addr *m);
/** "02:00:00:00:00:01". Returns 0 or -EINVAL. */
HS_MUST_CHECK int mac_addr_parse(const char *text, struct mac_addr *out);
char *mac_addr_format(const struct mac_addr *m, char *buf, size_t room);

#endif
