foreach(name log pool hash timer fault trace freelist)
  hs_test(unit_base_${name} ${PROJECT_SOURCE_DIR}/tests/unit/base/test_${name}.c DEPS hs_base Threads::Threads)
endforeach()
hs_test(unit_base_small ${PROJECT_SOURCE_DIR}/tests/unit/base/test_small.c DEPS hs_base Threads::Threads REAL_RANDOM)
