/*
 * Fuzz target over the UDP core: the input is a packet cut into pieces, then a header as an app might write it. The
 * payload that comes out must be bytes of the packet, checksums must agree with the wire room's, and no header that
 * passes may make more datagrams or bytes than a send is allowed. Corpus in corpus/udp.
 */
#include "fuzz.h"
#include "udp.h"

struct gathered {
  uint8_t bytes[4096];
  uint32_t n;
};

static int gather(void *ctx, const uint8_t *bytes, uint32_t n) {
  struct gathered *g = ctx;
  REQUIRE(n != 0 && n <= sizeof g->bytes - g->n);
  memcpy(g->bytes + g->n, bytes, n);
  g->n += n;
  return 0;
}

static void fuzz_packet(const uint8_t *data, uint32_t size, uint8_t cut, uint8_t how) {
  struct pkt p = {.l4_off = (uint16_t)(how & 7u), .ip.version = how & 8u ? 6 : 4, .ip.proto = IP_PROTO_UDP};
  struct udp_in in;
  struct gathered g = {.n = 0};
  uint32_t step = 1u + cut;
  for (uint32_t at = 0; at < size && p.n_pieces < PKT_PIECES_MAX; at += step) {
    p.piece[p.n_pieces++] = (struct pkt_piece){.p = data + at, .len = size - at < step ? size - at : step};
    p.len += p.piece[p.n_pieces - 1].len;
  }
  p.l4_len = p.len > p.l4_off ? p.len - p.l4_off + (how >> 4) : 0; /* IP may promise more than there is */
  if (how & 8u)
    p.ip.src.b[0] = p.ip.dst.b[0] = 0xfd;
  else
    p.ip.src.b[10] = p.ip.src.b[11] = p.ip.dst.b[10] = p.ip.dst.b[11] = 0xff;
  if (udp_parse(&p, &in) < 0)
    return;
  REQUIRE(in.len == in.hdr.len - UDP_HLEN && in.hdr.len <= p.l4_len);
  int ok = udp_cksum_ok(&p, &in);
  REQUIRE(udp_payload(&p, &in, 0, in.len, gather, &g) == 0);
  REQUIRE(g.n <= in.len && memcmp(g.bytes, data + in.off, g.n) == 0);
  if (g.n == in.len && in.hdr.cksum != 0)
    REQUIRE(ok == cksum_l4_ok(&p.ip.src, &p.ip.dst, IP_PROTO_UDP, data + p.l4_off, in.hdr.len));
  struct abi_dgram d;
  udp_describe(&p, &in, in.len, &d);
  d.seg = 0;
  REQUIRE(udp_dgram_check(&d, (uint32_t)sizeof d + in.len) == 0);
}

static void fuzz_header(const uint8_t *data, size_t size) {
  struct abi_dgram d;
  if (size < sizeof d + 2)
    return;
  memcpy(&d, data, sizeof d);
  uint32_t used = load_be16(data + sizeof d) * 2u;
  if (udp_dgram_check(&d, used) < 0)
    return;
  uint32_t n = udp_segments(&d);
  REQUIRE(d.len + sizeof d <= used && d.len <= ABI_DGRAM_MAX);
  REQUIRE(n >= 1 && n <= UDP_SEGS_MAX);
  REQUIRE(d.seg == 0 || n == 1 || ((n - 1) * d.seg < d.len && n * (uint32_t)d.seg >= d.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3 || size > 2048)
    return 0;
  fuzz_packet(data + 2, (uint32_t)size - 2, data[0], data[1]);
  fuzz_header(data + 2, size - 2);
  return 0;
}
