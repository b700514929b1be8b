/*
 * Fuzz target over all packet parsers: nothing is read beyond the input, results are in their ranges, and whatever a
 * parser accepts without complaint its builder can write again, to be parsed to the same struct. The first byte chooses
 * the format; corpus in corpus/wire.
 */
#include "fuzz.h"
#include "wire/arp.h"
#include "wire/cksum.h"
#include "wire/dhcp.h"
#include "wire/eth.h"
#include "wire/icmp.h"
#include "wire/ip.h"
#include "wire/nd.h"
#include "wire/tcp.h"
#include "wire/udp.h"

static void fuzz_eth(const uint8_t *p, size_t len) {
  struct eth_hdr h, g;
  uint8_t out[ETH_HLEN_MAX];
  int n = eth_hdr_parse(p, len, &h);
  REQUIRE(n <= (int)ETH_HLEN_MAX && n <= (int)len && n != 0);
  if (n < 0)
    return;
  REQUIRE(eth_hdr_build(out, sizeof out, &h) == n);
  REQUIRE(eth_hdr_parse(out, (size_t)n, &g) == n);
  REQUIRE(memcmp(&h, &g, sizeof h) == 0);
}

static void fuzz_arp(const uint8_t *p, size_t len) {
  struct arp_pkt a;
  uint8_t out[ARP_LEN];
  if (arp_pkt_parse(p, len, &a) < 0)
    return;
  REQUIRE(arp_pkt_build(out, sizeof out, &a) == (int)ARP_LEN);
  REQUIRE(memcmp(out, p, ARP_LEN) == 0);
}

static void fuzz_ip(const uint8_t *p, size_t len) {
  struct ip_hdr h, g;
  uint8_t out[64];
  int q = ip_hdr_parse_quoted(p, len, &h);
  REQUIRE(q <= (int)len);
  int n = ip_hdr_parse(p, len, &h);
  REQUIRE(n != 0 && n <= (int)len);
  if (n < 0)
    return;
  REQUIRE(q == n); /* a whole packet is a good quotation */
  REQUIRE(h.hdr_len == n && h.hdr_len <= h.total_len && h.total_len <= len);
  REQUIRE(h.version == 4 || h.version == 6);
  REQUIRE(ip_addr_is4(&h.src) == (h.version == 4));
  REQUIRE(h.frag_off + h.total_len - h.hdr_len <= 65535 + (h.version == 6 ? 40u : 0u));
  if (h.version == 4)
    (void)ip4_hdr_cksum_ok(p, h.hdr_len);
  if (h.version == 6 && h.flags & IP_FLAG_FRAG)
    REQUIRE(h.frag_at >= IP6_HLEN && h.frag_at + IP6_FRAG_LEN == h.hdr_len &&
            p[h.nh_at < h.frag_at ? h.nh_at : 0] == 44);
  if (h.flags & IP_FLAG_OPTS)
    return;
  int m = ip_hdr_build(out, sizeof out, &h);
  REQUIRE(m == n && ip_hdr_parse_quoted(out, (size_t)m, &g) == m);
  REQUIRE(memcmp(&h, &g, sizeof h) == 0);
}

static void fuzz_icmp(const uint8_t *p, size_t len) {
  struct icmp_hdr h;
  struct ip_addr a = ip_addr_from4(1);
  int n = icmp4_hdr_parse(p, len, &h);
  REQUIRE(n == 8 || n == WIRE_SHORT);
  n = icmp6_hdr_parse(p, len, &h);
  REQUIRE(n == 8 || n == WIRE_SHORT);
  (void)icmp4_cksum_ok(p, len);
  (void)icmp6_cksum_ok(p, len, &a, &a);
}

static void fuzz_nd(const uint8_t *p, size_t len) {
  struct nd_msg m, g;
  uint8_t out[ND_LEN_MAX + ND_PREFIXES_MAX * 32];
  int n = nd_msg_parse(p, len, &m);
  REQUIRE(n < 0 || n == (int)len);
  if (n < 0)
    return;
  REQUIRE(m.n_prefixes <= ND_PREFIXES_MAX);
  n = nd_msg_build(out, sizeof out, &m);
  if (m.type == ICMP6_REDIRECT) {
    REQUIRE(n == WIRE_VALUE);
    return;
  }
  REQUIRE(n > 0 && nd_msg_parse(out, (size_t)n, &g) == n);
  REQUIRE(memcmp(&m, &g, sizeof m) == 0);
}

