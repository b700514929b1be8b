hs_fuzz(fuzz_udp ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_udp.c CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/udp
  DEPS hs_engine_udp)
