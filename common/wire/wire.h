/*
 * What all parsers of this room share: the reasons for refusing a packet. A parser returns the length of what it
 * understood (≥ 0) or one of these, negative; none of them reads beyond the length it is given or keeps a pointer.
 */
#ifndef HS_WIRE_WIRE_H
#define HS_WIRE_WIRE_H

#include "base/bytes.h"
#include "base/err.h"

#include <stddef.h>

enum wire_err {
  WIRE_SHORT = -1,   /* fewer bytes than the format needs */
  WIRE_LENGTH = -2,  /* a length field contradicts another or the packet */
  WIRE_VERSION = -3, /* not this protocol or version */
  WIRE_VALUE = -4,   /* a field has a value that the RFC forbids */
  WIRE_LIMIT = -5,   /* legal, but more of it than we follow */
  WIRE_CKSUM = -6,   /* wrong checksum */
  WIRE_ROOM = -7,    /* build: the buffer is too small */
};

/** Name of a reason for logs and counters ("short", "length" ...). */
const char *wire_err_name(int err);

#endif
