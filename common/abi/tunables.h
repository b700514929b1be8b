/*
 * TCP's tunables: one list for the configuration keys (engine.tcp.NAME), the engine's settings, `hsctl show tcp config`
 * and `hsctl set tcp NAME VALUE`; and where a value set at run time outlives the engine.
 *
 * A tunable's place in the list is its number in shared memory: the list only grows at its end, and an entry keeps its
 * unit for ever. A value set at run time holds until it is set to `default` or the TCB segment ends with all services
 * (broker, engine and nicio down together); configuration then counts again. The engine's control thread is the one
 * writer of struct abi_tunables; workers of a new engine read it before they adopt.
 */
#ifndef HS_ABI_TUNABLES_H
#define HS_ABI_TUNABLES_H

#include <stdint.h>

/* X(field, "name", kind, "unit", least, greatest, default, "default as written", reach, "words", "help")
 * kind: BOOL, NUM, MS (field in µs), SEC (field in µs), SIZE (bytes), CHOICE (number of a word).
 * reach: NEW = connections opened from now on, ALL = every connection from its next use of the value on. */
#define ABI_TUNABLES(X)                                                                                                \
  X(sack, "sack", BOOL, "", 0, 1, 1, "true", NEW, "", "selective acknowledgement (RFC 2018)")                          \
  X(timestamps, "timestamps", BOOL, "", 0, 1, 1, "true", NEW, "", "timestamps (RFC 7323)")                             \
  X(wscale, "window-scaling", BOOL, "", 0, 1, 1, "true", NEW, "", "windows beyond 64 KB (RFC 7323)")                   \
  X(nodelay, "nodelay", BOOL, "", 0, 1, 0, "false", ALL, "", "TCP_NODELAY unless the program sets it")                 \
  X(rto_initial, "rto-initial-ms", MS, "ms", 100, 60000, 1000, "1000", NEW, "",                                        \
    "before the first measurement (RFC 6298 2.1)")                                                                     \
  X(rto_min, "rto-min-ms", MS, "ms", 5, 60000, 200, "200", ALL, "", "least retransmission timeout")                    \
  X(rto_max, "rto-max-ms", MS, "ms", 1000, 600000, 60000, "60000", ALL, "",                                            \
    "greatest retransmission timeout (RFC 6298 2.5)")                                                                  \
  X(delack, "delayed-ack-ms", MS, "ms", 1, 500, 40, "40", ALL, "",                                                     \
    "longest wait with an acknowledgement (RFC 9293 3.8.6.3)")                                                         \
  X(syn_retries, "syn-retries", NUM, "times", 0, 30, 6, "6", ALL, "", "SYN retransmissions before ETIMEDOUT")          \
  X(data_retries, "data-retries", NUM, "times", 3, 60, 15, "15", ALL, "", "data retransmissions before ETIMEDOUT")     \
  X(time_wait, "time-wait-ms", MS, "ms", 100, 600000, 60000, "60000", ALL, "", "time in TIME-WAIT")                    \
  X(fin_wait2, "fin-wait-2-ms", MS, "ms", 100, 3600000, 60000, "60000", ALL, "", "time of an orphan in FIN-WAIT-2")    \
  X(keepidle_s, "keepalive-idle-s", NUM, "s", 1, 32767, 7200, "7200", ALL, "",                                         \
    "silence before the first probe, if SO_KEEPALIVE")                                                                 \
  X(keepintvl_s, "keepalive-interval-s", NUM, "s", 1, 32767, 75, "75", ALL, "", "between probes")                      \
  X(keepcnt, "keepalive-count", NUM, "probes", 1, 127, 9, "9", ALL, "", "unanswered probes before ETIMEDOUT")          \
  X(init_cwnd_segs, "initial-window-segments", NUM, "segments", 1, 100, 10, "10", NEW, "",                             \
    "initial congestion window (RFC 6928)")                                                                            \
  X(idle_restart, "slow-start-after-idle", BOOL, "", 0, 1, 1, "true", ALL, "",                                         \
    "initial window again when nothing was sent for an RTO (RFC 5681 4.1)")                                            \
  X(orphans_max, "orphans-max", NUM, "connections", 0, 16777216, 16384, "16384", ALL, "",                              \
    "orphans beyond this are reset")                                                                                   \
  X(cc, "congestion-control", CHOICE, "", 0, 2, 1, "cubic", NEW, "newreno cubic bbr",                                  \
    "unless the program sets TCP_CONGESTION (RFC 9438, RFC 5681)")                                                     \
  X(synack_retries, "syn-ack-retries", NUM, "times", 0, 30, 5, "5", ALL, "",                                           \
    "SYN-ACK retransmissions before a half-open connection is given up")                                               \
  X(user_timeout_ms, "user-timeout-ms", NUM, "ms", 0, 86400000, 0, "0", ALL, "",                                       \
    "give up data unacknowledged for so long unless TCP_USER_TIMEOUT (RFC 5482); 0 = data-retries decide")             \
  X(ecn, "ecn", CHOICE, "", 0, 2, 1, "passive", NEW, "off passive on",                                                 \
    "explicit congestion notification (RFC 3168); passive: when the peer asks for it")                                 \
  X(fastopen, "fastopen", CHOICE, "", 0, 3, 3, "both", NEW, "off client server both",                                  \
    "data in SYNs, where programs ask for it (RFC 7413)")                                                              \
  X(rcv_buf_min, "receive-buffer-min", SIZE, "bytes", 4096, 14680064, 4096, "4k", NEW, "",                             \
    "least that SO_RCVBUF sets")                                                                                       \
  X(rcv_buf, "receive-buffer", SIZE, "bytes", 16384, 14680064, 262144, "256k", NEW, "",                                \
    "receive buffer of a new connection")                                                                              \
  X(rcv_buf_max, "receive-buffer-max", SIZE, "bytes", 16384, 14680064, 4194304, "4M", NEW, "",                         \
    "receive buffers grow with rate and round trip up to this, and to engine.fifo.rx-max")                             \
  X(snd_buf_min, "send-buffer-min", SIZE, "bytes", 4096, 14680064, 4096, "4k", NEW, "", "least that SO_SNDBUF sets")   \
  X(snd_buf, "send-buffer", SIZE, "bytes", 16384, 14680064, 262144, "256k", NEW, "",                                   \
    "send buffer of a new connection")                                                                                 \
  X(snd_buf_max, "send-buffer-max", SIZE, "bytes", 16384, 14680064, 4194304, "4M", NEW, "",                            \
    "send buffers grow to twice the congestion window up to this, and to engine.fifo.tx-max")                          \
  X(rcv_auto, "receive-buffer-auto", BOOL, "", 0, 1, 1, "true", ALL, "",                                               \
    "receive buffers grow unless SO_RCVBUF fixes them")                                                                \
  X(pacing, "pacing", BOOL, "", 0, 1, 1, "true", ALL, "",                                                              \
    "data leaves spread over the round trip where that is 4 ms or more")                                               \
  X(syncookies, "syn-cookies", CHOICE, "", 0, 2, 1, "auto", ALL, "off auto always",                                    \
    "SYN cookies (RFC 4987); auto: when half-open connections are too many")                                           \
  X(half_open_max, "half-open-max", NUM, "connections", 1, 16777216, 4096, "4096", ALL, "",                            \
    "half-open connections of all listeners; beyond it cookies are sent, or without them SYNs dropped")                \
  X(abort_on_overflow, "abort-on-overflow", BOOL, "", 0, 1, 0, "false", ALL, "",                                       \
    "reset a client that the accept queue has no room for, instead of letting it try again")                           \
  X(syn_rate, "syn-rate-per-source", NUM, "SYNs/s", 0, 1000000, 0, "0", ALL, "",                                       \
    "SYNs taken from one address (IPv6: from a /64) per second; 0 = no limit")                                         \
  X(mtu_probing, "mtu-probing", CHOICE, "", 0, 2, 1, "blackhole", NEW, "off blackhole on",                             \
    "search for the path MTU with data (RFC 4821): never, where large segments vanish, always")                        \
  X(mtu_base, "mtu-probe-base", NUM, "bytes", 552, 9000, 1024, "1024", ALL, "",                                        \
    "path MTU where the search begins; 1280 for IPv6 if less")                                                         \
  X(pmtu_life, "path-mtu-life-s", SEC, "s", 10, 86400, 600, "600", ALL, "",                                            \
    "a larger path MTU is tried after so long (RFC 1191 6.3, RFC 8201 4)")

