hs_test(unit_udp services/engine/udp/test_udp.c DEPS hs_engine_udp)
