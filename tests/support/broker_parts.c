/*
 * Parts of A segments: an app's side of AddPart, PartMapped, DropPart (broker_parts.h).
 */
#include "broker_parts.h"

#include "ctl/attach.h"
#include "shm/part.h"
#include "test.h"

#include <unistd.h>

int rig_app_add_parted(struct rig_app *a, uint64_t keep, uint64_t step, int fixed) {
  Hoststack__Attach__AddWorker m = HOSTSTACK__ATTACH__ADD_WORKER__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  m.n_slots = 64;
  m.tx_parts = 1;
  m.tx_keep = keep;
  m.tx_step = step;
  m.tx_fixed = fixed;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_ADD_WORKER;
  rq.add_worker = &m;
  return rig_app_take_worker(a, &rq);
}

int rig_app_add_part(struct rig_app *a, uint32_t n, int whole, uint64_t *place, uint64_t *size) {
  Hoststack__Attach__AddPart m = HOSTSTACK__ATTACH__ADD_PART__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  rig_reply *r = NULL;
  int fds[ATTACH_FDS_MAX], n_fds = 0;
  m.worker_id = a->worker_id;
  m.n = n;
  m.whole = whole;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_ADD_PART;
  rq.add_part = &m;
  int rc = rig_app_call(a, &rq, &r, fds, &n_fds);
  if (rc == 0) {
    assert_int_equal(r->body_case, HOSTSTACK__ATTACH__REPLY__BODY_ADD_PART);
    assert_int_equal(n_fds, 1);
    *place = r->add_part->place;
    *size = r->add_part->size;
    assert_int_equal(part_map(&a->view.seg_a, fds[0], *place, *size), 0);
    close(fds[0]);
  }
  if (r != NULL)
    hoststack__attach__reply__free_unpacked(r, NULL);
  return rc;
}

int rig_app_part_mapped(struct rig_app *a, uint64_t place) {
  Hoststack__Attach__PartMapped m = HOSTSTACK__ATTACH__PART_MAPPED__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  m.worker_id = a->worker_id;
  m.place = place;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_PART_MAPPED;
  rq.part_mapped = &m;
  return rig_app_call(a, &rq, NULL, NULL, NULL);
}

int rig_app_drop_part(struct rig_app *a, uint64_t place, uint64_t size) {
  Hoststack__Attach__DropPart m = HOSTSTACK__ATTACH__DROP_PART__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  assert_int_equal(part_clear(&a->view.seg_a, place, size), 0);
  m.worker_id = a->worker_id;
  m.place = place;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_DROP_PART;
  rq.drop_part = &m;
  return rig_app_call(a, &rq, NULL, NULL, NULL);
}
