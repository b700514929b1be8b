hs_sim(sim_engine sim_engine.c engine_rig.c DEPS hs_engine_session TIMEOUT 120)
hs_sim(sim_hostile sim_hostile.c engine_rig.c DEPS hs_engine_session TIMEOUT 120)
hs_sim(sim_faults sim_faults.c engine_rig.c DEPS hs_engine_session TIMEOUT 300)
hs_sim(sim_offers sim_offers.c engine_rig.c DEPS hs_engine_session TIMEOUT 120)
