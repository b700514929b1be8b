hs_prop(prop_ip_route ${PROJECT_SOURCE_DIR}/tests/prop/engine/prop_route.c DEPS hs_engine_ip)
