hs_fuzz(fuzz_wire ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_wire.c
  CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/wire DEPS hs_wire)