#define ABI_TUNE_ENUM_(field, name, kind, unit, lo, hi, def, text, reach, words, help) ABI_TUNE_##field,
enum abi_tunable { ABI_TUNABLES(ABI_TUNE_ENUM_) ABI_TUNE_N };
#undef ABI_TUNE_ENUM_

/* X(lower, higher): two tunables whose values must stand in this order. */
#define ABI_TUNE_ORDER(X)                                                                                              \
  X(rto_min, rto_initial)                                                                                              \
  X(rto_initial, rto_max)                                                                                              \
  X(rcv_buf_min, rcv_buf)                                                                                              \
  X(rcv_buf, rcv_buf_max)                                                                                              \
  X(snd_buf_min, snd_buf)                                                                                              \
  X(snd_buf, snd_buf_max)

#define ABI_TUNE_ROOM 64u
_Static_assert(ABI_TUNE_N <= ABI_TUNE_ROOM, "every tunable has a word and a bit");

/** Values set at run time, in their units; each counts if its bit is set. Order of stores: value, then `set`. */
struct abi_tunables {
  uint64_t set; /* atomic */
  uint32_t value[ABI_TUNE_ROOM];
  uint32_t fastopen_keys;   /* atomic, stored last: so many of the keys below count; 2: cookies of the second, too */
  uint8_t fastopen_key[32]; /* RFC 7413 4.1.2, 16 bytes each; shown nowhere */
  uint32_t reserved[21];
};
_Static_assert(sizeof(struct abi_tunables) == 384, "tunables");

#endif
