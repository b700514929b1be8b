/*
 * Packet segment: frames, frame rings and ports, shared by nicio and engine.
 *
 * A frame lies in slots of ABI_SLOT_SIZE. RX slots have their home in nicio, TX slots in the engine; who is lent a slot
 * returns its number on the done ring. One link per engine worker: four SPSC rings (rx, rx_done, tx, tx_done).
 *
 * Epochs. Each side raises its own epoch when it starts (or throws its rings away) and stores in `seen` the peer's
 * epoch that it has acknowledged. The link is UP when both have seen each other's current epoch. Every ring entry
 * carries both epochs in its `tag`; an entry with another tag is skipped. So after a restart:
 *   - engine died: nicio sees the new engine epoch, lends *again, in order*, every RX frame that had not come home,
 * under the new tag; then stores seen. The new engine touches no TX slot until it sees that.
 *   - nicio died: the engine sees the new nicio epoch, takes all its TX slots back (the death is proved by the
 * supervisor; a DMA device has been reset by the successor before it raises its epoch), holds no RX slot, then stores
 * seen. The new nicio touches no RX slot until it sees that. Order: ring entries → tail (release) → fence → if consumer
 * armed: bell. epoch → fence → look at the peer's epoch.
 */
#ifndef HS_ABI_FRAME_H
#define HS_ABI_FRAME_H

#include "abi/seg.h"

#define ABI_SLOT_SIZE     4096u
#define ABI_SLOT_HEAD     320u /* bytes at the start of a slot that nicio may use (mempool header, mbuf, headroom) */
#define ABI_PORTS_MAX     8u
#define ABI_LINKS_MAX     8u /* = engine workers */
#define ABI_REGION_PACKET 0u /* desc.region: the packet segment; else low 32 bits of a worker's A segment id */

/* abi_frame_desc.flags */
#define ABI_FR_CHAIN 0x0001u /* the frame goes on in the next descriptor */
#define ABI_FR_CSUM_PART                                                                                               \
  0x0002u /* L4 checksum field holds the pseudo-header sum; csum_start/csum_off say what to finish */
#define ABI_FR_CSUM_OK  0x0004u /* L4 checksum was verified by the device, or the sender shares our memory */
#define ABI_FR_GSO_TCP4 0x0008u /* cut into gso_size segments (TCP over IPv4); on RX: merged ones */
#define ABI_FR_GSO_TCP6 0x0010u
#define ABI_FR_GSO_UDP  0x0020u
#define ABI_FR_CE_SEEN  0x0080u /* GRO merged segments of which one carried CE */
#define ABI_FR_NO_SLOT  0x0100u /* this piece has no slot to return (payload of a tx fifo) */

/** One piece of a frame. Flags other than CHAIN and NO_SLOT, and the gso and csum words, count in the first piece. */
struct abi_frame_desc {
  uint64_t off;        /* of the first byte, from the start of the region */
  uint32_t region;     /* ABI_REGION_PACKET, else the low 32 bits of the id of a worker's A segment */
  uint32_t slot;       /* home slot number; ABI_SEG_NONE with NO_SLOT */
  uint32_t tag;        /* abi_link_tag() of the epochs it was lent under */
  uint32_t len;        /* bytes of this piece, ≥ 1; a frame is at most 65535 + 64 bytes in all */
  uint16_t flags;      /* ABI_FR_* */
  uint16_t gso_size;   /* bytes of payload per segment */
  uint16_t csum_start; /* offset in the frame where summing begins */
  uint8_t csum_off;    /* offset from csum_start where the sum is stored */
  uint8_t port;        /* index in abi_packet.port[] */
};
_Static_assert(sizeof(struct abi_frame_desc) == 32, "frame descriptor");

/** A slot going home. 8 bytes. */
struct abi_frame_done {
  uint32_t slot;
  uint32_t tag; /* abi_link_tag() */
};
_Static_assert(sizeof(struct abi_frame_done) == 8, "done entry");

/** hdr.geom of the packet segment. */
struct abi_packet_geom {
  uint64_t n_links;   /* links that there is room for, 1 … ABI_LINKS_MAX; abi_packet.boot says how many are in use */
  uint64_t block_off; /* struct abi_packet */
  uint64_t rings_off; /* n_links × {rx desc[n_rx], tx desc[n_tx_desc], rx_done[n_rx], tx_done[n_tx_desc]} */
  uint64_t n_rx;      /* RX slots in all = capacity of rx and rx_done rings, a power of two */
  uint64_t n_tx;      /* TX slots in all, a power of two; divided evenly between the links in use */
  uint64_t n_tx_desc; /* capacity of each tx and tx_done ring, a power of two ≥ n_tx */
  uint64_t rx_off;    /* n_rx × ABI_SLOT_SIZE */
  uint64_t tx_off;    /* n_tx × ABI_SLOT_SIZE */
  uint64_t reserved[8];
};
_Static_assert(sizeof(struct abi_packet_geom) == 128, "packet geometry fills hdr.geom");

