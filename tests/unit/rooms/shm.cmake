foreach(name seg part session bell stats hint arena fifo frame)
  hs_test(unit_shm_${name} ${PROJECT_SOURCE_DIR}/tests/unit/shm/test_${name}.c DEPS hs_shm Threads::Threads)
endforeach()
