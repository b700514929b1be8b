foreach(name addr cksum eth ip icmp tcp)
  hs_test(unit_wire_${name} ${PROJECT_SOURCE_DIR}/tests/unit/wire/test_${name}.c DEPS hs_wire)
endforeach()
