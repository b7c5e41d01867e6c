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
    uint64_t n_batches;          /* of all agents, for the progress */
    struct fleet_look ret_look;  /* at the end */
    struct histogram *to_ack_us; /* NULL, or where latencies go */
};
/* Returns an exit code; what is wrong is said. */
int fill_run(struct fill *fill);
