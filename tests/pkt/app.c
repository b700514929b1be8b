/*
 * Lines of the app: its calls on the device, what they return, and the bytes of its streams. Called by run.c.
 */
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void app_write(struct run *r, const struct pkt_line *l) {
  struct conn *k = &r->conn[l->conn];
  run_quiet(r, r->d->now());
  uint8_t *p = malloc((size_t)l->n);
  if (!p)
    abort();
  for (int64_t i = 0; i < l->n; i++)
    p[i] = pkt_byte(k->written + (uint32_t)i);
  int fast = l->verb == PKT_FASTOPEN;
  int n = (fast ? r->d->fastopen : l->verb == PKT_URGENT ? r->d->urgent : r->d->write)(l->conn, p, (uint32_t)l->n);
  free(p);
  if (fast && n == -EINPROGRESS) /* the first segment tells whether the cookie was known */
    return;
  if (n != l->n)
    run_fail(r, "write(%d) returned %d", (int)l->n, n);
  k->written += (uint32_t)n;
}

/* Stream byte N, counted from 1, is urgent and here; 0: no urgent byte is. */
static void app_oob(struct run *r, const struct pkt_line *l) {
  uint8_t byte = 0;
  uint64_t end = r->d->now() + 200000;
  int n;
  do { /* Linux looks at packets when it comes to it */
    n = r->d->oob(l->conn, &byte);
  } while (n == 0 && l->n > 0 && r->d->is_linux && r->d->now() < end);
  if (n != (l->n > 0))
    run_fail(r, "urgent bytes: %d", n);
  if (n > 0 && byte != pkt_byte((uint32_t)l->n - 1))
    run_fail(r, "the urgent byte is another: 0x%x", byte);
}

static void app_read(struct run *r, const struct pkt_line *l) {
  struct conn *k = &r->conn[l->conn];
  static uint8_t p[65536];
  for (int64_t left = l->n; left > 0;) {
    int n = r->d->read(l->conn, p, left < (int64_t)sizeof p ? (uint32_t)left : (uint32_t)sizeof p);
    if (n <= 0)
      run_fail(r, "read: %d with %d bytes missing", n, (int)left);
    for (int i = 0; i < n; i++)
      if (p[i] != pkt_byte(k->was_read + (uint32_t)i))
        run_fail(r, "wrong byte at stream position %u", k->was_read + (uint32_t)i);
    k->was_read += (uint32_t)n;
    left -= n;
  }
}

static const struct {
  const char *name;
  int err;
} errors[] = {{"ECONNRESET", ECONNRESET},
              {"ECONNREFUSED", ECONNREFUSED},
              {"ETIMEDOUT", ETIMEDOUT},
              {"EHOSTUNREACH", EHOSTUNREACH},
              {"ENETUNREACH", ENETUNREACH},
              {"EPIPE", EPIPE},
              {"ENOPROTOOPT", ENOPROTOOPT},
              {"EACCES", EACCES},
              {"EHOSTDOWN", EHOSTDOWN},
              {"ENONET", ENONET},
              {"EOPNOTSUPP", EOPNOTSUPP},
              {"EPROTO", EPROTO},
              {"NONE", 0},
              {"EMSGSIZE", EMSGSIZE}};

static void app_error(struct run *r, const struct pkt_line *l) {
  int want = -1, got = r->d->error(l->conn);
  for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++)
    if (!strcmp(errors[i].name, l->word))
      want = errors[i].err;
  if (want < 0)
    run_fail(r, "no errno of this name: %s", l->word);
  if (got != want)
    run_fail(r, "the error is %d (%s)", got, strerror(got));
}

static void app_connected(struct run *r, const struct pkt_line *l) {
  int rc = r->d->connected(l->conn);
  if (rc != 1)
    run_fail(r, "not connected: %d", rc);
}

static void app_eof(struct run *r, const struct pkt_line *l) {
  uint8_t p[1];
  int n = r->d->read(l->conn, p, 1);
  if (n != 0)
    run_fail(r, "no end of stream: read returns %d", n);
}

void app_line(struct run *r, const struct pkt_line *l) {
  switch (l->verb) {
  case PKT_WRITE:
  case PKT_FASTOPEN:
  case PKT_URGENT:
    app_write(r, l);
    break;
  case PKT_OOB:
    app_oob(r, l);
    break;
  case PKT_READ:
    app_read(r, l);
    break;
  case PKT_EOF:
    app_eof(r, l);
    break;
  case PKT_ERROR:
    app_error(r, l);
    break;
  case PKT_CONNECTED:
    app_connected(r, l);
    break;
  case PKT_LISTEN:
    run_must(r, r->d->listen((unsigned)l->n), "listen");
    break;
  case PKT_CONNECT:
    run_must(r, r->d->connect(l->conn), "connect");
    break;
  case PKT_ACCEPT:
    run_must(r, r->d->accept(l->conn), "accept");
    break;
  case PKT_SHUTDOWN:
    run_must(r, r->d->shutdown(l->conn), "shutdown");
    break;
  case PKT_CLOSE:
    run_must(r, r->d->shut(l->conn), "close");
    break;
  case PKT_ABORT:
    run_must(r, r->d->sockopt(l->conn, "linger", 0), "SO_LINGER");
    run_must(r, r->d->shut(l->conn), "close");
    break;
  default:
    run_must(r, r->d->sockopt(l->conn, l->word, l->n), "option");
    break;
  case PKT_TUNE:
    run_must(r, r->d->tune(l->word, l->n), "tunable");
    break;
  }
}
