hs_test(unit_tcp_busy ${PROJECT_SOURCE_DIR}/tests/unit/services/engine/tcp/test_busy.c
  ${PROJECT_SOURCE_DIR}/tests/unit/services/engine/tcp/tcp_rig.c DEPS hs_engine_tcp)
