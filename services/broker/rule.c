/*
 * Session rules: the records in the rules segment, when they are compiled, and what they mean for cut-through.
 *
 * Called by boot.c, rule_ctl.c, custody_srv.c and pair.c on the main thread. A change is durable with its record and
 * counts once it is compiled into the bank that the engine does not read: at once, or when the engine has said that it
 * has moved on from that bank (PolicySeen). Nobody waits for it; `hsctl rule` asks until it is so.
 */
#include "broker.h"

#include "base/fault.h"
#include "base/log.h"
#include "svc/rule_text.h"

#include <unistd.h>

/** Those of the configuration, once in the life of the segment: what was changed at run time holds over restarts. */
static void rule_configured(struct broker *b) {
  struct abi_rules *blk = b->rules.view.block;
  if (blk->configured != 0)
    return;
  for (uint32_t i = 0; i < b->svc.cfg.n_rules; i++) {
    const struct config_rule *c = &b->svc.cfg.rule[i];
    struct rule_text t = config_rule_text(c);
    struct abi_rule r;
    char why[160];
    int ns = ns_find(b, c->ns);
    int64_t rc = rule_text_parse(&t, &r, why, sizeof why) != NULL || ns < 0 ? -EINVAL : 0;
    if (r.table == ABI_RULE_EGRESS)
      r.scope = (uint32_t)ns;
    if (rc == 0)
      rc = rules_add(&b->rules, &r);
    if (rc < 0 && rc != -EEXIST) /* EEXIST: added by the broker that died before it said so */
      log_error("broker.rules", "broker.rules, rule %u: %s", i + 1, err_text((int)rc));
  }
  FAULT_POINT("broker.rules.configured");
  __atomic_store_n(&blk->configured, 1u, __ATOMIC_RELEASE);
}

int rule_open(struct broker *b, uint32_t item) {
  struct rules_view v;
  const char *why = "?";
  int fd = item != REGISTRY_NONE ? dup(b->item[item].fd) : -1;
  if (fd < 0)
    return -ENOENT;
  int rc = rules_open(&v, fd, SEG_RDWR, &why);
  if (rc < 0) {
    log_error("broker.rules", "segment: %s", why);
    return rc;
  }
  rc = rules_edit_open(&b->rules, &v);
  if (rc < 0)
    return rc;
  (void)rules_take(&b->rules.view);
  rule_configured(b);
  b->rules_due = b->rules.n != 0 || b->rules.view.block->gen != 0;
  return 0;
}

void rule_close(struct broker *b) {
  if (b->rules.tuple_use != NULL)
    rules_edit_close(&b->rules);
}

/** Whether nobody reads the bank that is not in force. */
static int rule_bank_free(const struct broker *b) {
  if (b->vsvc[CUSTODY_ENGINE] == NULL || b->rules.view.block->gen == 0)
    return 1;
  return b->policy_seen_valid && (int32_t)(b->policy_seen - b->rules_policy) >= 0;
}

void rule_tick(struct broker *b) {
  if (!b->rules_due || b->boot != BOOT_DONE || !rule_bank_free(b))
    return;
  int rc = rules_publish(&b->rules);
  if (rc < 0) {
    log_warn_rl("broker.rules", "not compiled: %s", err_text(rc));
    return;
  }
  (void)rules_take(&b->rules.view);
  b->rules_due = 0;
  FAULT_POINT("broker.rules.publish");
  b->rules_policy = policy_publish(b);
}

void rule_changed(struct broker *b) {
  b->rules_due = 1;
  rule_tick(b);
}

int rule_in_force(const struct broker *b) {
  if (b->rules_due)
    return 0;
  return b->rules.view.block->gen == 0 || (b->policy_seen_valid && (int32_t)(b->policy_seen - b->rules_policy) >= 0);
}

/** 1 = no rule but "allow" speaks of it. */
static int rule_allows(const struct broker *b, const struct rules_key *k) {
  struct abi_rule_verdict v;
  return !rules_any(&b->rules.view, k->table) || !rules_find(&b->rules.view, k, &v) || v.action == ABI_RULE_ALLOW;
}

int rule_cut_ok(const struct broker *b, uint32_t ns, uint8_t proto, const uint8_t ip[16], uint16_t port) {
  struct rules_key k = {.table = ABI_RULE_EGRESS, .proto = proto, .port = port, .scope = ns, .remote = ip, .local = ip};
  if (!rule_allows(b, &k))
    return 0;
  k.table = ABI_RULE_INGRESS;
  k.scope = config_ns_vrf(&b->svc.cfg, ns);
  return rule_allows(b, &k);
}
