/*
 * The packet suite's nouns: a case (a script of lines), a segment as a case writes it, and a device under test: our
 * engine or the Linux kernel behind the same few functions. README.md tells the language.
 *
 * Sequence numbers in cases are relative: the peer's (the runner's) to its SYN, the device's to its SYN. The first
 * byte of data is 1 on both sides. One process runs one case at a time; nothing here is shared between threads.
 */
#ifndef HS_TESTS_PKT_H
#define HS_TESTS_PKT_H

#include <stdint.h>
#include <stdio.h>

#define PKT_LINES_MAX 96u
#define PKT_CONNS     4u
#define PKT_FRAME_MAX 9216u
#define PKT_ANY       (-1)

enum pkt_verb {
  PKT_IN,  /* < the peer sends */
  PKT_OUT, /* > the device must send, next and at once unless `in` says when */
  PKT_ICMP,
  PKT_QUIET,
  PKT_LISTEN,
  PKT_CONNECT,
  PKT_CONNECTED,
  PKT_ACCEPT,
  PKT_WRITE,
  PKT_FASTOPEN,
  PKT_URGENT,
  PKT_OOB,
  PKT_READ,
  PKT_EOF,
  PKT_ERROR,
  PKT_SHUTDOWN,
  PKT_CLOSE,
  PKT_ABORT,
  PKT_SOCKOPT,
  PKT_TUNE,
  PKT_STATE,
  PKT_TO,
  PKT_TSVAL,
  PKT_SKIP,
};

enum pkt_only { PKT_BOTH, PKT_OURS, PKT_LINUX };

/* pkt_seg.has */
#define PKT_HAS_ACK    0x0001u
#define PKT_HAS_WIN    0x0002u
#define PKT_HAS_MSS    0x0004u
#define PKT_HAS_WS     0x0008u
#define PKT_HAS_SACKOK 0x0010u
#define PKT_HAS_TS     0x0020u
#define PKT_HAS_SACK   0x0040u
#define PKT_HAS_RAW    0x0080u
#define PKT_HAS_ECR    0x0100u
#define PKT_HAS_URG    0x0200u
#define PKT_HAS_NOOPT  0x0400u
#define PKT_HAS_COOKIE 0x0800u
#define PKT_HAS_STEP   0x1000u
#define PKT_HAS_PORT   0x2000u
#define PKT_OPTIONS                                                                                                    \
  (PKT_HAS_MSS | PKT_HAS_WS | PKT_HAS_SACKOK | PKT_HAS_TS | PKT_HAS_SACK | PKT_HAS_RAW | PKT_HAS_NOOPT | PKT_HAS_COOKIE)

/* pkt_seg.mod */
#define PKT_MOD_BADSUM 0x01u
#define PKT_MOD_NOTS   0x02u
#define PKT_MOD_NEW    0x04u /* the device's SYN carries another number than its last one */
#define PKT_MOD_MARK   0x08u /* remember its timestamp for `ecr mark` */
#define PKT_MOD_ABS    0x10u /* numbers as on the wire */
#define PKT_MOD_EXT    0x20u /* IPv4: with options; IPv6: behind hop-by-hop and destination options */
#define PKT_MOD_FRAG   0x40u /* in two fragments */
#define PKT_MOD_FRAGR  0x80u /* the second one first */

/* pkt_seg.ecr when PKT_HAS_ECR: a number, or one of these */
#define PKT_ECR_MARK (-1)
#define PKT_ECR_LAST (-2)
#define PKT_ECR_ZERO (-3)
#define PKT_ECR_SENT (-4)

enum { PKT_S = 1, PKT_F = 2, PKT_R = 4, PKT_P = 8, PKT_A = 16, PKT_U = 32, PKT_E = 64, PKT_W = 128 };
/* order of bits of the flags byte of a TCP header */
enum { TH_FIN = 1, TH_SYN = 2, TH_RST = 4, TH_PSH = 8, TH_ACK = 16, TH_URG = 32, TH_ECE = 64, TH_CWR = 128 };

/** A segment as a line of a case writes it. */
struct pkt_seg {
  uint32_t has, mod;
  uint8_t flags; /* TH_* */
  uint8_t check_psh;
  uint8_t ecn; /* IP ECN field, or 255: any */
  int64_t seq, len, ack, win, urg;
  char win_op;              /* = < > */
  int64_t by;               /* bytes per segment, 0: one */
  int64_t times;            /* so many like this one, 0: one */
  int64_t step[2], port[2]; /* by how much the ISN has grown; range of the port of ours */
  int64_t mss, ws, ts, ecr;
  unsigned n_sack;
  int64_t sack[4][2];
  unsigned n_raw;
  uint8_t raw[40];
};

struct pkt_line {
  enum pkt_verb verb;
  enum pkt_only only;
  unsigned conn, no;  /* connection 0…3; line number in its file */
  uint64_t lo, hi;    /* µs: when, after the line before */
  int has_time;       /* `in` was given: 1 a moment, 2 a range */
  int64_t n, n2, n3;  /* numbers of verbs that take some */
  char word[24];      /* state, option or errno */
  struct pkt_seg seg; /* of < and > */
};

#define PKT_SETS 8u

struct pkt_case {
  const char *file;
  unsigned no;
  char name[64], rfc[96], fn[128];
  char rule[400];
  char skip_linux[200], differs[200], deviates[200];
  int family;
  struct pkt_seg peer; /* what the peer offers in its SYN */
  unsigned n_sets;
  struct {
    char key[24];
    char val[24];
    int linux_only; /* what ours always does, or has no choice about */
  } set[PKT_SETS];
  unsigned n;
  struct pkt_line line[PKT_LINES_MAX];
  uint16_t port;      /* of the device's listener; unique in a run */
  uint16_t peer_port; /* first of PKT_CONNS */
};

