/*
 * The eleven states (RFC 9293 3.3.2, figure 5) as one const table, state × event → next state, and the only writer of
 * d->state. Also keeps the gauges of connections per state, and completes a transition that a crash cut off.
 *
 * Called from every file of this room that ends, opens or closes something; worker's thread.
 */
#include "tcp_int.h"

#define ROW [TCP_FSM_N]

/* 0 = cannot happen in that state. */
static const uint8_t tcp_fsm[12] ROW = {
    [ABI_TCP_CLOSED] = {[TCP_FSM_CONNECT] = ABI_TCP_SYN_SENT, [TCP_FSM_SYN] = ABI_TCP_SYN_RECEIVED},
    /* Listeners are the session layer's; its records are born in SYN_RECEIVED. The row is here for completeness. */
    [ABI_TCP_LISTEN] =
        {[TCP_FSM_CONNECT] = ABI_TCP_SYN_SENT, [TCP_FSM_SYN] = ABI_TCP_SYN_RECEIVED, [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
    [ABI_TCP_SYN_SENT] = {[TCP_FSM_SYN] = ABI_TCP_SYN_RECEIVED,
                          [TCP_FSM_ESTABLISH] = ABI_TCP_ESTABLISHED,
                          [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
    [ABI_TCP_SYN_RECEIVED] = {[TCP_FSM_ESTABLISH] = ABI_TCP_ESTABLISHED, [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
    [ABI_TCP_ESTABLISHED] =
        {[TCP_FSM_CLOSE] = ABI_TCP_FIN_WAIT_1, [TCP_FSM_FIN] = ABI_TCP_CLOSE_WAIT, [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
    [ABI_TCP_FIN_WAIT_1] =
        {[TCP_FSM_FIN] = ABI_TCP_CLOSING, [TCP_FSM_FIN_ACKED] = ABI_TCP_FIN_WAIT_2, [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
    [ABI_TCP_FIN_WAIT_2] =
        {[TCP_FSM_FIN] = ABI_TCP_TIME_WAIT, [TCP_FSM_TIMEOUT] = ABI_TCP_CLOSED, [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
    [ABI_TCP_CLOSE_WAIT] = {[TCP_FSM_CLOSE] = ABI_TCP_LAST_ACK, [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
    [ABI_TCP_CLOSING] = {[TCP_FSM_FIN_ACKED] = ABI_TCP_TIME_WAIT, [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
    [ABI_TCP_LAST_ACK] = {[TCP_FSM_FIN_ACKED] = ABI_TCP_CLOSED, [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
    [ABI_TCP_TIME_WAIT] = {[TCP_FSM_TIMEOUT] = ABI_TCP_CLOSED, [TCP_FSM_ABORT] = ABI_TCP_CLOSED},
};

static const struct {
  const char *name;
  uint8_t gauge; /* counter; ABI_TCP_CLOSED has none */
} tcp_state_of[12] = {
    [ABI_TCP_ESTABLISHED] = {"ESTABLISHED", TCP_C_state_established},
    [ABI_TCP_SYN_SENT] = {"SYN_SENT", TCP_C_state_syn_sent},
    [ABI_TCP_SYN_RECEIVED] = {"SYN_RECV", TCP_C_state_syn_received},
    [ABI_TCP_FIN_WAIT_1] = {"FIN_WAIT1", TCP_C_state_fin_wait_1},
    [ABI_TCP_FIN_WAIT_2] = {"FIN_WAIT2", TCP_C_state_fin_wait_2},
    [ABI_TCP_TIME_WAIT] = {"TIME_WAIT", TCP_C_state_time_wait},
    [ABI_TCP_CLOSED] = {"CLOSE", 0},
    [ABI_TCP_CLOSE_WAIT] = {"CLOSE_WAIT", TCP_C_state_close_wait},
    [ABI_TCP_LAST_ACK] = {"LAST_ACK", TCP_C_state_last_ack},
    [ABI_TCP_LISTEN] = {"LISTEN", TCP_C_state_listen},
    [ABI_TCP_CLOSING] = {"CLOSING", TCP_C_state_closing},
};

const char *tcp_state_name(uint32_t state) {
  return state < ARRAY_LEN(tcp_state_of) && tcp_state_of[state].name != NULL ? tcp_state_of[state].name : "?";
}

uint32_t tcp_state_next(uint32_t state, enum tcp_fsm_event ev) {
  return state < ARRAY_LEN(tcp_fsm) && (unsigned)ev < TCP_FSM_N ? tcp_fsm[state][ev] : 0;
}

void tcp_state_count(struct tcp_env *e, uint32_t state, int by) {
  if (state == ABI_TCP_CLOSED)
    return;
  BUG_ON(state >= ARRAY_LEN(tcp_state_of));
  e->counters[tcp_state_of[state].gauge] += (uint64_t)(int64_t)by;
}

/* The one store. */
static void tcp_state_store(struct tcp_env *e, struct abi_tcb *d, uint32_t from, uint32_t to) {
  tcp_state_count(e, from, -1);
  __atomic_store_n(&d->state, (uint16_t)to, __ATOMIC_RELEASE);
  tcp_state_count(e, to, 1);
}

void tcp_state_set(struct tcp_env *e, struct tcp_conn *c, enum tcp_fsm_event ev) {
  uint32_t from = tcp_state(c);
  uint32_t to = tcp_state_next(from, ev);
  BUG_ON(to == 0);
  tcp_state_store(e, c->d, from, to);
}

uint32_t tcp_state_settle(uint32_t state, uint32_t fin) {
  for (int i = 0; i < 2; i++) {
    uint32_t next = 0;
    if (fin & ABI_TCB_FIN_ACKED)
      next = tcp_state_next(state, TCP_FSM_FIN_ACKED);
    /* FIN_WAIT_2 is reached by the ACK of our FIN, so a settled FIN may be counted there only once */
    if (next == 0 && (fin & ABI_TCB_FIN_RCVD))
      next = tcp_state_next(state, TCP_FSM_FIN);
    if (next == 0)
      break;
    state = next;
  }
  return state;
}

/** Adoption only: store a state that the gauges do not know yet. */
void tcp_state_repair(struct abi_tcb *d, uint32_t state) {
  __atomic_store_n(&d->state, (uint16_t)state, __ATOMIC_RELEASE);
}
