hs_prop(prop_wire ${PROJECT_SOURCE_DIR}/tests/prop/wire/prop_wire.c DEPS hs_wire)
