foreach(name fifo arena hint frame armed)
  hs_prop(prop_shm_${name} ${PROJECT_SOURCE_DIR}/tests/prop/shm/prop_${name}.c DEPS hs_shm Threads::Threads)
endforeach()
