/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "common/base/buf.h"
#include "common/json/json.h"
#include "server/ops/ops.h"

static const char help[] = "Example:\n"
                           "  sentinel-hub version --json\n"
                           "\n"
                           "Prints the version of the program.\n";

int ops_version(int argc, char **argv)
{
    bool is_json = false;
    const struct conf_option options[] = {
        { .flag = "--json", .is_set = &is_json, .help = "as one JSON object" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "version", .text = help, .options = options };
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct conf_args args = { 0 };
    struct json_writer writer;

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    if (!is_json) {
        printf("sentinel-hub %s\n", SENTINEL_VERSION);
        return OPS_OK;
    }
    json_begin(&writer, &text, true);
    json_open_object(&writer);
    json_put_text(&writer, "program", "sentinel-hub");
    json_put_text(&writer, "version", SENTINEL_VERSION);
    json_close_object(&writer);
    if (buf_failed(&text))
        return ops_refuse("version", OPS_FAILED, "no memory");
    printf("%s\n", buf_text(&text));
    return OPS_OK;
}
