/*
 * The numbers and layouts of the public header that programs have compiled into them: a change here breaks them.
 */
#include "test.h"

#include "vppcom.h"

#include <string.h>

#define IS(name, value) assert_int_equal((int)(name), (value))

static void test_protocols(void **state) {
  (void)state;
  IS(VPPCOM_PROTO_TCP, 0);
  IS(VPPCOM_PROTO_UDP, 1);
  IS(VPPCOM_PROTO_NONE, 2);
  IS(VPPCOM_PROTO_TLS, 3);
  IS(VPPCOM_PROTO_QUIC, 4);
  IS(VPPCOM_PROTO_DTLS, 5);
  IS(VPPCOM_PROTO_SRTP, 6);
  IS(VPPCOM_PROTO_HTTP, 7);
  IS(VPPCOM_IS_IP6, 0);
  IS(VPPCOM_IS_IP4, 1);
  assert_true(INVALID_SESSION_ID == 0xffffffffu);
}

static void test_errors(void **state) {
  (void)state;
  IS(VPPCOM_OK, 0);
  IS(VPPCOM_EAGAIN, -11);
  IS(VPPCOM_EWOULDBLOCK, -11);
  IS(VPPCOM_EINPROGRESS, -115);
  IS(VPPCOM_EFAULT, -14);
  IS(VPPCOM_ENOMEM, -12);
  IS(VPPCOM_EINVAL, -22);
  IS(VPPCOM_EBADFD, -77);
  IS(VPPCOM_EAFNOSUPPORT, -97);
  IS(VPPCOM_ECONNABORTED, -103);
  IS(VPPCOM_ECONNRESET, -104);
  IS(VPPCOM_ENOTCONN, -107);
  IS(VPPCOM_ECONNREFUSED, -111);
  IS(VPPCOM_ETIMEDOUT, -110);
  IS(VPPCOM_EEXIST, -17);
  IS(VPPCOM_ENOPROTOOPT, -92);
  IS(VPPCOM_EPIPE, -32);
  IS(VPPCOM_ENOENT, -2);
  IS(VPPCOM_EADDRINUSE, -98);
  IS(VPPCOM_ENOTSUP, -95);
}

static void test_attributes(void **state) {
  static const int op[] = {VPPCOM_ATTR_GET_NREAD,
                           VPPCOM_ATTR_GET_NWRITE,
                           VPPCOM_ATTR_GET_FLAGS,
                           VPPCOM_ATTR_SET_FLAGS,
                           VPPCOM_ATTR_GET_LCL_ADDR,
                           VPPCOM_ATTR_SET_LCL_ADDR,
                           VPPCOM_ATTR_GET_PEER_ADDR,
                           VPPCOM_ATTR_GET_UNUSED,
                           VPPCOM_ATTR_SET_UNUSED,
                           VPPCOM_ATTR_GET_PROTOCOL,
                           VPPCOM_ATTR_GET_LISTEN,
                           VPPCOM_ATTR_GET_ERROR,
                           VPPCOM_ATTR_GET_TX_FIFO_LEN,
                           VPPCOM_ATTR_SET_TX_FIFO_LEN,
                           VPPCOM_ATTR_GET_RX_FIFO_LEN,
                           VPPCOM_ATTR_SET_RX_FIFO_LEN,
                           VPPCOM_ATTR_GET_REUSEADDR,
                           VPPCOM_ATTR_SET_REUSEADDR,
                           VPPCOM_ATTR_GET_REUSEPORT,
                           VPPCOM_ATTR_SET_REUSEPORT,
                           VPPCOM_ATTR_GET_BROADCAST,
                           VPPCOM_ATTR_SET_BROADCAST,
                           VPPCOM_ATTR_GET_V6ONLY,
                           VPPCOM_ATTR_SET_V6ONLY,
                           VPPCOM_ATTR_GET_KEEPALIVE,
                           VPPCOM_ATTR_SET_KEEPALIVE,
                           VPPCOM_ATTR_GET_TCP_NODELAY,
                           VPPCOM_ATTR_SET_TCP_NODELAY,
                           VPPCOM_ATTR_GET_TCP_KEEPIDLE,
                           VPPCOM_ATTR_SET_TCP_KEEPIDLE,
                           VPPCOM_ATTR_GET_TCP_KEEPINTVL,
                           VPPCOM_ATTR_SET_TCP_KEEPINTVL,
                           VPPCOM_ATTR_GET_TCP_USER_MSS,
                           VPPCOM_ATTR_SET_TCP_USER_MSS,
                           VPPCOM_ATTR_SET_CONNECTED,
                           VPPCOM_ATTR_SET_CKPAIR,
                           VPPCOM_ATTR_SET_VRF,
                           VPPCOM_ATTR_GET_VRF,
                           VPPCOM_ATTR_GET_DOMAIN,
                           VPPCOM_ATTR_SET_ENDPT_EXT_CFG,
                           VPPCOM_ATTR_SET_DSCP,
                           VPPCOM_ATTR_SET_IP_PKTINFO,
                           VPPCOM_ATTR_GET_IP_PKTINFO,
                           VPPCOM_ATTR_GET_ORIGINAL_DST,
                           VPPCOM_ATTR_GET_NWRITEQ,
                           VPPCOM_ATTR_GET_EXT_ENDPT,
                           VPPCOM_ATTR_GET_COOKIE,
                           VPPCOM_ATTR_SET_COOKIE,
                           VPPCOM_ATTR_GET_STREAM_FLAGS,
                           VPPCOM_ATTR_SET_STREAM_FLAGS,
                           VPPCOM_ATTR_GET_APP_PROTO_ERR_CODE,
                           VPPCOM_ATTR_SET_APP_PROTO_ERR_CODE};
  (void)state;
  assert_int_equal(sizeof op / sizeof op[0], 52);
  for (int i = 0; i < 52; i++)
    assert_int_equal(op[i], i);
}

