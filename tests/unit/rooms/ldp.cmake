# Parts of the preload shim that stand alone, and the shim itself where there is no stack.
set(LDP_TESTS ${PROJECT_SOURCE_DIR}/tests/unit/vcl/ldp)
set(LDP_SOURCE ${PROJECT_SOURCE_DIR}/vcl/ldp)
add_library(hs_test_ldp STATIC ${LDP_SOURCE}/addr.c ${LDP_SOURCE}/fd.c ${LDP_SOURCE}/real.c)
target_include_directories(hs_test_ldp PUBLIC ${PROJECT_SOURCE_DIR}/vcl PRIVATE ${LDP_SOURCE})
target_link_libraries(hs_test_ldp PUBLIC hs_flags Threads::Threads ${CMAKE_DL_LIBS})
foreach(name addr fd)
  hs_test(unit_ldp_${name} ${LDP_TESTS}/test_${name}.c DEPS hs_test_ldp)
endforeach()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME unit_ldp_alone COMMAND Python3::Interpreter -B ${LDP_TESTS}/test_alone.py --build ${CMAKE_BINARY_DIR}
         --source ${PROJECT_SOURCE_DIR})
set_tests_properties(unit_ldp_alone PROPERTIES LABELS unit TIMEOUT 400)
