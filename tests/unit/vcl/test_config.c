/*
 * vcl.conf and the environment: every key of the contract, comments, one-line blocks, bad values, unknown keys.
 */
#include "test.h"

#include "vcl_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_all_keys(void **state) {
  static const char text[] = "# a comment\n"
                             "vcl {\n"
                             "  heapsize 64000000\n"
                             "  max-workers 8 # eight\n"
                             "  app-socket-api /run/x/attach\n"
                             "  segment-size 0x10000000\n"
                             "  add-segment-size 1\n"
                             "  preallocated-fifo-pairs 5\n"
                             "  rx-fifo-size 0x61a80\n"
                             "\ttx-fifo-size\t400000\n"
                             "  event-queue-size 40000\n"
                             "  app-timeout 2.5\n"
                             "  session-timeout 60\n"
                             "  app-proxy-transport-tcp\n"
                             "  app-proxy-transport-udp\n"
                             "  app-scope-local\n"
                             "  app-scope-global\n"
                             "  huge_page\n"
                             "  use-mq-eventfd\n"
                             "  tls-engine 1\n"
                             "  multi-thread-workers\n"
                             "  app_original_dst\n"
                             "  namespace-id blue\n"
                             "  namespace-secret 1234567890123\n"
                             "  api-socket-name /run/y\n"
                             "  uid 0\n"
                             "  gid 0\n"
                             "}\n";
  struct vcl_config c;
  (void)state;
  config_defaults(&c);
  config_parse(&c, text, "text");
  assert_int_equal(c.n_warning, 0);
  assert_int_equal(c.proxy_tcp, 1);
  assert_int_equal(c.proxy_udp, 1);
  assert_int_equal(c.max_workers, 8);
  assert_string_equal(c.socket_path, "/run/x/attach");
  assert_int_equal(c.rx_fifo_bytes, 400000);
  assert_int_equal(c.tx_fifo_bytes, 400000);
  assert_true(c.app_timeout_s == 2.5);
  assert_true(c.session_timeout_s == 60);
  assert_string_equal(c.namespace_id, "blue");
  assert_true(c.namespace_secret == 1234567890123ull);
  assert_true(c.segment_bytes == 0x10000000 && c.add_segment_bytes == 1);
  config_defaults(&c);
  assert_true(c.segment_bytes == 0 && c.add_segment_bytes == CONFIG_UNSET);
  config_parse(&c, "add-segment-size 0", "text"); /* that is something to say */
  assert_true(c.add_segment_bytes == 0);
  assert_int_equal(c.proxy_tcp, 0);
  assert_int_equal(c.proxy_udp, 0);
  config_parse(&c, "app-proxy-transport-tcp\napp-proxy-transport-udp off", "text");
  assert_int_equal(c.proxy_tcp, 1);
  assert_int_equal(c.proxy_udp, 0);
  config_parse(&c, "app-proxy-transport-tcp off", "text");
  assert_int_equal(c.n_warning, 0);
  assert_int_equal(c.proxy_tcp, 0);
  config_from_public(&c, &(vppcom_cfg_t){.app_proxy_transport_tcp = 1});
  assert_int_equal(c.proxy_tcp, 1);
  config_from_public(&c, &(vppcom_cfg_t){.app_proxy_transport_udp = 1});
  assert_int_equal(c.proxy_tcp, 0);
  assert_int_equal(c.proxy_udp, 1);
  config_from_public(&c, &(vppcom_cfg_t){.segment_size = 4096});
  assert_true(c.segment_bytes == 4096 && c.add_segment_bytes == 0);
}

