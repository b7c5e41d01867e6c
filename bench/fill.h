#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A load that is sent to its end, as fast as the hub takes it. Private to bench.
 *
 * Thread: main.
 */

#include "bench/bench.h"

struct fill {
    const struct bench_hub *hub;
    const struct load *load;
    int64_t last_time_us; /* of what is sent */
    uint32_t n_threads, window;
    bool sends_records;          /* lines: see struct fleet_options */
    uint64_t n_batches;          /* of all agents, for the progress */
    struct fleet_look ret_look;  /* at the end */
    struct histogram *to_ack_us; /* NULL, or where latencies go */
};
/* Returns an exit code; what is wrong is said. */
int fill_run(struct fill *fill);

/* ---- of logs ---- */

/* As what fill_run() sent them: "block" or "records", which is also what a hub gets that knows no
 * blocks. */
const char *fill_log_form(const struct fill *fill);
/* For hubs that are started after it: sealing is under way all the time, as it is in a hub that has
 * run for longer. */
void fill_seal_soon(void);
/* Waits until nothing is sealed any more; the hub's CPU time then, in ret_cpu_us. Returns an exit
 * code. */
int fill_wait_sealed(const struct bench_hub *hub, uint64_t *ret_bytes, int64_t *ret_cpu_us);
/* Of sealed logs, on the disk. */
uint64_t fill_logs_bytes(const struct bench_hub *hub);