static void test_layouts(void **state) {
  (void)state;
  IS(offsetof(vppcom_endpt_t, unused), 0);
  IS(offsetof(vppcom_endpt_t, is_cut_thru), 0);
  IS(offsetof(vppcom_endpt_t, is_ip4), 1);
  IS(offsetof(vppcom_endpt_t, ip), 8);
  IS(offsetof(vppcom_endpt_t, port), 16);
  IS(offsetof(vppcom_endpt_t, unused2), 24);
  IS(offsetof(vppcom_endpt_t, app_tlv_len), 32);
  IS(offsetof(vppcom_endpt_t, app_tlvs), 40);
  IS(sizeof(vppcom_endpt_t), 48);
  IS(offsetof(vppcom_endpt_tlv_t, data), 8);
  IS(offsetof(vppcom_data_segment_t, len), 8);
  IS(sizeof(vppcom_data_segment_t), 16);
  IS(offsetof(vcl_poll_t, fds_ndx), 0);
  IS(offsetof(vcl_poll_t, sh), 4);
  IS(offsetof(vcl_poll_t, events), 8);
  IS(offsetof(vcl_poll_t, revents), 10);
  IS(sizeof(vcl_poll_t), 12);
  IS(offsetof(vppcom_cert_key_pair_t, key), 8);
  IS(offsetof(vppcom_cert_key_pair_t, cert_len), 16);
  IS(offsetof(vppcom_cert_key_pair_t, key_len), 20);
  IS(sizeof(vcl_si_set), sizeof(long));
  IS(sizeof(vcl_session_handle_t), 4);
}

static void test_text(void **state) {
  uint8_t proto = 99;
  char name[8];
  (void)state;
  for (int i = 0; i <= VPPCOM_PROTO_HTTP; i++) {
    strncpy(name, vppcom_proto_str((vppcom_proto_t)i), sizeof name - 1);
    name[7] = '\0';
    for (char *c = name; *c != '\0'; c++)
      *c = (char)(*c | 0x20);
    assert_int_equal(vppcom_unformat_proto(&proto, name), 0);
    assert_int_equal(proto, i);
  }
  strncpy(name, "nope", sizeof name);
  assert_int_equal(vppcom_unformat_proto(&proto, name), VPPCOM_EINVAL);
  assert_int_equal(vppcom_unformat_proto(NULL, name), VPPCOM_EINVAL);
  assert_string_equal(vppcom_proto_str((vppcom_proto_t)1234), "UNKNOWN");
  for (int i = 0; i < 140; i++)
    assert_non_null(vppcom_retval_str(-i));
  assert_string_equal(vppcom_retval_str(VPPCOM_ECONNRESET), "VPPCOM_ECONNRESET");
  assert_string_equal(vppcom_retval_str(VPPCOM_OK), "VPPCOM_OK");
  assert_string_equal(vppcom_retval_str(-113), "EHOSTUNREACH");
  assert_string_equal(vppcom_retval_str(5), "success");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_protocols), cmocka_unit_test(test_errors),
                                     cmocka_unit_test(test_attributes), cmocka_unit_test(test_layouts),
                                     cmocka_unit_test(test_text)};
  return cmocka_run_group_tests_name("vcl layout", tests, NULL, NULL);
}
