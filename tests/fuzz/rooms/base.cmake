hs_fuzz(fuzz_base ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_base.c
  CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/base DEPS hs_base)
