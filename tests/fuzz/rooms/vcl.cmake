hs_fuzz(fuzz_vcl_conf ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_vcl_conf.c
  CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/vcl_conf DEPS hs_vcl)
hs_fuzz(fuzz_vcl_cut ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_cut.c
  CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/cut DEPS hs_test_fake_engine)
hs_fuzz(fuzz_vcl_branch ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_branch.c
  CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/branch DEPS hs_test_fake_engine)
