hs_prop(prop_base ${PROJECT_SOURCE_DIR}/tests/prop/base/prop_base.c DEPS hs_base)
