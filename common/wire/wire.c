/*
 * Names of the reasons for which a packet is refused. Any thread.
 */
#include "wire/wire.h"
#include "base/bits.h"

const char *wire_err_name(int err) {
  static const char *const names[] = {"ok", "short", "length", "version", "value", "limit", "cksum", "room"};
  unsigned i = err < 0 ? 0u - (unsigned)err : 0;
  return i < ARRAY_LEN(names) ? names[i] : "unknown";
}
