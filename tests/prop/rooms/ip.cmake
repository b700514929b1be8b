hs_prop(prop_ip_route ${PROJECT_SOURCE_DIR}/tests/prop/engine/prop_route.c DEPS hs_engine_ip)
hs_prop(prop_ip_reasm ${PROJECT_SOURCE_DIR}/tests/prop/engine/prop_reasm.c
  ${PROJECT_SOURCE_DIR}/tests/support/ip_rig.c DEPS hs_engine_ip)
target_include_directories(prop_ip_reasm PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
