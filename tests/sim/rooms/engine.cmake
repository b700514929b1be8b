hs_sim(sim_engine sim_engine.c engine_rig.c DEPS hs_engine_session TIMEOUT 120)
