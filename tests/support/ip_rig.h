/*
 * An IP stack on a bench: ops that keep what is sent in plain memory, a small pool of slots whose every get must meet
 * one send or drop, and builders of frames to feed in. Used by the unit tests of services/engine/ip and by fuzz_ip;
 * breaks its own rules with abort(), so that it needs no CMocka.
 */
#ifndef HS_TESTS_IP_RIG_H
#define HS_TESTS_IP_RIG_H

#include "ip/ip.h"
#include "ip/ip_counters.h"
#include "wire/icmp.h"
#include "wire/ip.h"

#define RIG_SLOTS  256u
#define RIG_SENT   128u /* frames remembered; later ones are only counted */
#define RIG_EVENTS 16u
#define RIG_LOOP   8u

struct rig_frame {
  uint8_t b[ABI_SLOT_SIZE]; /* what lay in the slot */
  uint32_t len;             /* of that */
  uint32_t fifo_len, n_fifo;
  struct {
    uint64_t off;
    uint32_t len;
  } fifo[2]; /* the first of them */
  uint16_t flags, gso_size, csum_start;
  uint8_t csum_off, port;
};

struct rig_error {
  uint8_t proto;
  struct ip_addr local, remote;
  uint16_t lport, rport;
  uint32_t seq, mtu;
  int kind, err;
};

struct ip_rig {
  struct ip_stack *s;
  uint64_t c[IPC_N];
  usec_t now;
  uint8_t slot[RIG_SLOTS][ABI_SLOT_SIZE];
  uint8_t out[RIG_SLOTS]; /* slot is out */
  uint32_t n_out, slots;  /* slots out, slots there are */
  struct rig_frame sent[RIG_SENT];
  uint32_t n_sent, n_dropped;
  struct txf loop[RIG_LOOP]; /* to ourselves, until rig_loop */
  uint32_t n_loop, loop_room;
  struct pkt up[RIG_EVENTS];
  uint32_t n_up;
  uint8_t last[65536]; /* L4 bytes of the last one */
  int up_result;       /* what deliver answers */
  struct rig_error error[RIG_EVENTS];
  uint32_t n_error;
};

extern const uint8_t rig_mac[6];  /* ours on port 0: 02:00:00:00:00:01 */
extern const uint8_t rig_peer[6]; /* 02:00:00:00:00:02 */

/** A stack with port 0 up, MTU 1500, 10.0.0.1/24 and 2001:db8::1/64; announcements over, nothing sent yet. */
struct ip_rig *rig_new(void);
void rig_free(struct ip_rig *r);
/** A rig per test, in *state. */
int rig_setup(void **state);
int rig_teardown(void **state);
#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
/** Feeds one flat frame, or the same bytes in pieces of `piece` bytes. */
void rig_in(struct ip_rig *r, const uint8_t *frame, uint32_t len);
void rig_in_pieces(struct ip_rig *r, const uint8_t *frame, uint32_t len, uint32_t piece);
/** Hands what was sent to ourselves to the stack, and what that brings about, until nothing is left. */
void rig_loop(struct ip_rig *r);
/** Moves the clock, calling ip_timer whenever it asks. */
void rig_advance(struct ip_rig *r, usec_t by);
/** Forgets what was sent. */
void rig_clear(struct ip_rig *r);
struct ip_addr rig_addr(const char *text);
/** Ethernet + IP header in front of l4; returns the frame's length. Destination MAC is ours (or of the group). */
uint32_t rig_build(uint8_t *f, const char *src, const char *dst, uint8_t proto, const void *l4, uint32_t l4_len);
/** The same with every header field given; mac is the destination's. */
uint32_t rig_build_hdr(uint8_t *f, const struct ip_hdr *h, const uint8_t mac[6], const void *l4, uint32_t l4_len);
/** A fragment: bytes [off, off + len) of a datagram; id 32 bits, of which IPv4 takes 16. */
uint32_t rig_fragment(uint8_t *f, const char *src, const char *dst, uint8_t proto, uint32_t id, uint32_t off, int more,
                      const void *bytes, uint32_t len);
/** An ARP frame from `sha`. */
uint32_t rig_arp(uint8_t *f, const uint8_t to[6], unsigned op, const uint8_t sha[6], const char *spa,
                 const uint8_t tha[6], const char *tpa);
/** A neighbour solicitation or advertisement frame with its link-layer option if mac is not NULL. */
uint32_t rig_nd(uint8_t *f, uint8_t type, uint8_t flags, const char *src, const char *dst, const char *target,
                const uint8_t *mac);
/** An empty slot to build a datagram in; ip_output or the pool takes it back. 0 or -ENOBUFS. */
int rig_take(struct ip_rig *r, struct txf *t);
/** ip_output of a datagram of len bytes (0x55…) whose first 8 are ports 1000, 2000 and seq; fifo bytes by reference. */
int rig_out(struct ip_rig *r, const char *dst, uint8_t proto, uint32_t len, uint32_t fifo, struct ip_path *path);
/** Makes a neighbour known by the exchange that a peer at dst would have with us. */
void rig_resolve(struct ip_rig *r, const char *dst, const uint8_t mac[6]);

#endif
