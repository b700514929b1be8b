/*
 * Types of configuration values: text → field, and the text that says what a key allows.
 *
 * Called by config.c for each scalar and each default, at start only.
 */
#include "svc/config_keys.h"

#include "abi/seg.h"
#include "base/bits.h"
#include "base/err.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** Decimal or 0x number with an optional suffix, factors of `step`. 0 or -EINVAL. */
static int config_number(const char *text, uint64_t step, uint64_t *out) {
  char *end;
  if (!isdigit((unsigned char)text[0]))
    return -EINVAL;
  errno = 0;
  int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
  unsigned long long v = strtoull(text, &end, base);
  if (errno != 0)
    return -EINVAL;
  uint64_t factor = 1;
  if (step > 0 && *end != '\0') {
    switch (*end++) {
    case 'k':
    case 'K':
      factor = step;
      break;
    case 'M':
      factor = step * step;
      break;
    case 'G':
      factor = step * step * step;
      break;
    default:
      return -EINVAL;
    }
  }
  if (*end != '\0' || v > UINT64_MAX / factor)
    return -EINVAL;
  *out = v * factor;
  return 0;
}

static int config_set_number(const struct config_key *k, void *field, const char *text, uint64_t step) {
  uint64_t v;
  if (config_number(text, step, &v) < 0)
    return -EINVAL;
  if (!(v == 0 && (k->flags & CONFIG_OR_ZERO) != 0)) {
    if (v < k->lo || v > k->hi)
      return -EINVAL;
    if ((k->flags & CONFIG_POW2) != 0 && !bits_is_pow2(v))
      return -EINVAL;
    if ((k->flags & CONFIG_MIB) != 0 && v % (1u << 20) != 0)
      return -EINVAL;
  }
  if (k->size == 4) {
    uint32_t small = (uint32_t)v;
    memcpy(field, &small, 4);
  } else {
    memcpy(field, &v, 8);
  }
  return 0;
}

static int config_set_text(const struct config_key *k, void *field, const char *text) {
  size_t len = strlen(text);
  if (len < k->lo || len > k->hi || len >= k->size)
    return -EINVAL;
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
      return -EINVAL;
  if (k->type == CONFIG_PATH && len > 0 && text[0] != '/')
    return -EINVAL;
  memset(field, 0, k->size);
  memcpy(field, text, len);
  return 0;
}

/** A word of the list; `stored` as text or as number. */
static int config_set_choice(const struct config_key *k, void *field, const char *text) {
  size_t len = strlen(text);
  int n = (int)k->lo;
  for (const char *p = k->words; *p != '\0'; n++) {
    size_t w = strcspn(p, " ");
    if (w == len && memcmp(p, text, w) == 0) {
      if (k->size != sizeof n) { /* a text field */
        memset(field, 0, k->size);
        memcpy(field, text, HS_MIN(len, (size_t)k->size - 1));
      } else {
        memcpy(field, &n, sizeof n);
      }
      return 0;
    }
    p += w;
    p += strspn(p, " ");
  }
  return -EINVAL;
}

static int config_set_bool(void *field, const char *text) {
  int v;
  if (strcmp(text, "true") == 0 || strcmp(text, "yes") == 0 || strcmp(text, "on") == 0)
    v = 1;
  else if (strcmp(text, "false") == 0 || strcmp(text, "no") == 0 || strcmp(text, "off") == 0)
    v = 0;
  else
    return -EINVAL;
  memcpy(field, &v, sizeof v);
  return 0;
}

static int config_set_int(const struct config_key *k, void *field, const char *text) {
  char *end;
  errno = 0;
  long v = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || v < (long)(int64_t)k->lo || v > (long)(int64_t)k->hi)
    return -EINVAL;
  int small = (int)v;
  memcpy(field, &small, sizeof small);
  return 0;
}

static int config_set_percent(void *field, const char *text) {
  char *end;
  if (!isdigit((unsigned char)text[0]) || strpbrk(text, "xXpPeE") != NULL)
    return -EINVAL;
  double v = strtod(text, &end);
  if (*end == '%')
    end++;
  if (*end != '\0' || !(v >= 0.0 && v <= 100.0))
    return -EINVAL;
  memcpy(field, &v, sizeof v);
  return 0;
}

static int config_set_octal(const struct config_key *k, void *field, const char *text) {
  char *end;
  if (strncmp(text, "0o", 2) == 0)
    text += 2;
  if (text[0] < '0' || text[0] > '7')
    return -EINVAL;
  unsigned long v = strtoul(text, &end, 8);
  if (*end != '\0' || v < k->lo || v > k->hi)
    return -EINVAL;
  uint32_t small = (uint32_t)v;
  memcpy(field, &small, sizeof small);
  return 0;
}