/** Words of one side of a link. */
struct abi_link_side {
  /* line 0 */
  uint32_t epoch; /* atomic: mine */
  uint32_t seen;  /* atomic: the peer's epoch that I have acknowledged */
  uint32_t armed; /* atomic: I sleep, ring my bell */
  uint32_t late_wakeup;
  uint64_t heartbeat; /* monotonic µs of the last loop turn, written at most once per ms */
  uint32_t reserved[10];
  /* line 1: producer words */
  uint32_t desc_tail; /* rx ring (nicio) or tx ring (engine) */
  uint32_t done_tail; /* tx_done ring (nicio) or rx_done ring (engine) */
  uint32_t reserved1[14];
  /* line 2: consumer words */
  uint32_t desc_head; /* tx ring (nicio) or rx ring (engine) */
  uint32_t done_head; /* rx_done ring (nicio) or tx_done ring (engine) */
  uint32_t reserved2[14];
};
_Static_assert(sizeof(struct abi_link_side) == 192, "link side");

struct abi_link {
  struct abi_link_side nicio;
  struct abi_link_side engine;
};

/* abi_port.caps */
#define ABI_PORT_CSUM_TX   0x1u /* finishes CSUM_PART itself (device or kernel) */
#define ABI_PORT_TSO       0x2u /* cuts GSO frames itself; else nicio does */
#define ABI_PORT_FIFO_TX   0x4u /* payload may be referred to in A segments */
#define ABI_PORT_RX_MERGED 0x8u /* delivers merged frames up to 64 KB */

/** What nicio says of a port. Written by nicio; `gen` odd while it writes. */
struct abi_port {
  uint32_t gen;
  uint32_t up;   /* 1 = link up */
  uint32_t mtu;  /* largest L3 packet, bytes */
  uint32_t caps; /* ABI_PORT_* */
  uint8_t mac[6];
  uint8_t kind; /* 1 ethdev, 2 kernel */
  uint8_t used; /* 0 = no such port */
  uint32_t speed_mbps;
  char name[32]; /* as in the configuration, NUL terminated */
  uint32_t pad;
  uint64_t counters[16]; /* enum abi_port_counter */
};
_Static_assert(sizeof(struct abi_port) == 192, "port");

enum abi_port_counter {
  ABI_PC_RX_FRAMES,
  ABI_PC_RX_BYTES,
  ABI_PC_TX_FRAMES,
  ABI_PC_TX_BYTES,
  ABI_PC_RX_DROP_NO_SLOT,
  ABI_PC_RX_DROP_RING,
  ABI_PC_RX_ERROR,
  ABI_PC_TX_ERROR,
  ABI_PC_TX_DROP_DOWN,
  ABI_PC_TX_BAD_DESC,
  ABI_PC_TX_GSO_CUT,
  ABI_PC_TX_CSUM_SOFT,
  ABI_PC_RX_GRO_MERGED,
  ABI_PC_IMPAIR_DROP,
  ABI_PC_RX_KERNEL_DROP,
  ABI_PC_TX_FULL,
  ABI_PC_N
};
_Static_assert(ABI_PC_N == 16, "port counters fill their array");

/** At block_off of the packet segment. */
struct abi_packet {
  struct abi_link link[ABI_LINKS_MAX];
  uint64_t boot; /* atomic, the engine's: links in use (low half), engines started so far (high half). Stored before the
                  * first link's epoch: a new value says that every link's old engine is dead, and that RX frames are to
                  * be spread anew over links [0, n); 0 = no engine yet */
  uint64_t pad[7];
  struct abi_port port[ABI_PORTS_MAX];
};

/** Links in use by the engine of this boot word. */
static inline uint32_t abi_boot_links(uint64_t boot) {
  return (uint32_t)boot;
}

/** Tag of everything lent while these two epochs hold. */
static inline uint32_t abi_link_tag(uint32_t nicio_epoch, uint32_t engine_epoch) {
  return (nicio_epoch << 16) | (engine_epoch & 0xffffu);
}

#endif
