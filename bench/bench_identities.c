/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/metrics.h"

int cmd_identities(int argc, char **argv)
{
    const char *state = NULL, *out = NULL, *agents = NULL;
    bool wants_help = false;
    const struct conf_option rows[] = {
        { .flag = "--state-dir", .metavar = "DIR", .value = &state, .help = "the hub's" },
        { .flag = "--out",
          .metavar = "DIR",
          .value = &out,
          .help = "becomes the directory for --identities" },
        { .flag = "--agents", .metavar = "N", .value = &agents, .help = "how many; 200" },
        { .flag = "--help", .is_set = &wants_help, .help = "this text" },
        { .flag = "-h", .is_set = &wants_help },
        { .flag = NULL },
    };
    char program[512];
    uint64_t n_agents = 200;
    int exit_code = options_read_flags(
        argc, argv, rows, &wants_help,
        "Example:\n  sentinel-bench identities --state-dir /var/lib/sentinel-hub --out "
        "./agents --agents 200\n");

    if (exit_code >= 0)
        return exit_code;
    if (!state || !out)
        return bench_say(BENCH_USAGE, "--state-dir DIR and --out DIR are needed");
    exit_code = options_read_count("--agents", agents, 1, 100000, &n_agents);
    if (exit_code == BENCH_OK)
        exit_code = hub_find_program(program, sizeof(program));
    return exit_code == BENCH_OK ? hub_issue_identities(program, state, out, (uint32_t) n_agents)
                                 : exit_code;
}
