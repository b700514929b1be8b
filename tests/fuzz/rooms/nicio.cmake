hs_fuzz(fuzz_nicio_desc ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_nicio_desc.c
  CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/nicio_desc DEPS hs_nicio)
