/*
 * The simulator's loop: virtual time jumps to the next packet, timer, look of an app or return of an engine; what is
 * due happens, engines send, invariants are checked. Ends when both transports are gone and both apps have everything.
 */
#include "sim.h"

#include "base/bits.h"
#include "base/fault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SIM_TIME_MAX  (4ull * 3600 * 1000000) /* virtual */
#define SIM_STEPS_MAX 3000000ull
#define SIM_POLL      700u /* µs between two looks of an app that has something to do */

static void sim_rearm(struct sim *s) {
  const char *name = s->cfg.crash_at ? s->cfg.crash_at : "*";
  if (fault_arm(name, 1 + (uint32_t)rng_below(&s->rng, 2 * s->cfg.crash_in), FAULT_HOOK) < 0)
    sim_fail(s, "fault point %s cannot be armed", name);
}

static void sim_hook(const char *name, void *ctx) {
  struct sim *s = ctx;
  if (s->victim < 0)
    return;
  snprintf(s->crash_name, sizeof s->crash_name, "%s", name);
  sim_rearm(s);
  longjmp(s->crashed, 1);
}

static int sim_app_busy(const struct sim *s, int id) {
  const struct sim_host *h = &s->host[id];
  if (h->rx.tail != h->rx.head || !h->takes_offers)
    return 1;
  return !h->ended && h->written < s->cfg.bytes[id] && h->tx.tail - h->tx.head < h->tx.size;
}

usec_t sim_next(const struct sim *s) {
  usec_t t = sim_path_next(s);
  for (int i = 0; i < 2; i++) {
    const struct sim_host *h = &s->host[i];
    if (h->down)
      t = HS_MIN(t, h->up_at);
    else
      t = HS_MIN(t, h->timer_at);
    if (h->starved)
      t = HS_MIN(t, s->now + 100);
    if (h->touched)
      t = HS_MIN(t, s->now + 1);
    if (sim_app_busy(s, i))
      t = HS_MIN(t, s->now + SIM_POLL);
  }
  return t;
}

static int sim_host_done(const struct sim *s, int id) {
  const struct sim_host *h = &s->host[id];
  if (s->cfg.abort_at)
    return h->ended;
  return h->ended && h->written == s->cfg.bytes[id] && h->read == s->cfg.bytes[!id];
}

static void sim_step_host(struct sim *s, int i) {
  struct sim_host *h = &s->host[i];
  if (h->down && h->up_at <= s->now)
    sim_host_adopt(s, i);
  if (!h->down && h->timer_at <= s->now)
    sim_host_timer(s, i);
  sim_host_app(s, i);
  if (!h->down && (h->touched || h->starved))
    sim_host_output(s, i);
  if (!h->down && h->conn != NULL && rng_chance_ppm(&s->rng, s->cfg.crash))
    sim_host_crash(s, i);
  sim_host_check(s, i);
}

static void sim_final(struct sim *s) {
  for (int i = 0; i < 2; i++) {
    const struct sim_host *h = &s->host[i];
    if (s->cfg.abort_at) { /* a crash before the error was stored leaves the peer's app with its own */
      if (h->end_error != ECONNABORTED && h->end_error != ECONNRESET && h->end_error != EPIPE)
        sim_fail(s, "host %d: aborted, but ended with error %u", i, h->end_error);
      continue;
    }
    if (h->end_error)
      sim_fail(s, "host %d: ended with error %u", i, h->end_error);
    if (s->cfg.close_first == 0 && !h->saw_eof)
      sim_fail(s, "host %d: never saw the end of the stream", i);
  }
}

static void sim_stuck(struct sim *s) {
  const struct sim_host *a = &s->host[0], *b = &s->host[1];
  sim_fail(s, "stuck: %s/%s, sent %llu/%llu, read %llu/%llu, fault point %s", tcp_state_name(a->tcb.state),
           tcp_state_name(b->tcb.state), (unsigned long long)a->written, (unsigned long long)b->written,
           (unsigned long long)a->read, (unsigned long long)b->read, s->crash_name);
}

int sim_begin(struct sim *s, const struct sim_case *cfg, usec_t *line) {
  memset(s, 0, sizeof *s);
  s->cfg = *cfg;
  s->victim = -1;
  s->now = 1000000;
  s->line_free = line != NULL ? line : s->line_own;
  rng_init(&s->rng, cfg->seed);
  for (int i = 0; i < 2; i++) {
    s->addr[i] = ip_addr_from4(0x0a000001u + (uint32_t)i);
    if (cfg->family == 6)
      s->addr[i] = (struct ip_addr){{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (uint8_t)(i + 1)}};
  }
  if (sim_host_init(s, 0) < 0 || sim_host_init(s, 1) < 0)
    return -1;
  if (cfg->crash_in) {
    fault_set_hook(sim_hook, s);
    sim_rearm(s);
  }
  sim_host_connect(s, 0);
  if (cfg->simultaneous_open)
    sim_host_connect(s, 1);
  return 0;
}

int sim_step(struct sim *s) {
  if (!s->fault[0] && sim_host_done(s, 0) && sim_host_done(s, 1)) {
    sim_final(s);
    return s->fault[0] ? -1 : 0;
  }
  usec_t t = sim_next(s);
  if (t == UINT64_MAX || t > SIM_TIME_MAX || s->steps++ > SIM_STEPS_MAX)
    sim_stuck(s);
  if (s->fault[0])
    return -1;
  s->now = HS_MAX(t, s->now);
  while (sim_path_due(s, s->now) && !s->fault[0])
    sim_path_deliver(s);
  sim_step_host(s, 0);
  sim_step_host(s, 1);
  return s->fault[0] ? -1 : 1;
}

int sim_run(struct sim *s, const struct sim_case *cfg) {
  int r = sim_begin(s, cfg, NULL);
  while (r >= 0 && (r = sim_step(s)) > 0) {
  }
  fault_disarm();
  return r;
}

void sim_fini(struct sim *s) {
  sim_path_fini(s);
  sim_host_fini(&s->host[0]);
  sim_host_fini(&s->host[1]);
}
