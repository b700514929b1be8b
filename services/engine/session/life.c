/*
 * The state table of session records, and its one setter. See life.h.
 *
 * FREE is a slot that nobody lives in; a slot's next life begins there, whatever the last one came to. From "record" on
 * a successor of a dead engine finds what is here: adopt.c takes a CONNECTING without a TCB and an OFFERED that nobody
 * took back to FREE.
 */
#include "life.h"

#include "base/bits.h"

#define ROW(from, to, when)                                                                                            \
  { ABI_SESS_##from, ABI_SESS_##to, when }

const struct step life_table[] = {
    ROW(FREE, LISTENING, "the broker has it as a listener"),
    ROW(CLOSED, LISTENING, "the same, in a slot whose last life the app let go of"),
    ROW(LISTENING, CLOSED, "the listener is gone"),
    ROW(LISTENING, FREE, "the app closed it and uses the slot anew"),
    ROW(FREE, CONNECTING, "connect begins, before the SYN"),
    ROW(FREE, OFFERED, "a handshake is done: it waits for accept"),
    ROW(FREE, READY, "datagrams: open"),
    ROW(FREE, CLOSED, "refused before it began: no route, no port, a rule, no memory"),
    ROW(CONNECTING, READY, "the handshake is done"),
    ROW(CONNECTING, CLOSED, "refused, timed out, or closed by the app while half open"),
    ROW(CONNECTING, FREE, "engine restart before the SYN left: it is begun anew"),
    ROW(OFFERED, READY, "the app took it"),
    ROW(OFFERED, CLOSED, "reset or ended before the app took it, or taken when it was over"),
    ROW(OFFERED, FREE, "withdrawn: another process of the listener gets it"),
    ROW(READY, CLOSED, "the transport has ended: both FINs, a reset, a time-out; or the app closed it in TIME_WAIT"),
    ROW(CLOSING, CLOSED, "record of an older engine"),
    ROW(CLOSED, FREE, "the app has let go, or the slot is used anew"),
};
const uint32_t life_rows = ARRAY_LEN(life_table);
uint32_t life_wrong;

int life_may(uint32_t from, uint32_t to) {
  return steps_may(life_table, life_rows, from, to);
}

void life_set(struct abi_sess_engine *e, uint32_t to) {
  uint32_t from = __atomic_load_n(&e->state, __ATOMIC_RELAXED);
  if (!life_may(from, to))
    (void)__atomic_add_fetch(&life_wrong, 1, __ATOMIC_RELAXED);
  __atomic_store_n(&e->state, to, __ATOMIC_RELEASE);
}

const char *life_name(uint32_t state) {
  static const char *const name[] = {
      [ABI_SESS_FREE] = "FREE",       [ABI_SESS_LISTENING] = "LISTENING", [ABI_SESS_CONNECTING] = "CONNECTING",
      [ABI_SESS_OFFERED] = "OFFERED", [ABI_SESS_READY] = "READY",         [ABI_SESS_CLOSING] = "CLOSING",
      [ABI_SESS_CLOSED] = "CLOSED",
  };
  return state < ARRAY_LEN(name) ? name[state] : "?";
}
