# The words that the rooms' CMakeLists.txt are written in: hs_room, hs_program, hs_test, hs_prop, hs_fuzz.

set(HS_WARN -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror)
set(HS_SANITIZE "" CACHE STRING "comma list for -fsanitize= (address,undefined | thread)")
option(HS_FAULT_POINTS "compile fault points in" ON)
option(HS_COVERAGE "gcov instrumentation" OFF)
option(HS_FUZZERS "build libFuzzer binaries (clang)" OFF)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(hs_flags INTERFACE)
target_compile_features(hs_flags INTERFACE c_std_11)
target_compile_definitions(hs_flags INTERFACE _GNU_SOURCE HS_VERSION="${PROJECT_VERSION}")
target_compile_options(hs_flags INTERFACE ${HS_WARN} -fno-omit-frame-pointer)
target_include_directories(hs_flags INTERFACE ${PROJECT_SOURCE_DIR}/common)
if(HS_FAULT_POINTS)
  target_compile_definitions(hs_flags INTERFACE HS_FAULT_POINTS=1)
endif()
if(HS_SANITIZE)
  target_compile_options(hs_flags INTERFACE -fsanitize=${HS_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(hs_flags INTERFACE -fsanitize=${HS_SANITIZE})
endif()
if(HS_SANITIZE MATCHES thread)
  # gcc warns that its thread sanitizer does not model fences; we use them and check that order in tests of our own
  target_compile_options(hs_flags INTERFACE -Wno-tsan)
endif()
if(HS_FUZZERS)
  target_compile_options(hs_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(HS_COVERAGE)
  target_compile_options(hs_flags INTERFACE --coverage)
  target_link_options(hs_flags INTERFACE --coverage)
endif()

# hs_room(NAME sources... [DEPS libs...]): a static library hs_NAME; headers are found below the room's own folder.
function(hs_room name)
  cmake_parse_arguments(R "" "" "DEPS" ${ARGN})
  add_library(hs_${name} STATIC ${R_UNPARSED_ARGUMENTS})
  set_target_properties(hs_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
  target_include_directories(hs_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(hs_${name} PUBLIC hs_flags ${R_DEPS})
endfunction()

# hs_program(NAME sources... DEPS libs...): an installed service or command.
function(hs_program name)
  cmake_parse_arguments(R "" "" "DEPS" ${ARGN})
  add_executable(${name} ${R_UNPARSED_ARGUMENTS})
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE hs_flags ${R_DEPS})
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
endfunction()

# What the tsan preset builds and runs: tests registered with the word TSAN, and those named after what threads or
# processes share.
add_custom_target(tsan_tests)
set(HS_TSAN_NAMES "ring|fifo|hint|bell|arena|queue|pool|trace|stats")

# Tests and fuzz targets draw keys and secrets from a seeded sequence: each run does the same.
set(HS_RANDOM ${PROJECT_SOURCE_DIR}/tests/support/rng_repeat.c)

function(hs_test_in label name)
  cmake_parse_arguments(R "TSAN;REAL_RANDOM" "TIMEOUT" "DEPS;ENV" ${ARGN})
  if(R_TSAN OR name MATCHES "${HS_TSAN_NAMES}")
    list(APPEND label tsan)
    add_dependencies(tsan_tests ${name})
  endif()
  if(NOT R_TIMEOUT)
    set(R_TIMEOUT 150)
  endif()
  add_executable(${name} ${R_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE hs_flags ${R_DEPS} cmocka)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
  if(NOT R_REAL_RANDOM)
    target_sources(${name} PRIVATE ${HS_RANDOM})
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${label}" TIMEOUT ${R_TIMEOUT} ENVIRONMENT "${R_ENV}")
endfunction()

# hs_test(NAME sources... DEPS libs... [TIMEOUT s] [TSAN] [REAL_RANDOM]): a CMocka program, label unit; TSAN: also in the
# tsan preset; REAL_RANDOM: with the kernel's random numbers.
# hs_prop and hs_sim: the same, other label.
function(hs_test name)
  hs_test_in(unit ${name} ${ARGN})
endfunction()
function(hs_prop name)
  hs_test_in(prop ${name} ${ARGN})
endfunction()
function(hs_sim name)
  hs_test_in(sim ${name} ${ARGN})
endfunction()

# hs_fuzz(NAME source CORPUS dir DEPS libs...): replayed over its corpus by ctest (label fuzz); with HS_FUZZERS also a
# libFuzzer binary NAME_live.
function(hs_fuzz name source)
  cmake_parse_arguments(R "" "CORPUS" "DEPS" ${ARGN})
  add_executable(${name} ${source} ${HS_RANDOM} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.c)
  target_link_libraries(${name} PRIVATE hs_flags ${R_DEPS})
  add_test(NAME ${name} COMMAND ${name} ${R_CORPUS})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 150)
  if(HS_FUZZERS)
    add_executable(${name}_live ${source} ${HS_RANDOM})
    target_link_libraries(${name}_live PRIVATE hs_flags ${R_DEPS})
    target_compile_options(${name}_live PRIVATE -fsanitize=fuzzer)
    target_link_options(${name}_live PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()

# hs_proto(NAME...): proto/NAME.proto → library hs_proto_NAME with NAME.pb-c.h on its include path.
function(hs_proto)
  foreach(name ${ARGN})
    set(out ${CMAKE_BINARY_DIR}/proto/${name}.pb-c)
    set(src ${PROJECT_SOURCE_DIR}/proto/${name}.proto)
    add_custom_command(OUTPUT ${out}.c ${out}.h DEPENDS ${src}
      COMMAND ${PROTOC_C} --proto_path=${PROJECT_SOURCE_DIR}/proto --c_out=${CMAKE_BINARY_DIR}/proto ${src})
    add_library(hs_proto_${name} STATIC ${out}.c ${out}.h)
    set_target_properties(hs_proto_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
    target_include_directories(hs_proto_${name} SYSTEM PUBLIC ${CMAKE_BINARY_DIR}/proto)
    target_link_libraries(hs_proto_${name} PUBLIC PkgConfig::PROTOBUFC)
    if(HS_SANITIZE)
      target_compile_options(hs_proto_${name} PRIVATE -fsanitize=${HS_SANITIZE})
    endif()
  endforeach()
endfunction()
