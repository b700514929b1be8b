/*
 * Parts of A segments as an app process of the broker's rig asks for them (proto/attach.proto, shm/part.h). One thread,
 * as the rig.
 */
#ifndef HS_TESTS_BROKER_PARTS_H
#define HS_TESTS_BROKER_PARTS_H

#include "broker_rig.h"

/** AddWorker of one that asks for parts: A has `keep` bytes, its parts `step` (0, 0: the broker's defaults). 0 or
 * -errno. */
int rig_app_add_parted(struct rig_app *a, uint64_t keep, uint64_t step, int fixed);
/** AddPart, mapped in its place. 0 with *place and *size, -errno. */
int rig_app_add_part(struct rig_app *a, uint32_t n, int whole, uint64_t *place, uint64_t *size);
int rig_app_part_mapped(struct rig_app *a, uint64_t place);
/** Unmapped, then DropPart. */
int rig_app_drop_part(struct rig_app *a, uint64_t place, uint64_t size);

#endif
