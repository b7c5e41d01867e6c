/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/fill.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/process.h"

#define SEAL_AGE "3s"
/* Nothing is sealed any more: as long without a change. */
#define QUIET_US INT64_C(8000000)
#define SEAL_PATIENCE_US INT64_C(300000000)
#define NAP_US 100000

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
        .sends_records = fill->sends_records,
    };

    if (fleet_start(&fleet, &options, fill->load) < 0)
        return BENCH_FAILED; /* the log has said why */
    fleet_set_measuring(fleet, fill->to_ack_us != NULL);
    return run_fleet(fill, fleet);
}

/* ---- of logs ---- */

const char *fill_log_form(const struct fill *fill)
{
    return fill->ret_look.sent_blocks > 0 ? "block" : "records";
}

void fill_seal_soon(void)
{
    setenv("SENTINEL_HUB_STORE_SEAL_AGE", SEAL_AGE, 0);
}

uint64_t fill_logs_bytes(const struct bench_hub *hub)
{
    char path[600];

    snprintf(path, sizeof(path), "%s/hub/db/default/logs", hub->home);
    return stats_disk_bytes(path);
}

int fill_wait_sealed(const struct bench_hub *hub, uint64_t *ret_bytes, int64_t *ret_cpu_us)
{
    const int64_t due_us = clock_mono().us + SEAL_PATIENCE_US;
    int64_t changed_us = clock_mono().us, cpu_us = stats_cpu_us(hub->pid);
    uint64_t n_bytes = 0;

    while (clock_mono().us < changed_us + QUIET_US) {
        const uint64_t now = fill_logs_bytes(hub);

        if (bench_is_interrupted())
            return bench_say(BENCH_FAILED, "interrupted");
        if (clock_mono().us > due_us)
            return bench_say(BENCH_FAILED, "the hub does not come to rest");
        if (now != n_bytes) {
            n_bytes = now;
            changed_us = clock_mono().us;
            cpu_us = stats_cpu_us(hub->pid);
        }
        usleep(NAP_US);
    }
    *ret_bytes = n_bytes;
    *ret_cpu_us = cpu_us;
    return BENCH_OK;
}
