hs_fuzz(fuzz_config ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_config.c
  CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/config DEPS hs_svc)
if(TARGET hs_broker)
  hs_fuzz(fuzz_attach ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_attach.c
    CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/attach DEPS hs_test_broker_bare)
endif()
