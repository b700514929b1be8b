foreach(name fifo dgram arena hint frame armed rules)
  hs_prop(prop_shm_${name} ${PROJECT_SOURCE_DIR}/tests/prop/shm/prop_${name}.c DEPS hs_shm Threads::Threads)
endforeach()
# two threads each; these are for tsan
foreach(name hint fifo frame arena)
  hs_prop(stress_shm_${name} ${PROJECT_SOURCE_DIR}/tests/prop/shm/stress_${name}.c DEPS hs_shm Threads::Threads)
endforeach()
