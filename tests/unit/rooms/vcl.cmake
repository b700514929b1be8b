# The client library against a fake broker and engine; its public header, its symbols.
set(VCL_TESTS ${PROJECT_SOURCE_DIR}/tests/unit/vcl)
add_library(hs_test_fake_engine STATIC ${PROJECT_SOURCE_DIR}/tests/support/fake_engine.c
            ${PROJECT_SOURCE_DIR}/tests/support/fake_broker.c)
target_link_libraries(hs_test_fake_engine PUBLIC hs_vcl hs_shm hs_ctl_attach hs_base hs_proto_attach Threads::Threads)
target_include_directories(hs_test_fake_engine PUBLIC ${PROJECT_SOURCE_DIR}/tests/support)
foreach(name app stream epoll listen rw restart)
  hs_test(unit_vcl_${name} ${VCL_TESTS}/test_${name}.c DEPS hs_test_fake_engine)
endforeach()
