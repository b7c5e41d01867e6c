/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <unistd.h>

#include "server/ops/ops.h"
#include "server/settings.h"

static const char help[] =
    "Example:\n"
    "  sentinel-hub check-config /etc/sentinel-hub/config.yaml\n"
    "\n"
    "Reads the settings as `run` would, with conf.d/ beside the file, environment and flags, and\n"
    "says the first thing that is wrong with file:line:column.\n";

int ops_check_config(int argc, char **argv)
{
    bool is_insecure = false;
    const struct conf_option options[] = {
        { .flag = "--insecure", .is_set = &is_insecure, .help = "as `run` would be given it" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "check-config",
                                     .text = help,
                                     .options = options,
                                     .table = &settings_table,
                                     .max_words = 1 };
    struct conf_args args = { 0 };
    struct conf_error error = { "" };
    struct settings settings;

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    const struct settings_sources sources = {
        .file = args.n_rest > 0 ? args.rest[0] : NULL,
        .is_insecure = is_insecure,
        .flags = args.flags,
        .n_flags = args.n_flags,
    };
    int r = settings_load(&settings, &sources, &error);
    if (r < 0)
        return OPS_FAILED;
    if (r != 0)
        return ops_refuse("check-config", OPS_FAILED, "%s", error.text);
    settings_free(&settings);
    if (sources.file || access(SETTINGS_DEFAULT_FILE, F_OK) == 0)
        printf("%s: ok\n", sources.file ? sources.file : SETTINGS_DEFAULT_FILE);
    else
        printf("%s is not there; the defaults are in effect: ok\n", SETTINGS_DEFAULT_FILE);
    return OPS_OK;
}
