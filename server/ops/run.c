/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "common/log/log.h"
#include "server/hub.h"
#include "server/ops/ops.h"
#include "server/settings.h"

static const char help[] =
    "Example:\n"
    "  sentinel-hub run --listen-grpc 0.0.0.0:8082\n"
    "\n"
    "The daemon. Logs to stderr; when everything is up, one line there says\n"
    "  ready grpc=ADDR:PORT https=ADDR:PORT\n"
    "SIGTERM drains and stops, a second one cuts what is open; SIGHUP reads settings and\n"
    "certificates again.\n";

/* A connection is a descriptor, and the soft limit is made for select(2). */
static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_event(LOG_WARN, "descriptor_limit_not_raised", LOG_S("reason", strerror(errno)));
}

/* Keys are in memory: no core dump, no ptrace by others of the same user. */
static void hide_memory(void)
{
#ifndef __SANITIZE_ADDRESS__ /* its leak check attaches to ourselves */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        log_event(LOG_WARN, "memory_not_hidden", LOG_S("reason", strerror(errno)));
#endif
}

int ops_run(int argc, char **argv)
{
    struct settings_sources sources = { 0 };
    const struct conf_option options[] = {
        { .flag = "--config",
          .metavar = "FILE",
          .value = &sources.file,
          .help = "settings; " SETTINGS_DEFAULT_FILE " where it is there" },
        { .flag = "--insecure",
          .is_set = &sources.is_insecure,
          .help = "plaintext without authentication, on a loopback address only" },
        { .flag = "--state-dir",
          .row = "state_dir",
          .metavar = "DIR",
          .help = "certificates and database; $STATE_DIRECTORY, else /var/lib/sentinel-hub" },
        { .flag = "--listen-grpc",
          .row = "listen.grpc",
          .metavar = "ADDR:PORT",
          .help = "for gRPC; 0.0.0.0:8082; port 0 picks one" },
        { .flag = "--listen-https",
          .row = "listen.https",
          .metavar = "ADDR:PORT",
          .help = "for HTTPS; this version serves nothing there" },
        { .flag = NULL },
    };
    const struct ops_usage usage = {
        .command = "run", .text = help, .options = options, .table = &settings_table
    };
    struct conf_args args = { 0 };

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    sources.flags = args.flags;
    sources.n_flags = args.n_flags;
    signal(SIGPIPE, SIG_IGN);
    raise_descriptors();
    hide_memory();
    int r = hub_run(&sources);
    return r < 0 ? OPS_FAILED : r;
}
