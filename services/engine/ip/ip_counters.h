/*
 * Counters and drop reasons of the IP layer: one list, which is what users see.
 */
#ifndef HS_ENGINE_IP_COUNTERS_H
#define HS_ENGINE_IP_COUNTERS_H

/* X(id, "name", severity 0 info 1 warning 2 error, "help") */
#define IP_COUNTERS(X)                                                                                                 \
  X(RX_SHORT, "eth.rx.short", 1, "frames shorter than an Ethernet header, or in more pieces than we follow")           \
  X(RX_NO_PORT, "eth.rx.no_port", 2, "frames from a port that is not configured")                                      \
  X(RX_BAD_ETH, "eth.rx.bad", 1, "frames with a malformed Ethernet header or a group address as source")               \
  X(RX_VLAN, "eth.rx.vlan", 1, "frames with a VLAN tag that no port knows")                                            \
  X(RX_OTHER_MAC, "eth.rx.other_mac", 0, "frames for another station")                                                 \
  X(RX_ETHERTYPE, "eth.rx.ethertype", 0, "frames of an unknown protocol")                                              \
  X(RX_IP4, "ip4.rx", 0, "IPv4 packets that came")                                                                     \
  X(RX_IP6, "ip6.rx", 0, "IPv6 packets that came")                                                                     \
  X(RX_BAD_HDR, "ip.rx.bad_header", 1, "IP headers malformed, or of a version other than the frame says")              \
  X(RX_BAD_LEN, "ip.rx.bad_length", 1, "IP packets longer than their frame, or of contradictory length")               \
  X(RX_LIMIT, "ip.rx.ext_limit", 1, "IPv6 packets with more extension headers or options than we follow")              \
  X(RX_BAD_CKSUM, "ip4.rx.bad_cksum", 1, "IPv4 header checksum wrong")                                                 \
  X(RX_MARTIAN_SRC, "ip.rx.martian_src", 1, "packets from an address that nobody can have, or that is ours")           \
  X(RX_MARTIAN_DST, "ip.rx.martian_dst", 1, "packets to a loopback or unspecified address")                            \
  X(RX_NOT_OURS, "ip.rx.not_ours", 0, "packets for an address that is not ours")                                       \
  X(RX_L2_GROUP, "ip.rx.l2_group", 1, "unicast packets in frames to a group address")                                  \
  X(RX_SRCROUTE, "ip.rx.source_route", 1, "source-routed packets, which we refuse")                                    \
  X(RX_OPTION, "ip6.rx.option", 1, "IPv6 packets refused for an option or header unknown to us")                       \
  X(RX_FRAGMENT, "ip.rx.fragments", 0, "fragments that came")                                                          \
  X(PMTU_LEARNED, "ip.pmtu.learned", 0, "path MTUs that transports found to be less than the link's")                  \
  X(REASM_DONE, "ip.reasm.done", 0, "datagrams put together from fragments")                                           \
  X(REASM_TIMEOUT, "ip.reasm.timeout", 1, "datagrams given up because fragments did not come in time")                 \
  X(REASM_OVERLAP, "ip.reasm.overlap", 1, "datagrams given up because fragments overlap")                              \
  X(REASM_BAD, "ip.reasm.bad", 1, "fragments too small, or datagrams whose fragments contradict each other")           \
  X(REASM_EVICTED, "ip.reasm.evicted", 1, "unfinished datagrams given up for newer ones")                              \
  X(RX_PROTO, "ip.rx.protocol", 0, "packets of a protocol that we do not speak")                                       \
  X(RX_DELIVERED, "ip.rx.delivered", 0, "TCP and UDP datagrams handed up")                                             \
  X(RX_NOBODY, "ip.rx.nobody", 0, "TCP and UDP datagrams that nobody took")                                            \
  X(TX_PACKETS, "ip.tx.packets", 0, "packets handed to the link; a GSO frame counts once")                             \
  X(TX_FRAGMENTED, "ip.tx.fragmented", 0, "datagrams cut into fragments")                                              \
  X(TX_FRAGMENTS, "ip.tx.fragments", 0, "fragments sent")                                                              \
  X(TX_NO_ROUTE, "ip.tx.no_route", 1, "output without a route, or through a port that is down")                        \
  X(TX_TO_SELF, "ip.tx.to_self", 1, "output between the two families, or to ourselves where nothing loops it back")    \
  X(TX_LOOPED, "ip.tx.looped", 0, "packets to our own addresses, looped back; a GSO frame counts once")                \
  X(TX_LOOP_FULL, "ip.tx.loop_full", 1, "packets to our own addresses put off because the loop was full")              \
  X(TX_TOO_LONG, "ip.tx.too_long", 1, "output longer than the path takes, not to be cut")                              \
  X(TX_NO_FRAME, "ip.tx.no_frame", 1, "ARP, ND or ICMP messages not sent for want of a free frame")                    \
  X(TX_UNREACH, "ip.tx.unreachable", 1, "output to a neighbour that does not answer")                                  \
  X(NEIGH_QUEUED, "neigh.queued", 0, "frames queued until the neighbour's address is known")                           \
  X(NEIGH_Q_DROP, "neigh.queue_drop", 1, "queued frames dropped for newer ones")                                       \
  X(NEIGH_AGAIN, "neigh.again", 0, "fifo frames not sent because the neighbour's address was not yet known")           \
  X(NEIGH_FAILED, "neigh.failed", 1, "neighbours that did not answer")                                                 \
  X(NEIGH_MOVED, "neigh.moved", 1, "neighbours that changed their Ethernet address")                                   \
  X(NEIGH_EVICTED, "neigh.evicted", 1, "neighbours forgotten because the table was full")                              \
  X(ARP_RX, "arp.rx", 0, "ARP packets that came")                                                                      \
  X(ARP_BAD, "arp.rx.bad", 1, "malformed ARP packets")                                                                 \
  X(ARP_REQUESTS, "arp.tx.requests", 0, "ARP requests sent, probes of known neighbours included")                      \
  X(ARP_REPLIES, "arp.tx.replies", 0, "ARP replies sent")                                                              \
  X(ADDR_CONFLICT, "addr.conflict", 2, "times another station claimed an address of ours")                             \
  X(ADDR_DUPLICATE, "addr.duplicate", 2, "IPv6 addresses given up because another station has them")                   \
  X(ADDR_ANNOUNCED, "addr.announced", 0, "gratuitous ARP and unsolicited neighbour advertisements sent")               \
  X(ND_BAD, "nd.rx.bad", 1, "neighbour discovery messages malformed, or not from this link")                           \
  X(ND_NS_RX, "nd.rx.ns", 0, "neighbour solicitations that came")                                                      \
  X(ND_NA_RX, "nd.rx.na", 0, "neighbour advertisements that came")                                                     \
  X(ND_NS_TX, "nd.tx.ns", 0, "neighbour solicitations sent")                                                           \
  X(ND_NA_TX, "nd.tx.na", 0, "neighbour advertisements sent in answer")                                                \
  X(ND_RS_TX, "nd.tx.rs", 0, "router solicitations sent")                                                              \
  X(ND_RA_RX, "nd.rx.ra", 0, "router advertisements that we learned from")                                             \
  X(ND_RA_IGNORED, "nd.rx.ra_ignored", 0, "router advertisements on interfaces that are configured by hand")           \
  X(RA_ADDR, "nd.ra.addresses", 0, "IPv6 addresses made of advertised prefixes")                                       \
  X(RA_EXPIRED, "nd.ra.expired", 1, "learned IPv6 addresses whose lifetime ended")                                     \
  X(RA_LIMIT, "nd.ra.limit", 1, "routers, prefixes or addresses not learned because there are too many")               \
  X(REDIRECTS, "icmp.rx.redirects", 0, "redirects followed")                                                           \
  X(REDIRECT_REFUSED, "icmp.rx.redirect_refused", 1,                                                                   \
    "redirects not from the first hop, or to where no neighbour can be")                                               \
  X(MLD_QUERY, "mld.rx.query", 0, "multicast listener queries that came")                                              \
  X(IGMP_QUERY, "igmp.rx.query", 0, "IGMP queries that came")                                                          \
  X(IGMP_TX, "igmp.tx.reports", 0, "IGMPv3 reports sent")                                                              \
  X(MLD_TX, "mld.tx.reports", 0, "multicast listener reports sent")                                                    \
  X(DHCP_TX, "dhcp.tx", 0, "DHCP messages sent")                                                                       \
  X(DHCP_RX, "dhcp.rx", 0, "DHCP messages that came")                                                                  \
  X(DHCP_BAD, "dhcp.rx.bad", 1, "DHCP messages malformed, or grants that no host can use")                             \
  X(DHCP_NAK, "dhcp.rx.nak", 1, "requests that a DHCP server refused")                                                 \
  X(DHCP_BOUND, "dhcp.bound", 0, "leases obtained or prolonged")                                                       \
  X(DHCP_EXPIRED, "dhcp.expired", 2, "leases that ended because no server answered")                                   \
  X(DHCP_DECLINED, "dhcp.declined", 2, "addresses granted that another station has")                                   \
  X(ICMP_RX, "icmp.rx", 0, "ICMP and ICMPv6 messages that came")                                                       \
  X(ICMP_BAD, "icmp.rx.bad", 1, "ICMP messages too short or with a wrong checksum")                                    \
  X(ICMP_ECHO, "icmp.rx.echo", 0, "echo requests answered")                                                            \
  X(ICMP_ECHO_LONG, "icmp.rx.echo_long", 1, "echo requests not answered because they do not fit one frame slot")       \
  X(ICMP_IGNORED, "icmp.rx.ignored", 0, "ICMP messages of types that do not concern a host")                           \
  X(ICMP_ERROR, "icmp.rx.error", 0, "ICMP errors passed to TCP or UDP")                                                \
  X(ICMP_ERROR_BAD, "icmp.rx.error_bad", 1, "ICMP errors that quote nothing we could have sent")                       \
  X(ICMP_TX_ERROR, "icmp.tx.error", 0, "ICMP errors sent")                                                             \
  X(ICMP_TX_LIMITED, "icmp.tx.limited", 1, "ICMP errors not sent because of the rate limit")

enum ip_counter {
#define X(id, name, sev, help) IPC_##id,
  IP_COUNTERS(X)
#undef X
      IPC_N
};

#endif
