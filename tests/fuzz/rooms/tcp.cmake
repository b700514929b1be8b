hs_fuzz(fuzz_tcp ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_tcp.c CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/tcp
  DEPS hs_engine_tcp)
