hs_test(unit_tcp_margins ${PROJECT_SOURCE_DIR}/tests/unit/services/engine/tcp/test_margins.c
  ${PROJECT_SOURCE_DIR}/tests/unit/services/engine/tcp/tcp_rig.c DEPS hs_engine_tcp)
