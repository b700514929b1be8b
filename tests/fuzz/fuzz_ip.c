/*
 * Hostile frames against a whole IP stack: the input is a script of frames, time steps and outputs, so that every state
 * of a neighbour can meet every message. A frame may have its checksums mended, or come in pieces.
 *
 * Script (bits of its length: with autoconfiguration, with DHCP, with default routes): {op 1 byte, arg 1 byte, len 2
 * bytes big-endian, len bytes}. From op 128 on the bytes are no frame but choices of which fuzz_ip_make.c makes one:
 * ARP, neighbour discovery, ICMP with quotations, group queries, whose fields fit each other more often than not. The
 * oracle after every step is ip_check.h. Corpus in corpus/ip.
 */
#include "fuzz.h"
#include "fuzz_ip_make.h"
#include "ip_check.h"
#include "wire/cksum.h"
#include "wire/dhcp.h"
#include "wire/eth.h"

#define STEPS_MAX 64u

/* Makes the checksums right, so that what lies behind their checks is reached. */
static void mend(uint8_t *f, uint32_t len) {
  struct ip_hdr h;
  int at;
  if (len < ETH_HLEN + IP4_HLEN || (at = ip_hdr_parse_quoted(f + ETH_HLEN, len - ETH_HLEN, &h)) < 0)
    return;
  if (h.version == 4) {
    memset(f + ETH_HLEN + 10, 0, 2);
    cksum_store(f + ETH_HLEN + 10, cksum_fold(cksum_add(0, f + ETH_HLEN, h.hdr_len)));
  }
  if (h.total_len > len - ETH_HLEN || h.total_len - h.hdr_len < ICMP_HLEN)
    return;
  uint8_t *l4 = f + ETH_HLEN + at;
  if (h.proto == IP_PROTO_ICMP && h.version == 4)
    icmp4_cksum_set(l4, h.total_len - h.hdr_len);
  else if (h.proto == IP_PROTO_ICMP6 && h.version == 6)
    icmp6_cksum_set(l4, h.total_len - h.hdr_len, &h.src, &h.dst);
}

/* A DHCP message becomes one for us: the transaction's number is random. */
static void mend_dhcp(const struct ip_rig *r, uint8_t *f, uint32_t len) {
  if (len < ETH_HLEN + IP4_HLEN + 8 + DHCP_LEN_MIN || f[ETH_HLEN] != 0x45 || f[23] != IP_PROTO_UDP ||
      load_be16(f + 36) != DHCP_PORT_CLIENT)
    return;
  store_be32(f + 46, r->s->dhcp[0].xid);
  memcpy(f + 70, rig_mac, 6);
  memset(f + 40, 0, 2);
}

static void feed(struct ip_rig *r, unsigned arg, const uint8_t *data, uint32_t len) {
  uint8_t *exact = malloc(len != 0 ? len : 1);
  REQUIRE(exact != NULL);
  memcpy(exact, data, len);
  if (arg & 1)
    mend_dhcp(r, exact, len);
  if (arg & 1)
    mend(exact, len);
  r->up_result = arg & 2 ? -ENOENT : 0;
  rig_in_pieces(r, exact, len, arg >> 2 != 0 ? arg >> 2 : len + 1);
  free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const peers[] = {"10.0.0.2", "10.0.0.3",  "2001:db8::2", "2001:db8::3", "fe80::2", "224.0.0.251",
                                      "ff02::fb", "192.0.2.1", "10.0.0.255",  "10.0.0.1",    "10.5.0.2"};
  struct ip_rig *r = rig_new();
  struct ip_path path = {0};
  ip_repeatable(r);
  uint32_t vlan;
  struct ip_addr tagged = rig_addr("10.5.0.1");
  REQUIRE(ip_vlan_add(r->s, 0, 5, 0, &vlan) == 0 && ip_addr_add(r->s, vlan, &tagged, 24) == 0);
  if (size & 1)
    REQUIRE(ip_auto6(r->s, 0, 1) == 0);
  if (size & 2)
    REQUIRE(ip_dhcp4(r->s, 0, NULL) == 0);
  struct ip_addr any4 = rig_addr("0.0.0.0"), any6 = rig_addr("::"), gw4 = rig_addr("10.0.0.2"),
                 gw6 = rig_addr("fe80::2");
  if (size & 4)
    REQUIRE(ip_route_add(r->s, &any4, 0, &gw4, 0) == 0 && ip_route_add(r->s, &any6, 0, &gw6, 0) == 0);
  for (unsigned step = 0; step < STEPS_MAX && size >= 4; step++) {
    unsigned op = data[0], arg = data[1];
    uint32_t len = HS_MIN((uint32_t)load_be16(data + 2), (uint32_t)(size - 4));
    const char *peer = peers[arg % ARRAY_LEN(peers)];
    uint8_t made[FUZZ_IP_FRAME];
    switch (op < 128 ? op % 5 : 5) {
    case 5:
      len = HS_MIN(len, 256u);
      feed(r, arg | 1, made, fuzz_ip_make(r, op & 127, data + 4, len, made));
      break;
    default:
      feed(r, arg, data + 4, len);
      break;
    case 2:
      rig_advance(r, (usec_t)len * 1000);
      break;
    case 3:
      (void)rig_out(r, peer, arg & 64 ? IP_PROTO_UDP : IP_PROTO_TCP, 8 + len % 1600, arg & 128 ? 100 : 0, NULL);
      len = 0;
      break;
    case 4:
      (void)rig_out(r, peers[0], IP_PROTO_TCP, 20, 0, &path);
      ip_confirm(r->s, &path, r->now);
      len = 0;
      break;
    }
    rig_loop(r);
    ip_check(r);
    data += 4 + len;
    size -= 4 + len;
  }
  rig_free(r);
  return 0;
}