static void fuzz_tcp(const uint8_t *p, size_t len) {
  struct tcp_hdr h, g;
  uint8_t out[TCP_HLEN_MAX];
  memset(&h, 0, sizeof h);
  memset(&g, 0, sizeof g);
  int n = tcp_hdr_parse(p, len, &h);
  REQUIRE(n < 0 || (n >= (int)TCP_HLEN && n <= (int)TCP_HLEN_MAX && n <= (int)len));
  if (n < 0)
    return;
  REQUIRE(h.opts.n_sack <= TCP_SACK_MAX && h.opts.tfo_len <= TCP_TFO_MAX);
  REQUIRE(!(h.opts.present & TCP_OPT_HAS_SACK) || h.opts.n_sack > 0);
  if (h.opts.present & (TCP_OPT_HAS_UNKNOWN | TCP_OPT_HAS_BAD) || h.opts.wscale > TCP_WSCALE_MAX)
    return;
  int m = tcp_hdr_build(out, sizeof out, &h);
  if (m == WIRE_LIMIT)
    return; /* packed without padding: more than fits with ours */
  REQUIRE(m >= (int)TCP_HLEN && tcp_hdr_size(&h.opts) == m);
  REQUIRE(tcp_hdr_parse(out, (size_t)m, &g) == m);
  REQUIRE(h.seq == g.seq && h.ack == g.ack && h.flags == g.flags && h.wnd == g.wnd && h.urg == g.urg);
  REQUIRE((h.opts.present | TCP_OPT_HAS_SACK) == (g.opts.present | TCP_OPT_HAS_SACK));
  REQUIRE(g.opts.n_sack <= h.opts.n_sack);
  if (h.opts.present & TCP_OPT_HAS_MSS)
    REQUIRE(h.opts.mss == g.opts.mss);
  if (h.opts.present & TCP_OPT_HAS_TS)
    REQUIRE(h.opts.ts_val == g.opts.ts_val && h.opts.ts_ecr == g.opts.ts_ecr);
  REQUIRE(memcmp(h.opts.sack, g.opts.sack, g.opts.n_sack * sizeof g.opts.sack[0]) == 0);
  REQUIRE(h.opts.tfo_len == g.opts.tfo_len && memcmp(h.opts.tfo, g.opts.tfo, g.opts.tfo_len) == 0);
}

static void fuzz_udp(const uint8_t *p, size_t len) {
  struct udp_hdr h;
  uint8_t out[UDP_HLEN];
  if (udp_hdr_parse(p, len, &h) < 0)
    return;
  REQUIRE(h.len >= UDP_HLEN && h.len <= len);
  REQUIRE(udp_hdr_build(out, sizeof out, &h) == (int)UDP_HLEN && memcmp(out, p, 6) == 0);
}

static void fuzz_dhcp(const uint8_t *p, size_t len) {
  struct dhcp_msg m, g;
  uint8_t out[DHCP_LEN_BUILT];
  int n = dhcp_msg_parse(p, len, &m);
  REQUIRE(n < 0 || n == (int)len);
  if (n < 0)
    return;
  n = dhcp_msg_build(out, sizeof out, &m);
  REQUIRE(n >= 300 && n <= (int)sizeof out && dhcp_msg_parse(out, (size_t)n, &g) == n);
  REQUIRE(memcmp(&m, &g, sizeof m) == 0);
  m.present |= DHCP_HAS_CLIENT; /* the most that can be built */
  n = dhcp_msg_build(out, sizeof out, &m);
  REQUIRE(n >= 300 && dhcp_msg_parse(out, (size_t)n, &g) == n);
}

/* Two ways to the same sum: at once, and in two pieces of which the second is copied. */
static void fuzz_cksum(const uint8_t *p, size_t len) {
  uint8_t copy[512];
  size_t cut = len > 0 ? p[0] % len : 0;
  if (len - cut > sizeof copy)
    return;
  cksum_t piece = cksum_copy(copy, p + cut, len - cut, 0);
  REQUIRE(memcmp(copy, p + cut, len - cut) == 0);
  REQUIRE(cksum_fold(cksum_combine(cksum_add(0, p, cut), piece, cut & 1)) == cksum_fold(cksum_add(0, p, len)));
}

static void fuzz_text(const uint8_t *p, size_t len) {
  char text[80], out[IP_ADDR_TEXT_MAX];
  struct ip_addr a, b;
  struct mac_addr m;
  unsigned prefix;
  if (len >= sizeof text)
    return;
  memcpy(text, p, len);
  text[len] = 0;
  (void)!mac_addr_parse(text, &m);
  if (ip_addr_parse_prefix(text, &a, &prefix) < 0)
    return;
  REQUIRE(prefix <= (ip_addr_is4(&a) ? 32u : 128u));
  REQUIRE(ip_addr_parse(ip_addr_format(&a, out, sizeof out), &b) == 0 && ip_addr_eq(&a, &b));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static void (*const targets[])(const uint8_t *, size_t) = {fuzz_eth, fuzz_arp, fuzz_ip,    fuzz_icmp, fuzz_nd,
                                                             fuzz_tcp, fuzz_udp, fuzz_cksum, fuzz_text, fuzz_dhcp};
  if (size == 0)
    return 0;
  targets[data[0] % (sizeof targets / sizeof targets[0])](data + 1, size - 1);
  return 0;
}
