/*
 * The list of trace events: TRACE_EVENT(name, arg0, arg1, arg2, arg3). One line per event; the argument names are the
 * JSON field names of a dump, "" for an argument that is not used. Included several times by trace.h and trace.c, with
 * TRACE_EVENT defined by the includer. Append only: ids are positions.
 */
TRACE_EVENT(tcp_state, conn, from, to, event)
TRACE_EVENT(tcp_seg_in, conn, seq, ack, flags)
TRACE_EVENT(tcp_seg_out, conn, seq, len, flags)
TRACE_EVENT(tcp_rto, conn, seq, rto_us, backoff)
TRACE_EVENT(tcp_rexmit, conn, seq, len, reason)
TRACE_EVENT(tcp_cwnd, conn, cwnd, ssthresh, flight)
TRACE_EVENT(tcp_rtt, conn, sample_us, srtt_us, rttvar_us)
TRACE_EVENT(sess_state, sess, from, to, error)
TRACE_EVENT(ip_drop, reason, len, proto, port)
TRACE_EVENT(ring_epoch, ring, old_epoch, new_epoch, pending)
TRACE_EVENT(peer_alive, peer, epoch, attempt, took_us)
TRACE_EVENT(peer_gone, peer, epoch, reason, held_us)
