#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Hub: the daemon. The composition root: the only file that knows every module; it makes, wires,
 * starts and stops them.
 *
 * The calling thread becomes the loop thread: signals, timers, reload, drain. Threads, orders of
 * start and stop, and locks are in server/README.md.
 *
 *   SIGTERM, SIGINT  drain: health says NOT_SERVING, no new calls, open ones finish, what is queued
 * is written; a second one cuts what is still open SIGHUP           settings and certificates are
 * read again; on any error the old ones stay, whole
 */

#include "common/base/cleanup.h"
#include "server/settings.h"

/* Also the process's exit codes. */
enum hub_outcome {
    HUB_OK = 0,     /* drained */
    HUB_FAILED = 1, /* the log says why */
    HUB_BAD_SETTINGS = 2,
    HUB_NO_DATABASE = 3, /* or no authority: the remedy is `sentinel-hub init` */
};

/*
 * Runs until it is told to stop. Blocks. Says on stderr when everything is up, in one line of its
 * own:
 *
 *     ready grpc=127.0.0.1:8082 https=127.0.0.1:8081
 *
 * `sources` is read again at each reload. Faults are in the log too.
 */
int hub_run(const struct settings_sources *sources) MUST_USE;
