set(nicio_dir ${PROJECT_SOURCE_DIR}/tests/unit/services/nicio)
hs_test(unit_nicio_run ${nicio_dir}/test_run.c ${PROJECT_SOURCE_DIR}/tests/support/nicio_rig.c
  DEPS hs_ctl hs_ctl_attach hs_shm hs_wire hs_base hs_proto_custody hs_proto_control Threads::Threads TIMEOUT 120)
target_compile_definitions(unit_nicio_run PRIVATE HS_NICIO_BIN="$<TARGET_FILE:hs-nicio>")
add_dependencies(unit_nicio_run hs-nicio)
