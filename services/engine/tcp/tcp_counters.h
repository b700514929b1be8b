/*
 * What the TCP core counts: one X-macro list (name, severity, help) which is also what users see. Kinds: error
 * (somebody misbehaves or something was lost), warn (unusual), info, gauge (goes down again). Incremented by the
 * worker's thread in env->counters.
 */
#ifndef HS_ENGINE_TCP_COUNTERS_H
#define HS_ENGINE_TCP_COUNTERS_H

#define TCP_COUNTERS(X)                                                                                                \
  X(state_listen, gauge, "connections in LISTEN (listeners are the session layer's: always 0)")                        \
  X(state_syn_sent, gauge, "connections in SYN_SENT")                                                                  \
  X(state_syn_received, gauge, "connections in SYN_RECEIVED")                                                          \
  X(state_established, gauge, "connections in ESTABLISHED")                                                            \
  X(state_fin_wait_1, gauge, "connections in FIN_WAIT_1")                                                              \
  X(state_fin_wait_2, gauge, "connections in FIN_WAIT_2")                                                              \
  X(state_close_wait, gauge, "connections in CLOSE_WAIT")                                                              \
  X(state_closing, gauge, "connections in CLOSING")                                                                    \
  X(state_last_ack, gauge, "connections in LAST_ACK")                                                                  \
  X(state_time_wait, gauge, "connections in TIME_WAIT")                                                                \
  X(segs_in, info, "segments received, merged ones count once")                                                        \
  X(wire_segs_in, info, "segments received as they were on the wire")                                                  \
  X(bytes_in, info, "payload bytes received, duplicates too")                                                          \
  X(segs_out, info, "segments handed down, those to be cut count once")                                                \
  X(bytes_out, info, "payload bytes handed down, retransmissions too")                                                 \
  X(acks_out, info, "segments without data sent")                                                                      \
  X(fast_data, info, "in-order data taken by header prediction")                                                       \
  X(fast_ack, info, "acknowledgements taken by header prediction")                                                     \
  X(active_opens, info, "connects begun")                                                                              \
  X(passive_opens, info, "SYNs accepted by a listener")                                                                \
  X(cookies_sent, warn, "SYNs answered by a SYN cookie (RFC 4987)")                                                    \
  X(cookies_ok, info, "connections that came of a SYN cookie")                                                         \
  X(cookies_bad, warn, "ACKs for no connection that carried no SYN cookie of ours")                                    \
  X(fastopen_in, info, "SYNs with data that was taken at once (RFC 7413)")                                             \
  X(fastopen_out, info, "SYNs sent with data (RFC 7413)")                                                              \
  X(fastopen_bad, warn, "SYNs with a Fast Open cookie that is not ours: a new one was given")                          \
  X(fastopen_fallback, warn, "servers whose Fast Open is given up for an hour as SYNs with it got lost")               \
  X(established, info, "handshakes completed")                                                                         \
  X(parked, info, "handshakes completed while nobody took offers")                                                     \
  X(adopted, info, "connections taken over from a predecessor")                                                        \
  X(adopt_refused, error, "records that contradict themselves at adoption")                                            \
  X(rexmit_segs, warn, "segments retransmitted")                                                                       \
  X(rexmit_bytes, warn, "bytes retransmitted")                                                                         \
  X(fast_recovery, warn, "times fast recovery began")                                                                  \
  X(rexmit_lost, warn, "retransmissions found lost without an RTO")                                                    \
  X(rto, warn, "retransmission timeouts")                                                                              \
  X(tail_probes, info, "tail loss probes (RFC 8985 7)")                                                                \
  X(undo, info, "reductions of cwnd taken back as spurious")                                                           \
  X(frto, info, "retransmission timeouts that F-RTO found spurious (RFC 5682)")                                        \
  X(reordering, info, "segments that came late but came")                                                              \
  X(sent_log_none, info, "times that no log was free for what is out (tcp_sent.c)")                                    \
  X(tail_losses, warn, "losses that a tail loss probe repaired (RFC 8985 7.4)")                                        \
  X(ecn_agreed, info, "connections that agreed on ECN (RFC 3168)")                                                     \
  X(ecn_fallback, info, "SYNs sent again without asking for ECN (RFC 3168 6.1.1.1)")                                   \
  X(ecn_ce_in, info, "data that came marked: congestion experienced")                                                  \
  X(ecn_ece_in, info, "acknowledgements that echo a mark")                                                             \
  X(ecn_cuts, info, "times that cwnd was reduced for such an echo")                                                    \
  X(reneged, warn, "peers that forgot what they had SACKed")                                                           \
  X(dsack_in, info, "duplicates reported by peers")                                                                    \
  X(dup_in, info, "segments whose bytes were all here already")                                                        \
  X(ooo_in, info, "segments beyond a hole")                                                                            \
  X(ooo_logs, info, "times that a receiver held more than eight ranges beyond holes")                                  \
  X(ooo_full, warn, "segments dropped as no out-of-order range was free")                                              \
  X(no_memory, error, "segments dropped in part as the rx fifo could not grow")                                        \
  X(oow, warn, "segments outside the window")                                                                          \
  X(paws, warn, "segments with an old timestamp (RFC 7323 5.3)")                                                       \
  X(no_timestamp, warn, "segments without the timestamp that was agreed on")                                           \
  X(bad_ack, warn, "acknowledgements of what was never sent, or of the distant past (RFC 5961 5)")                     \
  X(challenge, warn, "challenge ACKs sent (RFC 5961)")                                                                 \
  X(challenge_limited, warn, "challenge ACKs held back by their rate limit")                                           \
  X(rst_in, warn, "connections reset by their peers")                                                                  \
  X(rst_ignored, warn, "RSTs that were not exactly in place, or hit TIME_WAIT (RFC 5961 3, RFC 1337)")                 \
  X(rst_out, warn, "connections reset by us")                                                                          \
  X(orphan_data, warn, "data for connections whose app is gone, answered by RST")                                      \
  X(zero_window_probes, info, "probes of a closed window")                                                             \
  X(urgent_in, info, "urgent pointers that named a byte yet to come (RFC 6093)")                                       \
  X(keepalive_probes, info, "keep-alive probes")                                                                       \
  X(window_updates, info, "ACKs sent to open the window")                                                              \
  X(rests, info, "times a silent connection gave back what only a busy one needs")                                     \
  X(rcv_buf_grown, info, "times a receive buffer grew with rate and round trip")                                       \
  X(delayed_acks, info, "ACKs sent by the delayed-ACK timer")                                                          \
  X(timeouts, warn, "connections given up for want of answers")                                                        \
  X(icmp_ignored, warn, "ICMP messages about segments that are not out (RFC 5927 4)")                                  \
  X(icmp_half_open, warn, "half-open connections ended by an ICMP error about our SYN-ACK")                            \
  X(pmtu_lowered, info, "path MTUs lowered because a router said so")                                                  \
  X(pmtu_blackhole, warn, "path MTUs lowered because large segments vanished (RFC 4821)")                              \
  X(pmtu_probes, info, "segments sent to find out whether the path takes larger ones")                                 \
  X(pmtu_probes_lost, info, "of these, those that it did not take")                                                    \
  X(pmtu_raised, info, "path MTUs raised")                                                                             \
  X(send_blocked, info, "times that no frame was free")                                                                \
  X(send_failed, warn, "segments refused by the layers below")

#define TCP_COUNTER_ENUM_(name, severity, help) TCP_C_##name,
enum tcp_counter { TCP_COUNTERS(TCP_COUNTER_ENUM_) TCP_N_COUNTERS };
#undef TCP_COUNTER_ENUM_

#define TCP_COUNT_N(e, name, by) ((e)->counters[TCP_C_##name] += (by))
#define TCP_COUNT(e, name)       TCP_COUNT_N(e, name, 1)

#endif
