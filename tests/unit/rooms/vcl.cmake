# The client library against a fake broker and engine; its public header, its symbols.
set(VCL_TESTS ${PROJECT_SOURCE_DIR}/tests/unit/vcl)
add_library(hs_test_fake_engine STATIC ${PROJECT_SOURCE_DIR}/tests/support/fake_engine.c
            ${PROJECT_SOURCE_DIR}/tests/support/fake_broker.c ${PROJECT_SOURCE_DIR}/tests/support/fake_dgram.c
            ${PROJECT_SOURCE_DIR}/tests/support/fake_sess.c ${PROJECT_SOURCE_DIR}/tests/support/fake_patience.c
            ${PROJECT_SOURCE_DIR}/tests/support/fake_parts.c)
target_link_options(hs_test_fake_engine INTERFACE -Wl,--wrap=broker_pair -Wl,--undefined=__wrap_broker_pair)
target_link_libraries(hs_test_fake_engine PUBLIC hs_vcl hs_shm hs_ctl_attach hs_base hs_proto_attach Threads::Threads)
target_include_directories(hs_test_fake_engine PUBLIC ${PROJECT_SOURCE_DIR}/tests/support)
foreach(name app stream states epoll listen rw urgent restart fork kin attr poll config lock cut branch roam peers reset
             fifo_len parts)
  hs_test(unit_vcl_${name} ${VCL_TESTS}/test_${name}.c DEPS hs_test_fake_engine)
endforeach()
hs_test(unit_vcl_stage ${VCL_TESTS}/test_stage.c DEPS hs_vcl)
hs_test(unit_vcl_layout ${VCL_TESTS}/test_layout.c DEPS hs_vcl)
set(VCL_LINK_FLAGS "")
if(HS_SANITIZE)
  set(VCL_LINK_FLAGS -fsanitize=${HS_SANITIZE})
endif()
if(HS_COVERAGE)
  list(APPEND VCL_LINK_FLAGS --coverage)
endif()
add_test(NAME unit_vcl_symbols
         COMMAND python3 ${VCL_TESTS}/symbols.py ${PROJECT_SOURCE_DIR}/vcl/vppcom.h $<TARGET_FILE:vppcom>
                 ${PROJECT_BINARY_DIR}/vcl/libvppcom.a ${VCL_LINK_FLAGS})
set_tests_properties(unit_vcl_symbols PROPERTIES LABELS unit TIMEOUT 150)
target_compile_definitions(unit_vcl_config PRIVATE HS_VCL_CONF="${PROJECT_SOURCE_DIR}/config/vcl.conf")
