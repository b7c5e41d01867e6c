#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * CLI: the commands of sentinel-agent, a file each (cmd_<name>.c). Data goes to stdout, messages to
 * stderr; --json where a command prints facts.
 */

/* What the process exits with. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILURE = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_DENIED = 4,
    CLI_UNAVAILABLE = 5,
    CLI_PARTIAL = 6,
};

/* Runs the command that argv names; returns a cli_exit. */
int cli_main(int argc, char **argv);