static int config_set_mac(void *field, const char *text) {
  uint8_t mac[6];
  int zero = 1;
  if (strlen(text) != 17)
    return -EINVAL;
  for (int i = 0; i < 6; i++) {
    const char *p = text + i * 3;
    if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) || (i < 5 && p[2] != ':'))
      return -EINVAL;
    mac[i] = (uint8_t)strtoul((const char[]){p[0], p[1], 0}, NULL, 16);
    zero &= mac[i] == 0;
  }
  if (zero || (mac[0] & 1) != 0)
    return -EINVAL;
  memcpy(field, mac, sizeof mac);
  return 0;
}

/** 16 bytes, IPv4 mapped. Returns the family 4 or 6, or -EINVAL. */
static int config_ip(const char *text, uint8_t ip[16]) {
  struct in_addr v4;
  if (inet_pton(AF_INET, text, &v4) == 1) {
    memset(ip, 0, 10);
    ip[10] = ip[11] = 0xff;
    memcpy(ip + 12, &v4, 4);
    return 4;
  }
  return inet_pton(AF_INET6, text, ip) == 1 ? 6 : -EINVAL;
}

static int config_set_via(struct config_route *r, const char *text) {
  uint8_t ip[16];
  int family = config_ip(text, ip);
  if (family < 0)
    return -EINVAL;
  memcpy(r->via, ip, sizeof ip);
  r->has_via = family;
  return 0;
}

/** "a.b.c.d/n": address, length and family next to each other as in config_addr and config_route. */
static int config_set_prefix(const struct config_key *k, void *base, const char *text) {
  char buf[64];
  uint8_t ip[16];
  uint64_t bits;
  size_t len = strlen(text);
  int of_addr = k->off == offsetof(struct config_addr, ip) && k->lo == 1;
  int dhcp = strcmp(text, "dhcp") == 0;
  if (of_addr && (dhcp || strcmp(text, "auto") == 0)) {
    struct config_addr *a = base;
    a->family = dhcp ? 4 : 6;
    a->how = dhcp ? CONFIG_ADDR_DHCP : CONFIG_ADDR_AUTO;
    return 0;
  }
  if (len >= sizeof buf)
    return -EINVAL;
  memcpy(buf, text, len + 1);
  char *slash = strchr(buf, '/');
  if (slash == NULL)
    return -EINVAL;
  *slash = '\0';
  int family = config_ip(buf, ip);
  if (family < 0 || config_number(slash + 1, 0, &bits) < 0 || bits > (family == 4 ? 32u : 128u))
    return -EINVAL;
  if (of_addr) {
    struct config_addr *a = base;
    memcpy(a->ip, ip, sizeof ip);
    a->prefix = (uint32_t)bits;
    a->family = family;
  } else {
    struct config_route *r = base;
    memcpy(r->dst, ip, sizeof ip);
    r->prefix = (uint32_t)bits;
    r->family = family;
  }
  return 0;
}

static int config_set_url(const struct config_key *k, void *field, const char *text) {
  static const char *const schemes[] = {"ipc:///", "tcp://", "ws://"};
  for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
    if (strncmp(text, schemes[i], strlen(schemes[i])) == 0 && text[strlen(schemes[i])] != '\0')
      return config_set_text(k, field, text);
  return -EINVAL;
}

/** One more net of a namespace. */
static int config_set_net(struct config_ns *n, const char *text) {
  char buf[64];
  struct config_net *net = &n->net[n->n_nets];
  size_t len = strlen(text);
  if (n->n_nets == CONFIG_NETS_MAX || len >= sizeof buf)
    return -EINVAL;
  memcpy(buf, text, len + 1);
  char *slash = strchr(buf, '/');
  if (slash != NULL)
    *slash = '\0';
  int family = config_ip(buf, net->ip);
  uint64_t most = family == 4 ? 32 : 128, bits = most;
  if (family < 0 || (slash != NULL && (config_number(slash + 1, 0, &bits) < 0 || bits > most)))
    return -EINVAL;
  net->bits = (uint32_t)bits + (family == 4 ? 96u : 0u);
  for (uint32_t i = net->bits; i < 128; i++)
    if ((net->ip[i / 8] >> (7 - i % 8)) & 1)
      return -EINVAL; /* bits behind the prefix */
  n->n_nets++;
  return 0;
}

