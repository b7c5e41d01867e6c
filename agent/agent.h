#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Agent: makes, wires and runs the parts of sentinel-agent.
 *
 *     timer -> collect -> spool -> uplink -> hub
 *
 * One loop thread does all of it. SIGTERM and SIGINT stop: no more rounds, what is queued is sent,
 * and its acknowledgement waited for up to uplink.drain. SIGHUP loads the settings anew; what is
 * wrong with them is logged, and the old ones stay. Each round ends with a new status.json in the
 * state directory.
 *
 * Start here: agent_run().
 */

#include "agent/settings.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"

/* In the state directory. */
#define AGENT_STATUS_FILE "status.json"

struct agent_options {
    const struct settings *settings;
    const struct settings_sources *sources; /* where they came from, for a reload */
    /* Plaintext, to a hub that runs with --insecure: this agent's id there, which is loud in log
     * and status. NULL: mutual TLS. */
    const char *insecure_id;
};

enum agent_outcome {
    AGENT_OK = 0,
    AGENT_NO_ROOT, /* collect.root cannot be opened */
    AGENT_IN_USE,  /* another agent runs with this state directory */
};

/* Runs until it is told to stop. Outcomes: AGENT_NO_ROOT, AGENT_IN_USE. */
int agent_run(const struct agent_options *options) MUST_USE;

/*
 * When the round after the one of `due` is: rounds keep their beat, and those that were slept
 * through are left out.
 */
mono_us agent_next_round(mono_us due, int64_t interval_us, mono_us now);

/* What the hub may wish for: within the limits of the setting `interval`. 0, no wish, stays. */
int64_t agent_limit_interval(int64_t interval_us);

/* Before any thread starts: few arenas, so that resident memory stays small. */
void agent_tame_malloc(void);
