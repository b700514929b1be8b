/*
 * exec: a listener goes on in the program that is executed, as a share of its predecessor's (vcl_wait.h, vcl_heir_*).
 *
 * Called by the preload shim: vcl_heir_tell by who executes, vcl_heir_join and vcl_heir_listen by the program that was
 * executed, before its main(). Nothing of the predecessor's memory is used: the broker makes a new share, and what was
 * offered to the old one comes to the new one when the old one closes.
 */
#include "vcl_app.h"
#include "vcl_session.h"
#include "vcl_wait.h"

static int heir_fill(const struct session *s, struct vcl_heir *out) {
  const struct broker *b = &s->w->broker;
  memset(out, 0, sizeof *out);
  if (s->kind != SESSION_STREAM || s->life != SESSION_LISTEN || (!b->have_token && !b->have_parent))
    return -EINVAL;
  memcpy(out->token, b->have_token ? b->token : b->parent, sizeof out->token);
  memcpy(out->ip, s->local.ip, sizeof out->ip);
  out->listener = s->share_due ? s->share_of : s->listener_id;
  out->backlog = s->backlog;
  out->port = s->local.port.raw;
  out->family = s->local.family;
  out->domain = s->domain;
  out->v6only = s->v6only;
  out->reuse = s->reuse;
  return 0;
}

int vcl_heir_tell(uint32_t h, struct vcl_heir *out) {
  struct session *s = session_enter(h);
  if (s == NULL)
    return VPPCOM_EBADFD;
  int rc = heir_fill(s, out);
  worker_leave(s->w);
  return rc;
}

void vcl_heir_join(const uint8_t token[16]) {
  memcpy(app_state.join, token, sizeof app_state.join);
  app_state.have_join = 1;
}

int vcl_heir_listen(const struct vcl_heir *in) {
  int h = vppcom_session_create(VPPCOM_PROTO_TCP, 0);
  if (h < 0)
    return h == -1 ? -errno : h;
  struct session *s = session_enter((uint32_t)h);
  if (s == NULL)
    return VPPCOM_EBADFD;
  memcpy(s->local.ip, in->ip, sizeof s->local.ip);
  s->local.port.raw = in->port;
  s->local.family = in->family;
  s->domain = in->domain;
  s->v6only = in->v6only;
  s->reuse = in->reuse;
  s->backlog = in->backlog;
  s->share_of = in->listener;
  s->share_due = 1;
  stage_set(s, SESSION_BOUND); /* by its predecessor */
  int rc = listen_share(s);
  s->nonblock = 1; /* as all sessions of the shim */
  worker_leave(s->w);
  if (rc < 0)
    (void)vppcom_session_close((uint32_t)h);
  return rc < 0 ? rc : h;
}