int config_value_set(const struct config_key *k, void *base, const char *text) {
  void *field = (uint8_t *)base + k->off;
  switch (k->type) {
  case CONFIG_STR:
  case CONFIG_PATH:
    return config_set_text(k, field, text);
  case CONFIG_CHOICE:
    return config_set_choice(k, field, text);
  case CONFIG_BOOL:
    return config_set_bool(field, text);
  case CONFIG_U32:
  case CONFIG_U64:
    return config_set_number(k, field, text, 0);
  case CONFIG_SIZE:
    return config_set_number(k, field, text, 1024);
  case CONFIG_RATE:
    return config_set_number(k, field, text, 1000);
  case CONFIG_INT:
    return config_set_int(k, field, text);
  case CONFIG_PERCENT:
    return config_set_percent(field, text);
  case CONFIG_OCTAL:
    return config_set_octal(k, field, text);
  case CONFIG_MAC:
    return config_set_mac(field, text);
  case CONFIG_IP:
    return config_set_via(base, text);
  case CONFIG_PREFIX:
    return config_set_prefix(k, base, text);
  case CONFIG_URL:
    return config_set_url(k, field, text);
  case CONFIG_NETS:
    return config_set_net(base, text);
  }
  return -EINVAL;
}

const char *config_choice_text(const struct config_key *k, int n, char *buf, size_t len) {
  const char *p = k->words;
  for (int i = (int)k->lo; i < n && *p != '\0'; i++) {
    p += strcspn(p, " ");
    p += strspn(p, " ");
  }
  size_t w = strcspn(p, " ");
  snprintf(buf, len, "%.*s", w ? (int)w : 1, w && n >= (int)k->lo ? p : "?");
  return buf;
}

const char *config_size_text(uint64_t v, char *buf, size_t len) {
  static const char suffix[] = {'G', 'M', 'k'};
  for (unsigned i = 0; i < 3; i++) {
    uint64_t unit = 1ull << (30 - 10 * i);
    if (v >= unit && v % unit == 0) {
      snprintf(buf, len, "%llu%c", (unsigned long long)(v / unit), suffix[i]);
      return buf;
    }
  }
  snprintf(buf, len, "%llu", (unsigned long long)v);
  return buf;
}

static void config_number_allowed(const struct config_key *k, char *buf, size_t len) {
  char lo[24], hi[24];
  if (k->type == CONFIG_SIZE) {
    config_size_text(k->lo, lo, sizeof lo);
    config_size_text(k->hi, hi, sizeof hi);
  } else if (k->type == CONFIG_INT) {
    snprintf(lo, sizeof lo, "%lld", (long long)k->lo);
    snprintf(hi, sizeof hi, "%lld", (long long)k->hi);
  } else {
    snprintf(lo, sizeof lo, k->type == CONFIG_OCTAL ? "%#llo" : "%llu", (unsigned long long)k->lo);
    snprintf(hi, sizeof hi, k->type == CONFIG_OCTAL ? "%#llo" : "%llu", (unsigned long long)k->hi);
  }
  const char *extra = (k->flags & CONFIG_POW2) != 0  ? ", a power of two"
                      : (k->flags & CONFIG_MIB) != 0 ? ", a multiple of 1M"
                                                     : "";
  snprintf(buf, len, "%s%s to %s%s", (k->flags & CONFIG_OR_ZERO) != 0 ? "0, " : "", lo, hi, extra);
}

const char *config_value_allowed(const struct config_key *k, char *buf, size_t len) {
  switch (k->type) {
  case CONFIG_STR:
    snprintf(buf, len, "text of %llu to %llu bytes", (unsigned long long)k->lo, (unsigned long long)k->hi);
    break;
  case CONFIG_PATH:
    snprintf(buf, len, "absolute path of at most %llu bytes", (unsigned long long)k->hi);
    break;
  case CONFIG_CHOICE: {
    size_t n = 0;
    for (const char *p = k->words; *p != '\0' && n + 4 < len; p++) {
      if (*p == ' ')
        n += (size_t)snprintf(buf + n, len - n, ", ");
      else
        buf[n++] = *p;
    }
    buf[n] = '\0';
    break;
  }
  case CONFIG_BOOL:
    snprintf(buf, len, "true, false");
    break;
  case CONFIG_PERCENT:
    snprintf(buf, len, "0 to 100");
    break;
  case CONFIG_MAC:
    snprintf(buf, len, "unicast MAC as 02:00:00:00:00:01");
    break;
  case CONFIG_IP:
    snprintf(buf, len, "IPv4 or IPv6 address");
    break;
  case CONFIG_PREFIX:
    snprintf(buf, len, k->lo == 1 ? "IPv4 or IPv6 address/length, auto, dhcp" : "IPv4 or IPv6 address/length");
    break;
  case CONFIG_URL:
    snprintf(buf, len, "ipc:///PATH, tcp://HOST:PORT or ws://HOST:PORT/PATH");
    break;
  case CONFIG_NETS:
    snprintf(buf, len, "at most %d of: address, network address/length", CONFIG_NETS_MAX);
    break;
  default:
    config_number_allowed(k, buf, len);
  }
  return buf;
}
