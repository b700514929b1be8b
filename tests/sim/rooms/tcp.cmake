foreach(name grid crash random goodput cc far table)
  hs_sim(sim_tcp_${name} ${CMAKE_CURRENT_SOURCE_DIR}/test_sim_${name}.c ${CMAKE_CURRENT_SOURCE_DIR}/sim.c
    ${CMAKE_CURRENT_SOURCE_DIR}/sim_host.c ${CMAKE_CURRENT_SOURCE_DIR}/sim_path.c DEPS hs_engine_tcp m TIMEOUT 300)
  target_include_directories(sim_tcp_${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
endforeach()
target_sources(sim_tcp_table PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/grid.c)
target_compile_definitions(sim_tcp_table PRIVATE SIM_GOLDEN="${CMAKE_CURRENT_SOURCE_DIR}/golden")
target_sources(sim_tcp_goodput PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/cubic_chain.c)
