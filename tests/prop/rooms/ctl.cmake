hs_prop(prop_ctl_attach ${PROJECT_SOURCE_DIR}/tests/prop/ctl/prop_attach.c DEPS hs_ctl)
