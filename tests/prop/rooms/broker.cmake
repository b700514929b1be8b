if(TARGET hs-broker)
  hs_prop(prop_broker_ports ${PROJECT_SOURCE_DIR}/tests/prop/broker/prop_ports.c DEPS hs_test_broker_bare)
endif()
