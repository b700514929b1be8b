hs_test(unit_ctl_attach ${PROJECT_SOURCE_DIR}/tests/unit/common/ctl/test_attach.c DEPS hs_svc hs_ctl_attach)
hs_test(unit_ctl_rpc ${PROJECT_SOURCE_DIR}/tests/unit/common/ctl/test_rpc.c DEPS hs_svc hs_ctl Threads::Threads)
foreach(name loop config custody)
  hs_test(unit_svc_${name} ${PROJECT_SOURCE_DIR}/tests/unit/common/svc/test_${name}.c DEPS hs_svc hs_ctl hs_base)
endforeach()
target_compile_definitions(unit_svc_config PRIVATE HS_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
hs_test(unit_hsctl_json ${PROJECT_SOURCE_DIR}/tests/unit/services/ctl/test_json.c ${PROJECT_SOURCE_DIR}/services/ctl/json.c
  ${PROJECT_SOURCE_DIR}/services/ctl/table.c DEPS hs_proto_control)
target_include_directories(unit_hsctl_json PRIVATE ${PROJECT_SOURCE_DIR}/services/ctl)