struct pkt_suite {
  struct pkt_case **cases;
  unsigned n, room;
};

/** Read one file of cases. 0, or -1 after a message on stderr. */
int pkt_script_load(struct pkt_suite *s, const char *path);
void pkt_script_free(struct pkt_suite *s);

/* --- frames --- */

/** A segment as it was on the wire. */
struct pkt_wire {
  uint16_t sport, dport;
  uint32_t seq, ack;
  uint8_t flags;
  uint16_t win, urg;
  uint8_t ecn, ttl;
  uint32_t has; /* PKT_HAS_* of options */
  uint16_t mss;
  uint8_t ws;
  uint32_t ts, ecr;
  unsigned n_sack;
  uint32_t sack[4][2];
  unsigned n_cookie;
  uint8_t cookie[16];
  const uint8_t *data;
  uint32_t len;
  int sum_bad;
};

struct pkt_addr {
  int family;
  uint8_t dut_mac[6], peer_mac[6];
  uint8_t dut[16], peer[16]; /* 4 or 16 bytes */
};
void pkt_addr_init(struct pkt_addr *a, int family);

/** Everything of a frame to build: numbers as on the wire. */
struct pkt_build {
  uint16_t sport, dport;
  uint32_t seq, ack;
  uint8_t flags;
  uint16_t win, urg;
  uint8_t ecn;
  int badsum;
  const uint8_t *opt;
  uint32_t n_opt;    /* a multiple of 4 */
  uint32_t len, pos; /* payload: bytes, and the stream position of the first */
};
/** The byte that both sides send at stream position `pos`. */
uint8_t pkt_byte(uint32_t pos);
uint32_t pkt_frame_build(uint8_t *out, const struct pkt_addr *a, const struct pkt_build *b);
/** Puts IP options (IPv4), or hop-by-hop and destination options (IPv6, RFC 8200 4.3, 4.6) into a frame. Its length. */
uint32_t pkt_frame_extend(uint8_t *f, uint32_t n, const struct pkt_addr *a);
/** Fragment `part` (0 or 1) of a frame, cut 40 bytes behind the IP header or, IPv6, the hop-by-hop options.
 * Its length. */
uint32_t pkt_frame_part(uint8_t *out, const uint8_t *f, uint32_t n, const struct pkt_addr *a, unsigned part);

/** ICMP error about a segment of the device's: type, code, the 4 bytes of rest (MTU), quoted numbers. */
uint32_t pkt_frame_icmp(uint8_t *out, const struct pkt_addr *a, uint8_t type, uint8_t code, uint32_t rest,
                        uint16_t sport, uint16_t dport, uint32_t seq);
/** 1 = a TCP segment from the device to the peer; 0 = something else. `sum` 0: the checksum is not finished yet. */
int pkt_frame_parse(const uint8_t *f, uint32_t len, const struct pkt_addr *a, int sum, struct pkt_wire *w);
/** If `f` asks who has the peer's address: the answer, its length; else 0. */
uint32_t pkt_frame_answer(const uint8_t *f, uint32_t len, const struct pkt_addr *a, uint8_t *out);
/** The peer asks for the device's address (and is learnt by it). */
uint32_t pkt_frame_ask(uint8_t *out, const struct pkt_addr *a);

/* --- devices --- */

/** A device under test. Socket calls return 0 or more, or -errno; conn is 0 … PKT_CONNS - 1. */
struct pkt_dut {
  const char *name;
  int is_linux;
  int (*open)(const struct pkt_case *c, const struct pkt_addr *a);
  void (*close)(void);
  uint64_t (*now)(void); /* µs */
  void (*inject)(const uint8_t *f, uint32_t len);
  /** The next frame, waiting for it at most until `until`. Its length, or 0. *sum = 0: checksum not finished. */
  uint32_t (*take)(uint8_t *f, uint64_t until, int *sum);
  int (*listen)(unsigned backlog);
  int (*connect)(unsigned conn);
  int (*connected)(unsigned conn);                              /* 1, 0 not yet, or -errno */
  int (*fastopen)(unsigned conn, const uint8_t *p, uint32_t n); /* MSG_FASTOPEN: bytes taken, -EINPROGRESS none */
  int (*accept)(unsigned conn);
  int (*write)(unsigned conn, const uint8_t *p, uint32_t n);
  int (*urgent)(unsigned conn, const uint8_t *p, uint32_t n); /* MSG_OOB: the last byte is urgent */
  /** The urgent byte if it has come (MSG_OOB and MSG_PEEK): 1, or 0 there is none. */
  int (*oob)(unsigned conn, uint8_t *byte);
  int (*read)(unsigned conn, uint8_t *p, uint32_t n); /* 0: end of stream; -EAGAIN */
  int (*error)(unsigned conn);                        /* errno of the connection, > 0, or 0 */
  int (*shutdown)(unsigned conn);
  int (*shut)(unsigned conn); /* close() */
  int (*sockopt)(unsigned conn, const char *name, int64_t val);
  int (*tune)(const char *key, int64_t val);           /* at run time, as hsctl set tcp */
  int (*state)(uint16_t dut_port, uint16_t peer_port); /* Linux numbers; 0 = no such connection */
  int (*check)(void);                                  /* invariants: 0 or a line number */
};
extern const struct pkt_dut pkt_dut_engine, pkt_dut_linux;

/** Number of a state's name as cases write it; -1: no such. */
int pkt_state_number(const char *name);

/** Run a case. 0 = passed; -1 and a message. */
int pkt_run(const struct pkt_case *c, const struct pkt_dut *d, char *msg, unsigned room, int trace);

#endif
