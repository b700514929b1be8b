hs_fuzz(fuzz_ip ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_ip.c CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/ip
  DEPS hs_engine_ip)
foreach(target fuzz_ip fuzz_ip_live)
  if(TARGET ${target})
    target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support/ip_rig.c)
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
  endif()
endforeach()
