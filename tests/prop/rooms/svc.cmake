hs_prop(prop_svc_config ${PROJECT_SOURCE_DIR}/tests/prop/svc/prop_config.c DEPS hs_svc)
