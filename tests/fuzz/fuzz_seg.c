/*
 * Fuzz target over attach: headers of segments and the geometry in them, as a hostile app could leave them. Whatever is
 * accepted can be used: first and last byte of every area are touched. The first bytes choose the kind, the size of the
 * file and whether the fixed words are put right (else next to nothing would get past them); the rest is the geometry,
 * for workers of both segments. Corpus in corpus/seg.
 */
#include "base/err.h"
#include "fuzz.h"
#include "shm/frame.h"
#include "shm/session.h"
#include "shm/stats.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/** A sealed file of `mb` MB (0: one page) that begins with what the input says. */
static int make(struct fuzz_input *in, uint32_t kind, uint8_t raw, uint8_t mb) {
  struct abi_seg_hdr hdr;
  uint64_t size = mb == 0 ? 4096 : (uint64_t)mb << 20;
  if (raw) {
    fuzz_take_bytes(in, &hdr, sizeof hdr);
  } else {
    memset(&hdr, 0, sizeof hdr);
    hdr.magic = ABI_MAGIC;
    hdr.kind = kind;
    hdr.major = ABI_MAJOR;
    hdr.size = size;
    hdr.id = 1;
    hdr.state = ABI_SEG_READY;
    fuzz_take_bytes(in, hdr.geom, sizeof hdr.geom);
  }
  int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  REQUIRE(fd >= 0 && ftruncate(fd, (off_t)size) == 0 && pwrite(fd, &hdr, sizeof hdr, 0) == sizeof hdr);
  REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  return fd;
}

static void touch(const volatile uint8_t *p, uint64_t n) {
  if (n != 0)
    (void)(p[0] + p[n - 1]);
}

static void use_worker(const struct worker_view *v) {
  touch((const uint8_t *)v->app, sizeof *v->app);
  touch((const uint8_t *)v->engine, sizeof *v->engine);
  for (uint32_t i = 0; i <= v->ga.n_lanes; i++) {
    uint32_t *a = worker_view_ring_app(v, i), *e = worker_view_ring_engine(v, i);
    REQUIRE((a == NULL) == (i == v->ga.n_lanes) && (e == NULL) == (a == NULL));
    if (a != NULL) {
      touch((const uint8_t *)a, v->ga.ring_cap * 4);
      touch((const uint8_t *)e, v->ge.ring_cap * 4);
    }
  }
  uint32_t last = (uint32_t)v->ga.n_slots - 1;
  touch((const uint8_t *)worker_view_app(v, last), 512);
  touch((const uint8_t *)worker_view_engine(v, last), 512);
  REQUIRE(worker_view_app(v, last + 1) == NULL);
  touch(v->seg_a.base + v->ga.arena_off, v->ga.arena_size);
  touch(v->seg_e.base + v->ge.arena_off, v->ge.arena_size);
  touch(v->seg_a.base + v->ga.locks_off, v->ga.locks_size);
}

static void use_frames(struct seg *s) {
  struct frame_seg fs;
  struct frame_link l;
  if (frame_seg_open(&fs, s, NULL) < 0)
    return;
  touch(s->base + frame_rx_off(&fs, 0), fs.geom.n_rx * ABI_SLOT_SIZE);
  touch(s->base + frame_tx_off(&fs, 0), fs.geom.n_tx * ABI_SLOT_SIZE);
  for (uint32_t i = 0; i < fs.geom.n_links; i++) {
    memset(&l, 0, sizeof l);
    REQUIRE(frame_link_open(&l, &fs, i, FRAME_NICIO) == 0);
    touch((const uint8_t *)l.out_desc, l.out_desc_cap * sizeof *l.out_desc);
    touch((const uint8_t *)l.in_desc, l.in_desc_cap * sizeof *l.in_desc);
    touch((const uint8_t *)l.out_done, l.out_done_cap * sizeof *l.out_done);
    touch((const uint8_t *)l.in_done, l.in_done_cap * sizeof *l.in_done);
  }
  REQUIRE(frame_link_open(&l, &fs, (uint32_t)fs.geom.n_links, FRAME_NICIO) == -EINVAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input in = {.p = data, .left = size};
  uint8_t head[4];
  struct seg s;
  const char *why = NULL;
  fuzz_take_bytes(&in, head, sizeof head);
  uint8_t raw = head[1] & 1;
  if (head[0] % 3 == 0) {
    struct worker_view v;
    int a = make(&in, ABI_SEG_APP, raw, head[2]), e = make(&in, ABI_SEG_ENGINE, raw, head[3]);
    int rc = worker_view_open(&v, a, SEG_RDONLY, e, SEG_RDWR, &why);
    REQUIRE(rc == 0 || (rc == -EPROTO && why != NULL));
    if (rc == 0)
      use_worker(&v);
    worker_view_close(&v);
    return 0;
  }
  uint32_t kind = head[0] % 3 == 1 ? ABI_SEG_PACKET : ABI_SEG_STATS;
  int rc = seg_attach(&s, make(&in, kind, raw, head[2]), kind, SEG_RDWR, &why);
  REQUIRE(rc == 0 || (rc == -EPROTO && why != NULL));
  if (rc == 0 && kind == ABI_SEG_PACKET) {
    use_frames(&s);
  } else if (rc == 0) {
    struct abi_stat_desc d;
    uint64_t v;
    for (uint32_t i = 0; i < ABI_STATS_MAX + 1; i += 64)
      (void)stats_read(&s, i, &d, &v);
    memset(&d, 0, sizeof d);
    (void)stats_open(&s, 1, &d, 1);
  }
  seg_detach(&s);
  return 0;
}
