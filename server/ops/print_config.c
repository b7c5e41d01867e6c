/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "server/ops/ops.h"
#include "server/settings.h"

static const char help[] = "Example:\n"
                           "  sentinel-hub print-config > config.yaml\n"
                           "\n"
                           "Prints every setting with its value in effect (defaults, file, "
                           "conf.d/, environment, flags) and\n"
                           "its meaning, as YAML that `run --config` reads.\n";

int ops_print_config(int argc, char **argv)
{
    bool is_insecure = false;
    const struct conf_option options[] = {
        { .flag = "--insecure", .is_set = &is_insecure, .help = "as `run` would be given it" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "print-config",
                                     .text = help,
                                     .options = options,
                                     .table = &settings_table,
                                     .max_words = 1 };
    CLEANUP(buf_deinit) struct buf text = { 0 };
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
        return ops_refuse("print-config", OPS_FAILED, "%s", error.text);
    conf_print(&settings_table, &settings, &text);
    settings_free(&settings);
    if (buf_failed(&text))
        return ops_refuse("print-config", OPS_FAILED, "no memory");
    fputs(buf_text(&text), stdout);
    return OPS_OK;
}
