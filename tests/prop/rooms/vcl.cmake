hs_prop(prop_vcl_epoll ${PROJECT_SOURCE_DIR}/tests/prop/vcl/prop_epoll.c DEPS hs_test_fake_engine)
hs_prop(prop_vcl_cut ${PROJECT_SOURCE_DIR}/tests/prop/vcl/prop_cut.c DEPS hs_test_fake_engine)
