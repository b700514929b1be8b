set(nicio_dir ${PROJECT_SOURCE_DIR}/tests/unit/services/nicio)
set(nicio_support ${PROJECT_SOURCE_DIR}/tests/support/nicio_rig.c ${PROJECT_SOURCE_DIR}/tests/support/nicio_echo.c)
foreach(name run ethdev)
  hs_test(unit_nicio_${name} ${nicio_dir}/test_${name}.c ${nicio_support}
    DEPS hs_ctl hs_ctl_attach hs_shm hs_wire hs_base hs_proto_custody hs_proto_control Threads::Threads TIMEOUT 120)
  target_compile_definitions(unit_nicio_${name} PRIVATE HS_NICIO_BIN="$<TARGET_FILE:hs-nicio>")
  add_dependencies(unit_nicio_${name} hs-nicio)
endforeach()
