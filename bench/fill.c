/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/fill.h"

#include <inttypes.h>
#include <unistd.h>

#include "bench/process.h"

/* Until every agent has sent its part. Returns an exit code. */
static int run_fleet(struct fill *fill, struct fleet *fleet)
{
    const bool is_shown = isatty(STDERR_FILENO);
    const uint32_t n_agents = fill->load->n_agents;
    enum fleet_stage stage = FLEET_CONNECT;
    struct fleet_look *look = &fill->ret_look;
    char text[512];
    int exit_code;

    for (;;) {
        *look = fleet_look(fleet);
        if (stage == FLEET_CONNECT && look->n_streaming == n_agents)
            fleet_set_stage(fleet, stage = FLEET_LOAD);
        if (stage == FLEET_LOAD && look->n_used_up == n_agents)
            fleet_set_stage(fleet, stage = FLEET_FINISH);
        if (look->n_done == n_agents || look->has_failed || bench_is_interrupted())
            break;
        if (is_shown)
            fprintf(stderr, "\rfilling: %" PRIu64 " %%\033[K",
                    100 * look->acknowledged / (fill->n_batches ? fill->n_batches : 1));
        process_nap();
    }
    if (is_shown)
        fprintf(stderr, "\r\033[K");
    fleet_set_stage(fleet, FLEET_ABORT);
    fleet_join(fleet);
    for (size_t i = 0; fill->to_ack_us && i < fleet_n_parts(fleet); i++)
        histogram_merge(fill->to_ack_us, &fleet_counters(fleet, i)->ack_us);
    fleet_failure(fleet, text, sizeof(text), &exit_code);
    if (exit_code != BENCH_OK)
        return bench_say(exit_code, "%s", text);
    return bench_is_interrupted() ? bench_say(BENCH_FAILED, "interrupted") : BENCH_OK;
}

int fill_run(struct fill *fill)
{
    CLEANUP(fleet_freep) struct fleet *fleet = NULL;
    const struct fleet_options options = {
        .target = fill->hub->address,
        .identities = fill->hub->is_insecure ? NULL : fill->hub->identities,
        .n_identities = fill->load->n_agents,
        .n_threads = fill->n_threads,
        .window = fill->window,
        .last_time_us = fill->last_time_us,
    };

    if (fleet_start(&fleet, &options, fill->load) < 0)
        return BENCH_FAILED; /* the log has said why */
    fleet_set_measuring(fleet, fill->to_ack_us != NULL);
    return run_fleet(fill, fleet);
}
