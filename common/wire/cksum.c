/*
 * Internet checksum (RFC 1071). The one's complement sum does not mind the width of its words: 32-bit halves are added
 * into 64-bit accumulators, which cannot overflow below 2^32 words, and are folded at the end. With AVX2 (asked of the
 * processor once per call, one load) 64 bytes go per round; else 32 bytes in plain registers.
 *
 * Hot path of engine and nicio; pure functions, any thread.
 */
#include "wire/cksum.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define CKSUM_WIDE     1
#define CKSUM_WIDE_MIN 128u /* below it the scalar loop is as fast */
#endif

static inline uint64_t cksum_load64(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

static inline uint64_t cksum_halves(uint64_t v) {
  return (v & 0xffffffffu) + (v >> 32);
}

/* The last 0..7 bytes as a number, zero-padded behind (RFC 1071 1). */
static inline uint64_t cksum_tail(const uint8_t *p, size_t n) {
  uint64_t v = 0;
  unsigned shift = 0;
  if (n & 4) {
    uint32_t w;
    memcpy(&w, p, sizeof w);
    v = w;
    shift = 32;
    p += 4;
  }
  if (n & 2) {
    uint16_t w;
    memcpy(&w, p, sizeof w);
    v |= (uint64_t)w << shift;
    shift += 16;
    p += 2;
  }
  if (n & 1)
    v |= (uint64_t)*p << shift;
  return v;
}

static uint64_t cksum_add_plain(const uint8_t *p, size_t len) {
  uint64_t a = 0, b = 0, c = 0, d = 0;
  for (; len >= 32; p += 32, len -= 32) {
    a += cksum_halves(cksum_load64(p));
    b += cksum_halves(cksum_load64(p + 8));
    c += cksum_halves(cksum_load64(p + 16));
    d += cksum_halves(cksum_load64(p + 24));
  }
  for (; len >= 8; p += 8, len -= 8)
    a += cksum_halves(cksum_load64(p));
  return a + b + c + d + cksum_halves(cksum_tail(p, len));
}

static uint64_t cksum_copy_plain(uint8_t *to, const uint8_t *p, size_t len) {
  uint64_t a = 0, b = 0;
  for (; len >= 16; p += 16, to += 16, len -= 16) {
    uint64_t v = cksum_load64(p), w = cksum_load64(p + 8);
    memcpy(to, &v, 8);
    memcpy(to + 8, &w, 8);
    a += cksum_halves(v);
    b += cksum_halves(w);
  }
  for (size_t i = 0; i < len; i++)
    to[i] = p[i];
  uint64_t last = 0;
  if (len >= 8) {
    last = cksum_halves(cksum_load64(p));
    p += 8;
    len -= 8;
  }
  return a + b + last + cksum_halves(cksum_tail(p, len));
}

#ifdef CKSUM_WIDE

struct cksum_wide {
  __m256i lo, hi; /* sums of the low and of the high halves of 64-bit lanes */
};

__attribute__((target("avx2"))) static inline void cksum_wide_add(struct cksum_wide *s, __m256i v) {
  s->lo = _mm256_add_epi64(s->lo, _mm256_blend_epi32(v, _mm256_setzero_si256(), 0xaa));
  s->hi = _mm256_add_epi64(s->hi, _mm256_srli_epi64(v, 32));
}

__attribute__((target("avx2"))) static inline uint64_t cksum_wide_total(const struct cksum_wide *s,
                                                                        const struct cksum_wide *t) {
  uint64_t lane[4];
  __m256i v = _mm256_add_epi64(_mm256_add_epi64(s->lo, s->hi), _mm256_add_epi64(t->lo, t->hi));
  _mm256_storeu_si256((__m256i *)lane, v);
  return lane[0] + lane[1] + lane[2] + lane[3];
}

/* len is a multiple of 64. */
__attribute__((target("avx2"))) static uint64_t cksum_add_wide(const uint8_t *p, size_t len) {
  struct cksum_wide s = {_mm256_setzero_si256(), _mm256_setzero_si256()}, t = s;
  for (const uint8_t *end = p + len; p < end; p += 64) {
    cksum_wide_add(&s, _mm256_loadu_si256((const __m256i *)(const void *)p));
    cksum_wide_add(&t, _mm256_loadu_si256((const __m256i *)(const void *)(p + 32)));
  }
  return cksum_wide_total(&s, &t);
}

__attribute__((target("avx2"))) static uint64_t cksum_copy_wide(uint8_t *to, const uint8_t *p, size_t len) {
  struct cksum_wide s = {_mm256_setzero_si256(), _mm256_setzero_si256()}, t = s;
  for (const uint8_t *end = p + len; p < end; p += 64, to += 64) {
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
    _mm256_storeu_si256((__m256i *)(void *)to, v);
    _mm256_storeu_si256((__m256i *)(void *)(to + 32), w);
    cksum_wide_add(&s, v);
    cksum_wide_add(&t, w);
  }
  return cksum_wide_total(&s, &t);
}

#endif

cksum_t cksum_add(cksum_t sum, const void *data, size_t len) {
  const uint8_t *p = data;
  uint64_t s = 0;
#ifdef CKSUM_WIDE
  if (len >= CKSUM_WIDE_MIN && __builtin_cpu_supports("avx2")) {
    size_t wide = len & ~(size_t)63;
    s = cksum_add_wide(p, wide);
    p += wide;
    len -= wide;
  }
#endif
  return cksum_join(sum, s + cksum_add_plain(p, len));
}

cksum_t cksum_copy(void *dst, const void *src, size_t len, cksum_t sum) {
  uint8_t *to = dst;
  const uint8_t *p = src;
  uint64_t s = 0;
#ifdef CKSUM_WIDE
  if (len >= CKSUM_WIDE_MIN && __builtin_cpu_supports("avx2")) {
    size_t wide = len & ~(size_t)63;
    s = cksum_copy_wide(to, p, wide);
    p += wide;
    to += wide;
    len -= wide;
  }
#endif
  return cksum_join(sum, s + cksum_copy_plain(to, p, len));
}

cksum_t cksum_pseudo4(uint32_t src_host, uint32_t dst_host, uint8_t proto, uint32_t len) {
  return (uint64_t)__builtin_bswap32(src_host) + __builtin_bswap32(dst_host) + ((uint64_t)proto << 8) +
         __builtin_bswap32(len);
}

cksum_t cksum_pseudo6(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint32_t len) {
  uint64_t s = ((uint64_t)proto << 8) + __builtin_bswap32(len);
  for (unsigned i = 0; i < 16; i += 8)
    s += cksum_halves(cksum_load64(src->b + i)) + cksum_halves(cksum_load64(dst->b + i));
  return s;
}

cksum_t cksum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint32_t len) {
  if (ip_addr_is4(src))
    return cksum_pseudo4(ip_addr_get4(src), ip_addr_get4(dst), proto, len);
  return cksum_pseudo6(src, dst, proto, len);
}

int cksum_l4_ok(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, const void *msg, size_t len) {
  return cksum_fold(cksum_add(cksum_pseudo(src, dst, proto, (uint32_t)len), msg, len)) == 0;
}

uint16_t cksum_update16(uint16_t field, uint16_t old_host, uint16_t new_host) {
  uint64_t s = (uint64_t)(uint16_t)~field + (uint16_t)~__builtin_bswap16(old_host) + __builtin_bswap16(new_host);
  return cksum_fold(s);
}

uint16_t cksum_update32(uint16_t field, uint32_t old_host, uint32_t new_host) {
  uint64_t s = (uint64_t)(uint16_t)~field + (uint32_t)~__builtin_bswap32(old_host) + __builtin_bswap32(new_host);
  return cksum_fold(s);
}
