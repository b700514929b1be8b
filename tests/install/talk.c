/*
 * A program as users of libvppcom write it, against the installed header and library alone: connects to ADDRESS PORT,
 * sends a line and expects it back. Without arguments it only asks for names. Built by test_install.py as C and as C++,
 * against the shared and the static library.
 */
#include <vcl/vppcom.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what, int rc) {
  printf("%s: %d\n", what, rc);
  return 1;
}

static int talk(const char *address, const char *port) {
  static const char line[] = "spoken through libvppcom\n";
  char back[sizeof line] = "";
  uint8_t ip[16];
  vppcom_endpt_t to;
  memset(&to, 0, sizeof to);
  to.is_ip4 = 1;
  to.ip = ip;
  to.port = htons((uint16_t)strtol(port, NULL, 10));
  if (inet_pton(AF_INET, address, ip) != 1)
    return fail("address", -1);
  int rc = vppcom_app_create("talk");
  if (rc)
    return fail("vppcom_app_create", rc);
  int s = vppcom_session_create(VPPCOM_PROTO_TCP, 0);
  if (s < 0)
    return fail("vppcom_session_create", s);
  rc = vppcom_session_connect((uint32_t)s, &to);
  if (rc)
    return fail("vppcom_session_connect", rc);
  rc = vppcom_session_write((uint32_t)s, (void *)line, sizeof line);
  if (rc != (int)sizeof line)
    return fail("vppcom_session_write", rc);
  for (size_t got = 0; got < sizeof line; got += (size_t)rc) {
    rc = vppcom_session_read((uint32_t)s, back + got, sizeof line - got);
    if (rc <= 0)
      return fail("vppcom_session_read", rc);
  }
  vppcom_session_close((uint32_t)s);
  vppcom_app_destroy();
  printf("%s", back);
  return strcmp(back, line) != 0;
}

/* names that the library uses inside; a host that has its own must link and keep them */
#ifdef __cplusplus
extern "C" {
#endif
#ifdef OWN_PROTOBUF_C /* the host's is the real one */
unsigned protobuf_c_version_number(void);
static int host_number(void) {
  return protobuf_c_version_number() >= 1000000 ? 41 : 0;
}
#else
int protobuf_c_message_pack(void);
int protobuf_c_message_pack(void) {
  return 41;
}
static int host_number(void) {
  return protobuf_c_message_pack();
}
#endif
int ring_push(void);
int ring_push(void) {
  return 1;
}
#ifdef __cplusplus
}
#endif

int main(int argc, char **argv) {
  if (argc == 3)
    return talk(argv[1], argv[2]);
  printf("%s %s %d\n", vppcom_proto_str(VPPCOM_PROTO_TCP), vppcom_retval_str(VPPCOM_EAGAIN),
         host_number() + ring_push());
  return 0;
}
