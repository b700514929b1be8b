/*
 * The table of a session's stages in the library, and its one setter. See vcl_stage.h.
 *
 * ZOMBIE has no way out: the slot goes back to the engine, the session to its pool. What dies without ever having had a
 * handle (an offer that is withdrawn) is freed as OFFER.
 */
#include "vcl_stage.h"

#include "base/bits.h"
#include "vcl_app.h"
#include "vcl_session.h"

#define ROW(from, to, when)                                                                                            \
  { SESSION_##from, SESSION_##to, when }

const struct step stage_table[] = {
    ROW(NEW, BOUND, "bind: the broker keeps the address"),
    ROW(BOUND, LISTEN, "listen: the broker has it as a listener"),
    ROW(NEW, OFFER, "the engine has a connection for a listener of ours"),
    ROW(OFFER, OPEN, "accept; a branch of datagrams"),
    ROW(NEW, CONNECT, "connect; datagrams: the first connect or send"),
    ROW(BOUND, CONNECT, "the same, from an address of its own; datagrams: bind opens them"),
    ROW(CONNECT, OPEN, "answered: connected, or failed; or its stack is gone"),
    ROW(NEW, OPEN, "an epoll set"),
    ROW(NEW, DEFER, "Fast Open: the cookie is known, a write makes the SYN"),
    ROW(DEFER, CONNECT, "the first bytes, or a connect that gives up waiting for them"),
    ROW(CONNECT, NEW, "Fast Open: the engine told of the cookie; a pair came to nothing, and TCP begins"),
    ROW(OPEN, NEW, "connect again after one that failed; a pair came to nothing; datagrams: as if never opened"),
    ROW(NEW, ZOMBIE, "close"),
    ROW(BOUND, ZOMBIE, "close"),
    ROW(LISTEN, ZOMBIE, "close"),
    ROW(DEFER, ZOMBIE, "close"),
    ROW(CONNECT, ZOMBIE, "close: the engine cancels it"),
    ROW(OPEN, ZOMBIE, "close: what was written is still sent"),
};
const uint32_t stage_rows = ARRAY_LEN(stage_table);
uint32_t stage_wrong;

int stage_may(uint32_t from, uint32_t to) {
  return steps_may(stage_table, stage_rows, from, to);
}

void stage_set(struct session *s, uint32_t to) {
  if (!stage_may(s->life, to)) {
    (void)__atomic_add_fetch(&stage_wrong, 1, __ATOMIC_RELAXED);
    app_debug(1, "vcl.stage session %u: %s to %s is no change that there is", s->index, stage_name(s->life),
              stage_name(to));
  }
  s->life = (uint8_t)to;
}

const char *stage_name(uint32_t life) {
  static const char *const name[] = {
      [SESSION_NEW] = "NEW",     [SESSION_BOUND] = "BOUND", [SESSION_LISTEN] = "LISTEN", [SESSION_CONNECT] = "CONNECT",
      [SESSION_OFFER] = "OFFER", [SESSION_OPEN] = "OPEN",   [SESSION_DEFER] = "DEFER",   [SESSION_ZOMBIE] = "ZOMBIE",
  };
  return life < ARRAY_LEN(name) ? name[life] : "?";
}
