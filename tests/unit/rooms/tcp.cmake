foreach(name eifel arrive bbr edges prr rtt search path handshake tw close recv output loss undo board silence rack ecn pace adopt cc)
  hs_test(unit_tcp_${name} ${PROJECT_SOURCE_DIR}/tests/unit/services/engine/tcp/test_${name}.c
    ${PROJECT_SOURCE_DIR}/tests/unit/services/engine/tcp/tcp_rig.c DEPS hs_engine_tcp)
endforeach()
