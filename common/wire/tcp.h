/*
 * TCP header and options (RFC 9293 3.1, 3.2; RFC 7323, 2018, 2883, 7413). Used by the engine's tcp room on the hot
 * path, and by nicio for GSO and GRO. Checksums are in cksum.h.
 */
#ifndef HS_WIRE_TCP_H
#define HS_WIRE_TCP_H

#include "wire/wire.h"

#define TCP_HLEN       20u
#define TCP_HLEN_MAX   60u
#define TCP_OPTS_MAX   40u
#define TCP_SACK_MAX   4u
#define TCP_TFO_MIN    4u /* cookie bytes, RFC 7413 4.1.1 */
#define TCP_TFO_MAX    16u
#define TCP_WSCALE_MAX 14u /* RFC 7323 2.3: a greater shift counts as 14 */
#define TCP_OFF_SEQ    4u  /* where things lie, for GSO and GRO */
#define TCP_OFF_ACK    8u
#define TCP_OFF_FLAGS  13u
#define TCP_OFF_WND    14u
#define TCP_OFF_CKSUM  16u

enum tcp_flag {
  TCP_FIN = 0x001,
  TCP_SYN = 0x002,
  TCP_RST = 0x004,
  TCP_PSH = 0x008,
  TCP_ACK = 0x010,
  TCP_URG = 0x020,
  TCP_ECE = 0x040,
  TCP_CWR = 0x080,
  TCP_AE = 0x100, /* RFC 9768 (accurate ECN), formerly NS */
};

/* tcp_opts.present */
enum tcp_opt_has {
  TCP_OPT_HAS_MSS = 1,
  TCP_OPT_HAS_WSCALE = 2,
  TCP_OPT_HAS_SACK_OK = 4,
  TCP_OPT_HAS_SACK = 8,
  TCP_OPT_HAS_TS = 16,
  TCP_OPT_HAS_TFO = 32,     /* tfo_len 0: a request for a cookie */
  TCP_OPT_HAS_UNKNOWN = 64, /* parse: something was skipped */
  TCP_OPT_HAS_BAD = 128,    /* parse: a known option had a wrong length and was skipped, or the list broke off */
};

struct tcp_sack {
  seq32_t l, r; /* [l, r) */
};

struct tcp_opts {
  uint32_t present; /* enum tcp_opt_has */
  uint16_t mss;
  uint8_t wscale; /* parse: as received, 0..255; the user limits it to TCP_WSCALE_MAX */
  uint8_t n_sack; /* 1..4 with TCP_OPT_HAS_SACK */
  struct tcp_sack sack[TCP_SACK_MAX];
  uint32_t ts_val, ts_ecr;
  uint8_t tfo_len; /* 0 or 4..16 */
  uint8_t tfo[TCP_TFO_MAX];
};

struct tcp_hdr {
  uint16_t sport, dport;
  seq32_t seq, ack;
  uint16_t flags; /* enum tcp_flag */
  uint16_t wnd;   /* unscaled, as on the wire */
  uint16_t urg;
  uint16_t cksum;  /* parse only, host order */
  uint8_t hdr_len; /* parse only: 20..60 */
  struct tcp_opts opts;
};

/**
 * Parses header and options; len is the whole segment. A damaged option list is not an error (RFC 9293 3.1: MUST-6,
 * MUST-7): what is legible counts, TCP_OPT_HAS_BAD tells. Of a doubled option the last one counts. Fields of absent
 * options are not written, except n_sack and tfo_len (0). Returns the header's length 20..60, WIRE_SHORT or
 * WIRE_LENGTH.
 */
HS_MUST_CHECK int tcp_hdr_parse(const uint8_t *p, size_t len, struct tcp_hdr *out);

/**
 * Builds header and options, checksum 0. SACK blocks that no longer fit into 40 bytes are left off (the last ones).
 * Returns the header's length, WIRE_ROOM, WIRE_LIMIT (other options do not fit) or WIRE_VALUE.
 */
HS_MUST_CHECK int tcp_hdr_build(uint8_t *p, size_t room, const struct tcp_hdr *in);

/** Header length that tcp_hdr_build will give for these options, 20..60, or WIRE_LIMIT, WIRE_VALUE. */
HS_MUST_CHECK int tcp_hdr_size(const struct tcp_opts *opts);

/** Ports of a TCP or UDP header, unparsed; p has ≥ 4 bytes. */
static inline uint16_t l4_sport(const uint8_t *p) {
  return load_be16(p);
}
static inline uint16_t l4_dport(const uint8_t *p) {
  return load_be16(p + 2);
}

#endif
