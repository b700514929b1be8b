/*
 * AddRule, DelRule, ShowRule. Generated structs stop here.
 *
 * Called by ctl.c on the main thread. A request to add is taken as a whole or not at all, but for a crash in the middle
 * of it: then its first rules are there, and `hsctl rule show` tells which.
 */
#include "broker.h"

#include "base/bits.h"
#include "base/log.h"
#include "control.pb-c.h"
#include "svc/rule_text.h"

#include <stdio.h>
#include <stdlib.h>

#define RULE_PAGE 1000u

/** One row and the texts it points to. */
struct rule_row {
  Hoststack__Control__Rule pb;
  char remote[56], local[56], ports[16];
};

static const char *rule_why(int64_t rc) {
  switch (rc) {
  case -EEXIST:
    return "there is a rule that matches the same";
  case -E2BIG:
    return "more than 256 different pairs of prefix lengths in one table";
  case -ENOSPC:
    return "all rules are in use";
  default:
    return err_text((int)rc);
  }
}

/** Words to a rule. NULL or why not. */
static const char *rule_parse(const struct broker *b, const Hoststack__Control__Rule *m, struct abi_rule *r, char *why,
                              size_t len) {
  struct rule_text t = {.table = m->table,
                        .proto = m->proto,
                        .remote = m->remote,
                        .local = m->local,
                        .ports = m->ports,
                        .action = m->action,
                        .app = m->app,
                        .to_port = m->to_port,
                        .vrf = m->vrf};
  if (rule_text_parse(&t, r, why, len) != NULL)
    return why;
  int ns = ns_find(b, m->namespace_id);
  if (r->table == ABI_RULE_INGRESS && m->namespace_id[0] != '\0') {
    snprintf(why, len, "namespace: found %s, allowed none: ingress rules are everybody's", m->namespace_id);
    return why;
  }
  if (ns < 0) {
    snprintf(why, len, "namespace: found %s, allowed one of broker.namespaces", m->namespace_id);
    return why;
  }
  if (r->table == ABI_RULE_EGRESS)
    r->scope = (uint32_t)ns;
  else if (!config_has_vrf(&b->svc.cfg, r->scope)) {
    snprintf(why, len, "vrf: found %u, allowed one of an interface", r->scope);
    return why;
  }
  return NULL;
}

static void rule_fill(const struct broker *b, const struct abi_rule *r, struct rule_row *row) {
  hoststack__control__rule__init(&row->pb);
  row->pb.id = r->id;
  row->pb.table = (char *)(uintptr_t)rule_text_table(r->table);
  row->pb.namespace_id = (char *)(uintptr_t)(r->table == ABI_RULE_EGRESS ? ns_name(b, r->scope) : "");
  row->pb.proto = (char *)(uintptr_t)rule_text_proto(r->proto);
  row->pb.remote = (char *)(uintptr_t)rule_text_prefix(r->remote, r->remote_bits, r->family, row->remote, 56);
  row->pb.local = (char *)(uintptr_t)rule_text_prefix(r->local, r->local_bits, r->family, row->local, 56);
  row->pb.ports = (char *)(uintptr_t)rule_text_ports(r->port_lo, r->port_hi, row->ports, sizeof row->ports);
  row->pb.action = (char *)(uintptr_t)rule_text_action(r->action);
  row->pb.app = (char *)(uintptr_t)r->app;
  row->pb.to_port = r->to_port;
  row->pb.vrf = r->table == ABI_RULE_EGRESS ? config_ns_vrf(&b->svc.cfg, r->scope) : r->scope;
}

/** The page [offset, offset + limit) of the rules, in the order of their records. */
static int rule_reply(const struct broker *b, uint32_t offset, uint32_t limit, uint8_t **reply, size_t *reply_len) {
  Hoststack__Control__Rules all = HOSTSTACK__CONTROL__RULES__INIT;
  Hoststack__Control__Reply out = HOSTSTACK__CONTROL__REPLY__INIT;
  uint32_t most = limit != 0 && limit < RULE_PAGE ? limit : RULE_PAGE, seen = 0;
  struct rule_row *row = calloc(most, sizeof *row);
  Hoststack__Control__Rule **list = calloc(most, sizeof *list);
  int rc = -ENOMEM;
  if (row == NULL || list == NULL)
    goto out;
  for (uint32_t i = 0; i < b->rules.view.block->high && all.n_rule < most; i++) {
    const struct abi_rule *r = &b->rules.view.rule[i];
    if (r->used == 0 || seen++ < offset)
      continue;
    rule_fill(b, r, &row[all.n_rule]);
    list[all.n_rule] = &row[all.n_rule].pb;
    all.n_rule++;
  }
  all.rule = list;
  all.total = b->rules.n;
  all.in_force = rule_in_force(b);
  out.body_case = HOSTSTACK__CONTROL__REPLY__BODY_RULES;
  out.rules = &all;
  rc = svc_pack_reply(&out, reply, reply_len);
out:
  free(list);
  free(row);
  return rc;
}