static void test_forgiving(void **state) {
  struct vcl_config c;
  char big[3000];
  (void)state;
  config_defaults(&c);
  c.debug = 0;
  config_parse(&c, "vcl { namespace-id red }\nnonsense 5\nmax-workers -1\nrx-fifo-size 99999999999\napp-timeout x\n",
               "t");
  assert_string_equal(c.namespace_id, "red");
  assert_int_equal(c.n_warning, 4);
  assert_int_equal(c.rx_fifo_bytes, 0);
  config_parse(&c, "max-workers 0", "t");
  assert_int_equal(c.max_workers, 1);
  config_parse(&c, "max-workers 4000", "t");
  assert_int_equal(c.max_workers, 128);
  memset(big, 'a', sizeof big - 1);
  big[sizeof big - 1] = '\0';
  config_parse(&c, big, "t");
  memcpy(big, "namespace-id ", 13);
  config_parse(&c, big, "t"); /* too long a value: a warning */
  assert_string_equal(c.namespace_id, "red");
  assert_int_equal(c.n_warning, 8);
  config_parse(&c, "", "t");
  config_parse(&c, "}}}{{{\n\n\n#", "t");
}

/** What VCL_DEBUG=1 says about a text. */
static const char *said(struct vcl_config *c, const char *text) {
  static char out[2000];
  int p[2], keep = dup(STDERR_FILENO);
  assert_int_equal(pipe(p), 0);
  config_defaults(c);
  c->debug = 1;
  assert_true(dup2(p[1], STDERR_FILENO) >= 0);
  config_parse(c, text, "f");
  config_env(c);
  assert_true(dup2(keep, STDERR_FILENO) >= 0);
  close(keep);
  close(p[1]);
  ssize_t n = read(p[0], out, sizeof out - 1);
  out[n > 0 ? n : 0] = '\0';
  close(p[0]);
  return out;
}

/* Each message names the line, what stands there, and what was expected. */
static void test_messages(void **state) {
  struct vcl_config c;
  (void)state;
  assert_string_equal(said(&c, "rx-fifo-size 0100\nnamespace-secret 0X10\napp-scope-local No\nuse-mq-eventfd\n"), "");
  assert_int_equal(c.rx_fifo_bytes, 100); /* decimal: there is no octal here */
  assert_int_equal(c.namespace_secret, 16);
  assert_int_equal(c.scope_local, 0);
  assert_string_equal(
      said(&c, "\nrx-fifo-size 4M\n"),
      "vcl.config f:2: rx-fifo-size: \"4M\" is no value for it, expected: a number from 0 to 4294967295, "
      "decimal or 0x hex\n");
  assert_string_equal(said(&c, "app-scope-local maybe"),
                      "vcl.config f:1: app-scope-local: \"maybe\" is no value for it, expected: on or off, or nothing, "
                      "which is on\n");
  assert_int_equal(c.scope_local, 1);
  assert_string_equal(said(&c, "app-timeout"),
                      "vcl.config f:1: app-timeout: \"\" is no value for it, expected: seconds "
                      "from 0 to 999999999, such as 2.5\n");
  assert_string_equal(
      said(&c, "vcl { max-workers 3 tx-fifo-size 5 }"),
      "vcl.config f:1: max-workers: \"tx-fifo-size 5 }\" behind its value is not read, expected: one key "
      "a line\n");
  assert_int_equal(c.max_workers, 3);
  assert_string_equal(said(&c, "\n\nmax-workers 500"),
                      "vcl.config f:3: max-workers: taken as 128, expected: 1 to 128\n");
  assert_string_equal(said(&c, "rx_fifo_size 4"), "vcl.config f:1: rx_fifo_size: unknown key\n");
}

