/*
 * Counters and drop reasons of UDP: one list, which is what users see (hsctl show udp, show stats).
 */
#ifndef HS_ENGINE_UDP_COUNTERS_H
#define HS_ENGINE_UDP_COUNTERS_H

/* X(id, severity 0 info 1 warning 2 error, "help") */
#define UDP_COUNTERS(X)                                                                                                \
  X(rx, 0, "datagrams given to a session")                                                                             \
  X(rx_bytes, 0, "bytes of those datagrams")                                                                           \
  X(tx, 0, "datagrams sent")                                                                                           \
  X(tx_bytes, 0, "bytes of those datagrams")                                                                           \
  X(tx_cut, 0, "sends that were cut into several datagrams (UDP_SEGMENT)")                                             \
  X(rx_bad_header, 1, "header shorter than 8 bytes, or its length contradicts IP's")                                   \
  X(rx_bad_cksum, 1, "checksum wrong, or none over IPv6")                                                              \
  X(rx_no_port, 0, "for a port that nobody has: answered by ICMP")                                                     \
  X(rx_stray, 0, "for a port that nobody has: given to a proxy")                                                       \
  X(rx_group_nobody, 0, "to a group or broadcast address, and nobody has the port")                                    \
  X(rx_full, 1, "dropped because the session's receive fifo was full")                                                 \
  X(rx_no_chunk, 1, "dropped because the app's rx arena was full")                                                     \
  X(tx_no_peer, 1, "dropped: no destination, port 0, or of the other family")                                          \
  X(tx_no_route, 1, "dropped: no route, or no address of ours to send from")                                           \
  X(tx_no_neighbour, 1, "dropped: the next hop does not answer")                                                       \
  X(tx_too_long, 1, "dropped: longer than the path takes whole, or than UDP can be")                                   \
  X(tx_gate, 1, "dropped: a session rule or another namespace forbids it")                                             \
  X(tx_broadcast, 1, "dropped: to a broadcast address without SO_BROADCAST")                                           \
  X(tx_not_ours, 1, "dropped: from an address that is not ours")                                                       \
  X(tx_failed, 1, "dropped by the IP layer")                                                                           \
  X(icmp_told, 0, "ICMP errors told to a connected session")                                                           \
  X(icmp_ignored, 0, "ICMP errors for no connected session, or soft ones")                                             \
  X(pmtu_lowered, 0, "ICMP told a smaller path MTU")                                                                   \
  X(no_ephemeral, 1, "no free port was found")

enum udp_counter {
#define X(id, sev, help) UDP_##id,
  UDP_COUNTERS(X)
#undef X
      UDP_N_COUNTERS
};

#endif
