hs_test(test_engine_life services/engine/session/test_life.c DEPS hs_engine_session)
hs_test(test_engine_listen services/engine/session/test_listen.c DEPS hs_engine_session)
hs_test(test_engine_mailbox services/engine/session/test_mailbox.c DEPS hs_engine_session TSAN)
hs_test(test_engine_routes services/engine/session/test_routes.c DEPS hs_engine_session)
