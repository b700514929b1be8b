/*
 * Counters and drop reasons of the engine outside TCP and IP: one list, which is what users see.
 */
#ifndef HS_ENGINE_COUNTERS_H
#define HS_ENGINE_COUNTERS_H

/* X(id, "name", severity 0 info 1 warning 2 error, "help") */
#define ENGINE_COUNTERS(X)                                                                                             \
  X(RX_FRAMES, "engine.rx.frames", 0, "frames taken from nicio")                                                       \
  X(RX_BYTES, "engine.rx.bytes", 0, "bytes of those frames")                                                           \
  X(TX_FRAMES, "engine.tx.frames", 0, "frames handed to nicio")                                                        \
  X(TX_BYTES, "engine.tx.bytes", 0, "bytes of those frames")                                                           \
  X(TX_NO_SLOT, "engine.tx.no_slot", 1, "times output waited for a free frame")                                        \
  X(TX_LINK_DOWN, "engine.tx.link_down", 1, "times output waited for nicio to come (back)")                            \
  X(RX_BAD_DESC, "engine.rx.bad_desc", 2, "descriptors from nicio that name memory outside the RX region")             \
  X(RX_BAD_L4_CKSUM, "engine.rx.bad_l4_cksum", 1, "TCP or UDP checksum wrong")                                         \
  X(RX_BAD_TCP, "engine.rx.bad_tcp_header", 1, "TCP header malformed")                                                 \
  X(RX_NO_LISTENER, "engine.rx.no_listener", 0, "segments for no connection and no listener: answered with RST")       \
  X(SYN_BACKLOG, "engine.syn.backlog_full", 1, "SYNs dropped because too many are half-open and cookies are off")      \
  X(SYN_ACCEPT_FULL, "engine.syn.accept_full", 1, "SYNs dropped because the listener's accept queue is full")          \
  X(FAST_HELD, "engine.syn.fast_held", 1, "Fast Opens reset before their last ACK: their places are kept for 60 s")    \
  X(SYN_RATE, "engine.syn.rate_limited", 1, "SYNs dropped beyond engine.tcp.syn-rate-per-source")                      \
  X(RULE_EGRESS, "engine.rule.egress_denied", 1, "connects and datagrams of apps that a session rule denies")          \
  X(RULE_INGRESS, "engine.rule.ingress_denied", 1, "SYNs and datagrams from outside that a session rule denies")       \
  X(RULE_REDIRECTED, "engine.rule.redirected", 0, "connects and SYNs that a session rule redirected")                  \
  X(RULE_NO_APP, "engine.rule.no_app", 1, "those that were to be redirected to an app that does not listen: refused")  \
  X(NS_REFUSED, "engine.namespace.refused", 1, "connects and datagrams of apps to sessions of another namespace")      \
  X(ACCEPT_OVERFLOW, "engine.accept.overflow", 1, "handshakes' last ACKs not taken as the accept queue is full")       \
  X(SYN_NO_TCB, "engine.syn.no_tcb", 1, "SYNs dropped because the TCB table is full")                                  \
  X(ACCEPT_PARKED, "engine.accept.parked", 0, "handshakes completed while no process took offers")                     \
  X(ACCEPT_NO_SLOT, "engine.accept.no_slot", 1, "offers put off because the app worker has no free session slot")      \
  X(SESS_OPENED, "engine.session.opened", 0, "sessions opened, both ways")                                             \
  X(SESS_CLOSED, "engine.session.closed", 0, "sessions closed")                                                        \
  X(SESS_ORPHANED, "engine.session.orphaned", 0, "sessions whose app closed or died first")                            \
  X(ORPHAN_LIMIT, "engine.session.orphan_limit", 1, "orphans reset because there are engine.tcp.orphans-max of them")  \
  X(ACCEPT_MOVED, "engine.accept.moved", 0, "offers not taken at their process's end, given to another share")         \
  X(TW_FULL, "engine.timewait.full", 1, "TIME_WAITs ended early because there are engine.max-time-waits of them")      \
  X(TW_REUSED, "engine.timewait.reused", 0, "TIME_WAITs that a new connection took over (RFC 6191)")                   \
  X(SESS_ADOPTED, "engine.session.adopted", 0, "sessions taken back from the durable table after a restart")           \
  X(SESS_ADOPT_BAD, "engine.session.adopt_refused", 2, "durable records that contradicted themselves")                 \
  X(APP_LIED, "engine.app.lied", 2, "app workers detached because their shared memory held impossible values")         \
  X(LINK_PEER_NEW, "engine.link.peer_new", 0, "times nicio came with a new epoch")                                     \
  X(RX_NO_CHUNK, "engine.rx.no_chunk", 1, "segments not taken because the app's rx arena was full")                    \
  X(HINT_PASSED, "engine.hint.passed", 0, "hints that came to another worker than the session's, and were passed on")  \
  X(HANDED_OVER, "engine.rx.handed_over", 0, "segments and datagrams that came to another worker than their owner")    \
  X(HANDED_DROP, "engine.rx.handed_drop", 1, "of those, dropped because the worker has too many to look at")           \
  X(LATE_WAKEUP, "engine.late_wakeup", 2, "times work was found at the sleep ceiling: a lost wake-up")                 \
  X(SLEEPS, "engine.sleeps", 0, "times the worker slept")                                                              \
  X(TURNS, "engine.turns", 0, "turns of the worker's loop that found work")

enum engine_counter {
#define X(id, name, sev, help) EC_##id,
  ENGINE_COUNTERS(X)
#undef X
      EC_N
};

#endif