/** What was added, by id alone. */
static int rule_reply_ids(const struct broker *b, const int64_t *id, size_t n, uint8_t **reply, size_t *reply_len) {
  Hoststack__Control__Rules all = HOSTSTACK__CONTROL__RULES__INIT;
  Hoststack__Control__Reply out = HOSTSTACK__CONTROL__REPLY__INIT;
  uint32_t *ids = calloc(n + 1, sizeof *ids);
  if (ids == NULL)
    return -ENOMEM;
  for (size_t i = 0; i < n; i++)
    ids[i] = (uint32_t)id[i];
  all.id = ids;
  all.n_id = n;
  all.total = b->rules.n;
  all.in_force = rule_in_force(b);
  out.body_case = HOSTSTACK__CONTROL__REPLY__BODY_RULES;
  out.rules = &all;
  int rc = svc_pack_reply(&out, reply, reply_len);
  free(ids);
  return rc;
}

int rule_ctl_add(struct broker *b, const Hoststack__Control__AddRule *m, uint8_t **reply, size_t *reply_len) {
  char why[160], text[224];
  size_t done = 0;
  struct abi_rule *r = calloc(m->n_rule + 1, sizeof *r);
  int64_t *id = calloc(m->n_rule + 1, sizeof *id);
  int rc = -ENOMEM;
  if (r == NULL || id == NULL)
    goto out;
  for (size_t i = 0; i < m->n_rule; i++)
    if (rule_parse(b, m->rule[i], &r[i], why, sizeof why) != NULL) {
      snprintf(text, sizeof text, "rule %zu: %s", i + 1, why);
      rc = svc_error_reply(-EINVAL, text, reply, reply_len);
      goto out;
    }
  for (; done < m->n_rule; done++) {
    id[done] = rules_add(&b->rules, &r[done]);
    if (id[done] < 0)
      break;
  }
  if (done < m->n_rule) {
    int64_t err = id[done];
    snprintf(text, sizeof text, "rule %zu: %s", done + 1, rule_why(err));
    while (done > 0)
      (void)rules_del(&b->rules, (uint32_t)id[--done]);
    rc = svc_error_reply((int)err, text, reply, reply_len);
    goto out;
  }
  log_info("broker.rules", "%zu added, %u in all", m->n_rule, b->rules.n);
  rule_changed(b);
  rc = rule_reply_ids(b, id, m->n_rule, reply, reply_len);
out:
  free(id);
  free(r);
  return rc;
}

int rule_ctl_del(struct broker *b, const Hoststack__Control__DelRule *m, uint8_t **reply, size_t *reply_len) {
  char text[64];
  uint32_t before = b->rules.n, unknown = 0;
  for (uint32_t i = 0; m->all && i < b->rules.view.block->high; i++)
    if (b->rules.view.rule[i].used != 0)
      (void)rules_del(&b->rules, b->rules.view.rule[i].id);
  for (size_t i = 0; !m->all && i < m->n_id; i++)
    if (rules_del(&b->rules, m->id[i]) < 0 && unknown == 0)
      unknown = m->id[i];
  if (before != b->rules.n) {
    log_info("broker.rules", "%u deleted, %u left", before - b->rules.n, b->rules.n);
    rule_changed(b);
  }
  if (unknown == 0)
    return rule_reply(b, UINT32_MAX, 1, reply, reply_len);
  snprintf(text, sizeof text, "there is no rule %u; the others are deleted", unknown);
  return svc_error_reply(-ENOENT, text, reply, reply_len);
}

int rule_ctl_show(const struct broker *b, const Hoststack__Control__ShowRule *m, uint8_t **reply, size_t *reply_len) {
  return rule_reply(b, m->offset, m->limit, reply, reply_len);
}