/* A variable is judged as its key is; half a name is none. */
static void test_bad_variables(void **state) {
  struct vcl_config c;
  char longer[200];
  (void)state;
  memset(longer, 'a', sizeof longer - 1);
  longer[sizeof longer - 1] = '\0';
  setenv("VCL_APP_NAMESPACE_SECRET", "geheim", 1);
  assert_string_equal(
      said(&c, "namespace-secret 7"),
      "vcl.config VCL_APP_NAMESPACE_SECRET: namespace-secret: \"geheim\" is no value for it, expected: a "
      "number from 0 to 18446744073709551615, decimal or 0x hex\n");
  assert_int_equal(c.namespace_secret, 7);
  assert_int_equal(c.refused, 0);
  unsetenv("VCL_APP_NAMESPACE_SECRET");
  static const char *const names[] = {"VCL_APP_NAMESPACE_ID", "VCL_VPP_SAPI_SOCKET"};
  for (size_t i = 0; i < 2; i++) {
    setenv(names[i], longer, 1);
    assert_non_null(strstr(said(&c, "namespace-id x"), names[i]));
    assert_int_equal(c.refused, -ENAMETOOLONG);
    assert_int_equal(vppcom_app_create("x"), -ENAMETOOLONG);
    unsetenv(names[i]);
  }
  vppcom_cfg_t cfg = {.namespace_id = (uint8_t *)longer};
  assert_int_equal(vppcom_app_create_with_config(&cfg), -ENAMETOOLONG);
  assert_string_equal(said(&c, ""), "");
}

static void test_file_and_env(void **state) {
  struct vcl_config c;
  char path[] = "/tmp/hs-vcl-conf-XXXXXX";
  (void)state;
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  static const char text[] = "vcl {\n namespace-id file\n app-socket-api /file\n}";
  assert_int_equal(write(fd, text, sizeof text - 1), (int)sizeof text - 1);
  close(fd);
  config_defaults(&c);
  assert_string_equal(c.socket_path, CONFIG_SOCKET_DEFAULT);
  assert_int_equal(config_load(&c, path), 0);
  assert_string_equal(c.namespace_id, "file");
  setenv("VCL_APP_NAMESPACE_ID", "env", 1);
  setenv("VCL_APP_NAMESPACE_SECRET", "0x10", 1);
  setenv("VCL_VPP_SAPI_SOCKET", "/env", 1);
  config_env(&c);
  assert_string_equal(c.namespace_id, "env");
  assert_true(c.namespace_secret == 16);
  assert_string_equal(c.socket_path, "/env");
  assert_int_equal(c.n_warning, 0);
  setenv("VCL_APP_PROXY_TRANSPORT_TCP", "1", 1);
  setenv("VCL_APP_PROXY_TRANSPORT_UDP", "0", 1);
  config_env(&c);
  assert_int_equal(c.proxy_tcp, 1);
  assert_int_equal(c.proxy_udp, 0);
  setenv("VCL_APP_PROXY_TRANSPORT_TCP", "0", 1);
  setenv("VCL_APP_PROXY_TRANSPORT_UDP", "1", 1);
  config_env(&c);
  assert_int_equal(c.proxy_tcp, 0);
  assert_int_equal(c.proxy_udp, 1);
  assert_int_equal(c.n_warning, 0);
  unsetenv("VCL_APP_PROXY_TRANSPORT_TCP");
  unsetenv("VCL_APP_PROXY_TRANSPORT_UDP");
  unsetenv("VCL_APP_NAMESPACE_ID");
  unsetenv("VCL_APP_NAMESPACE_SECRET");
  unsetenv("VCL_VPP_SAPI_SOCKET");
  unlink(path);
  assert_int_equal(config_load(&c, path), -ENOENT);
}

/* The annotated example as shipped: no key in it is unknown, and what it sets are the defaults. */
static void test_shipped_file(void **state) {
  struct vcl_config c, d;
  (void)state;
  config_defaults(&c);
  config_defaults(&d);
  assert_int_equal(config_load(&c, HS_VCL_CONF), 0);
  assert_int_equal(c.n_warning, 0);
  assert_memory_equal(&c, &d, sizeof c);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_shipped_file),  cmocka_unit_test(test_all_keys),
                                     cmocka_unit_test(test_forgiving),     cmocka_unit_test(test_messages),
                                     cmocka_unit_test(test_bad_variables), cmocka_unit_test(test_file_and_env)};
  return cmocka_run_group_tests_name("vcl config", tests, NULL, NULL);
}
