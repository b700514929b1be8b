foreach(name fifo frame seg rules)
  hs_fuzz(fuzz_${name} ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_${name}.c
    CORPUS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name} DEPS hs_shm)
endforeach()
