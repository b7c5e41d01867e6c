#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* The oracle of log lines. Private to bench. Thread: main. */

#include "bench/bench.h"

/*
 * Asks the hub for every line of every agent: each is there once, in its place, byte by byte, and
 * no other. Returns an exit code; what is not kept is said.
 */
int verify_logs(struct ask *ask, const struct load *load, uint64_t n_lines_of_each);
