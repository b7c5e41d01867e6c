/* SPDX-License-Identifier: Apache-2.0 */

/* check-config and print-config: the settings as `run` would have them. */

#include <stdio.h>
#include <unistd.h>

#include "server/ops/ops.h"
#include "server/settings.h"

static const char check_help[] =
    "Example:\n"
    "  sentinel-hub check-config /etc/sentinel-hub/config.yaml\n"
    "\n"
    "Reads the settings as `run` would, with conf.d/ beside the file, environment and flags, and\n"
    "says the first thing that is wrong with file:line:column.\n";

static const char print_help[] = "Example:\n"
                                 "  sentinel-hub print-config > config.yaml\n"
                                 "\n"
                                 "Prints every setting with its value in effect (defaults, file, "
                                 "conf.d/, environment, flags) and\n"
                                 "its meaning, as YAML that `run --config` reads.\n";

struct effective {
    struct settings settings; /* settings_free() */
    const char *file;         /* as given; NULL: none was */
};

/* Returns -1 to go on, else an exit code. */
static int load(int argc, char **argv, const char *command, const char *help, struct effective *ret)
{
    bool is_insecure = false;
    const struct conf_option options[] = {
        { .flag = "--insecure", .is_set = &is_insecure, .help = "as `run` would be given it" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = command,
                                     .text = help,
                                     .options = options,
                                     .table = &settings_table,
                                     .max_words = 1 };
    struct settings_sources sources = { .file = NULL };
    struct conf_args args = { 0 };
    struct conf_error error = { "" };
    int r = ops_parse(argc, argv, &usage, &args);

    if (r >= 0)
        return r;
    ret->file = args.n_rest > 0 ? args.rest[0] : NULL;
    sources.file = ret->file;
    sources.is_insecure = is_insecure;
    sources.flags = args.flags;
    sources.n_flags = args.n_flags;
    r = settings_load(&ret->settings, &sources, &error);
    if (r < 0)
        return OPS_FAILED;
    return r == 0 ? -1 : ops_refuse(command, OPS_FAILED, "%s", error.text);
}

int ops_check_config(int argc, char **argv)
{
    struct effective effective;
    const int done = load(argc, argv, "check-config", check_help, &effective);

    if (done >= 0)
        return done;
    settings_free(&effective.settings);
    if (effective.file || access(SETTINGS_DEFAULT_FILE, F_OK) == 0)
        printf("%s: ok\n", effective.file ? effective.file : SETTINGS_DEFAULT_FILE);
    else
        printf("%s is not there; the defaults are in effect: ok\n", SETTINGS_DEFAULT_FILE);
    return OPS_OK;
}

int ops_print_config(int argc, char **argv)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct effective effective;
    const int done = load(argc, argv, "print-config", print_help, &effective);

    if (done >= 0)
        return done;
    conf_print(&settings_table, &effective.settings, &text);
    settings_free(&effective.settings);
    if (buf_failed(&text))
        return ops_refuse("print-config", OPS_FAILED, "no memory");
    fputs(buf_text(&text), stdout);
    return OPS_OK;
}
