/*
 * Text for numbers and back: protocols, return values. Any thread, no state.
 */
#include "base/err.h"
#include "vppcom.h"

#include <strings.h>

static const char *const name_protos[] = {"TCP", "UDP", "NONE", "TLS", "QUIC", "DTLS", "SRTP", "HTTP"};
#define NAME_N_PROTOS (sizeof name_protos / sizeof name_protos[0])

const char *vppcom_proto_str(vppcom_proto_t proto) {
  return (unsigned)proto < NAME_N_PROTOS ? name_protos[(unsigned)proto] : "UNKNOWN";
}

int vppcom_unformat_proto(uint8_t *proto, char *proto_str) {
  if (proto == NULL || proto_str == NULL)
    return VPPCOM_EINVAL;
  for (uint8_t i = 0; i < NAME_N_PROTOS; i++) {
    if (strcasecmp(proto_str, name_protos[i]) != 0)
      continue;
    *proto = i;
    return VPPCOM_OK;
  }
  return VPPCOM_EINVAL;
}

const char *vppcom_retval_str(int retval) {
  switch (retval) {
  case VPPCOM_OK:
    return "VPPCOM_OK";
  case VPPCOM_EAGAIN:
    return "VPPCOM_EAGAIN";
  case VPPCOM_EINPROGRESS:
    return "VPPCOM_EINPROGRESS";
  case VPPCOM_EFAULT:
    return "VPPCOM_EFAULT";
  case VPPCOM_ENOMEM:
    return "VPPCOM_ENOMEM";
  case VPPCOM_EINVAL:
    return "VPPCOM_EINVAL";
  case VPPCOM_EBADFD:
    return "VPPCOM_EBADFD";
  case VPPCOM_EAFNOSUPPORT:
    return "VPPCOM_EAFNOSUPPORT";
  case VPPCOM_ECONNABORTED:
    return "VPPCOM_ECONNABORTED";
  case VPPCOM_ECONNRESET:
    return "VPPCOM_ECONNRESET";
  case VPPCOM_ENOTCONN:
    return "VPPCOM_ENOTCONN";
  case VPPCOM_ECONNREFUSED:
    return "VPPCOM_ECONNREFUSED";
  case VPPCOM_ETIMEDOUT:
    return "VPPCOM_ETIMEDOUT";
  case VPPCOM_EEXIST:
    return "VPPCOM_EEXIST";
  case VPPCOM_ENOPROTOOPT:
    return "VPPCOM_ENOPROTOOPT";
  case VPPCOM_EPIPE:
    return "VPPCOM_EPIPE";
  case VPPCOM_ENOENT:
    return "VPPCOM_ENOENT";
  case VPPCOM_EADDRINUSE:
    return "VPPCOM_EADDRINUSE";
  case VPPCOM_ENOTSUP:
    return "VPPCOM_ENOTSUP";
  default:
    return retval < 0 ? err_name(retval) : "success";
  }
}
