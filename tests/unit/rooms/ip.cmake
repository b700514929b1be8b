foreach(name input neigh output icmp_error reasm ra dhcp vlan mld redirect learned pmtu)
  hs_test(unit_ip_${name} ${PROJECT_SOURCE_DIR}/tests/unit/services/engine/ip/test_${name}.c
    ${PROJECT_SOURCE_DIR}/tests/support/ip_rig.c DEPS hs_engine_ip)
endforeach()
