foreach(name margins margins_loss margins_life)
  hs_test(unit_tcp_${name} ${PROJECT_SOURCE_DIR}/tests/unit/services/engine/tcp/test_${name}.c
    ${PROJECT_SOURCE_DIR}/tests/unit/services/engine/tcp/tcp_rig.c DEPS hs_engine_tcp)
endforeach()
