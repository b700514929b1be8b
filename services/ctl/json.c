/*
 * Any protobuf message as JSON, by its descriptor: field names as in the .proto file, 64-bit numbers as numbers.
 */
#include "hsctl.h"

#include <inttypes.h>
#include <string.h>

/* Bytes of the UTF-8 character at s (RFC 3629 4), 0 when there is none: an app chooses its name byte by byte. */
static size_t json_utf8(const unsigned char *s, size_t len) {
  size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : 0;
  if (s[0] >= 0xf0 && s[0] < 0xf5)
    n = 4;
  if (n == 0 || n > len)
    return 0;
  for (size_t i = 1; i < n; i++)
    if ((s[i] & 0xc0) != 0x80)
      return 0;
  if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
      (s[0] == 0xf4 && s[1] > 0x8f))
    return 0;
  return n;
}

static void json_string(FILE *f, const char *text, size_t len) {
  const unsigned char *s = (const unsigned char *)text;
  fputc('"', f);
  for (size_t i = 0; i < len;) {
    size_t n = json_utf8(s + i, len - i);
    if (n == 0)
      fputs("\\ufffd", f);
    else if (s[i] == '"' || s[i] == '\\')
      fprintf(f, "\\%c", s[i]);
    else if (s[i] < 0x20 || s[i] == 0x7f)
      fprintf(f, "\\u%04x", s[i]);
    else
      fwrite(s + i, 1, n, f);
    i += n ? n : 1;
  }
  fputc('"', f);
}

/* JSON knows no infinity and no NaN. */
static void json_double(FILE *f, double v) {
  if (v - v == 0)
    fprintf(f, "%.15g", v);
  else
    fputs("null", f);
}

static void json_value(FILE *f, const ProtobufCFieldDescriptor *d, const void *p) {
  switch (d->type) {
  case PROTOBUF_C_TYPE_BOOL:
    fputs(*(const protobuf_c_boolean *)p ? "true" : "false", f);
    break;
  case PROTOBUF_C_TYPE_STRING: {
    const char *s = *(char *const *)p;
    json_string(f, s ? s : "", s ? strlen(s) : 0);
    break;
  }
  case PROTOBUF_C_TYPE_BYTES: {
    const ProtobufCBinaryData *b = p;
    fputc('"', f);
    for (size_t i = 0; i < b->len; i++)
      fprintf(f, "%02x", b->data[i]);
    fputc('"', f);
    break;
  }
  case PROTOBUF_C_TYPE_MESSAGE:
    json_print(f, *(ProtobufCMessage *const *)p);
    break;
  case PROTOBUF_C_TYPE_DOUBLE:
    json_double(f, *(const double *)p);
    break;
  case PROTOBUF_C_TYPE_FLOAT:
    json_double(f, (double)*(const float *)p);
    break;
  case PROTOBUF_C_TYPE_UINT64:
  case PROTOBUF_C_TYPE_FIXED64:
    fprintf(f, "%" PRIu64, *(const uint64_t *)p);
    break;
  case PROTOBUF_C_TYPE_INT64:
  case PROTOBUF_C_TYPE_SINT64:
  case PROTOBUF_C_TYPE_SFIXED64:
    fprintf(f, "%" PRId64, *(const int64_t *)p);
    break;
  case PROTOBUF_C_TYPE_UINT32:
  case PROTOBUF_C_TYPE_FIXED32:
    fprintf(f, "%" PRIu32, *(const uint32_t *)p);
    break;
  default: /* 32-bit signed kinds and enums */
    fprintf(f, "%" PRId32, *(const int32_t *)p);
    break;
  }
}

static size_t json_size(const ProtobufCFieldDescriptor *d) {
  switch (d->type) {
  case PROTOBUF_C_TYPE_BOOL:
    return sizeof(protobuf_c_boolean);
  case PROTOBUF_C_TYPE_BYTES:
    return sizeof(ProtobufCBinaryData);
  case PROTOBUF_C_TYPE_STRING:
  case PROTOBUF_C_TYPE_MESSAGE:
    return sizeof(void *);
  case PROTOBUF_C_TYPE_DOUBLE:
  case PROTOBUF_C_TYPE_UINT64:
  case PROTOBUF_C_TYPE_INT64:
  case PROTOBUF_C_TYPE_SINT64:
  case PROTOBUF_C_TYPE_FIXED64:
  case PROTOBUF_C_TYPE_SFIXED64:
    return 8;
  default:
    return 4;
  }
}

static void json_array(FILE *f, const ProtobufCFieldDescriptor *d, const uint8_t *base) {
  size_t n = *(const size_t *)(const void *)(base + d->quantifier_offset);
  const uint8_t *items = *(uint8_t *const *)(const void *)(base + d->offset);
  fputc('[', f);
  for (size_t i = 0; i < n; i++) {
    if (i)
      fputc(',', f);
    json_value(f, d, items + i * json_size(d));
  }
  fputc(']', f);
}

/* Whether a field is the chosen one of its oneof, or an optional message that is there. */
static int json_present(const ProtobufCFieldDescriptor *d, const uint8_t *base) {
  if (d->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
    return *(const uint32_t *)(const void *)(base + d->quantifier_offset) == d->id;
  return d->type != PROTOBUF_C_TYPE_MESSAGE || *(void *const *)(const void *)(base + d->offset) != NULL;
}

void json_print(FILE *f, const ProtobufCMessage *m) {
  const uint8_t *base = (const uint8_t *)m;
  int some = 0;
  fputc('{', f);
  for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
    const ProtobufCFieldDescriptor *d = &m->descriptor->fields[i];
    if (d->label != PROTOBUF_C_LABEL_REPEATED && !json_present(d, base))
      continue;
    fprintf(f, "%s\"%s\":", some++ ? "," : "", d->name);
    if (d->label == PROTOBUF_C_LABEL_REPEATED)
      json_array(f, d, base);
    else
      json_value(f, d, base + d->offset);
  }
  fputc('}', f);
}
