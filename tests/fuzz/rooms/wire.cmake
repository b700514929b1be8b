hs_fuzz(fuzz_wire ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_wire.c
  CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/wire DEPS hs_wire)
hs_fuzz(fuzz_tcp_opts ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_tcp_opts.c
  CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/tcp_opts DEPS hs_wire)
