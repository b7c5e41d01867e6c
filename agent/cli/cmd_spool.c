/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent spool check [--repair] [--state-dir D] [--json] */
#include "agent/cli/cmd.h"
#include "agent/spool/spool.h"
#include "common/base/text.h"
#include "common/json/json.h"

struct report {
    struct buf text;
    struct json_writer json;
    bool is_json;
    uint64_t segments, batches, records, bytes, damaged;
};

static void on_finding(void *ctx, const struct spool_finding *finding)
{
    struct report *report = ctx;
    bool is_damaged = finding->is_headless || finding->damaged_bytes > 0;
    const char *state = finding->is_headless ? "damaged: it has no head"
                        : is_damaged         ? "damaged"
                        : finding->is_ended  ? "whole"
                                             : "open, or left by a crash";

    report->segments++;
    report->batches += finding->batches;
    report->records += finding->records;
    report->bytes += finding->bytes;
    report->damaged += is_damaged;
    if (!report->is_json) {
        buf_printf(&report->text, "%-8s%s  %8llu batches  %9llu records  %s",
                   spool_signal_name(finding->signal), finding->file,
                   (unsigned long long) finding->batches, (unsigned long long) finding->records,
                   state);
        if (finding->damaged_bytes)
            buf_printf(&report->text, ", %llu bytes cannot be read",
                       (unsigned long long) finding->damaged_bytes);
        buf_append_text(&report->text, "\n");
        return;
    }
    json_open_object(&report->json);
    json_put_text(&report->json, "signal", spool_signal_name(finding->signal));
    json_put_text(&report->json, "file", finding->file);
    json_put_u64(&report->json, "batches", finding->batches);
    json_put_u64(&report->json, "records", finding->records);
    json_put_u64(&report->json, "bytes", finding->bytes);
    json_put_u64(&report->json, "damaged_bytes", finding->damaged_bytes);
    json_put_bool(&report->json, "ended", finding->is_ended);
    json_put_bool(&report->json, "damaged", is_damaged);
    json_close_object(&report->json);
}

/* What the agent does at each start: sets aside what has no head, and ends what has no end. */
static int repair(const char *directory)
{
    struct spool_options options = { .directory = directory };
    struct spool *spool;
    int r;

    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        options.limits[i].limit_bytes = UINT64_MAX / 2;
    r = spool_open(&spool, &options);
    if (r == SPOOL_IN_USE)
        return cmd_fail(CLI_FAILURE,
                        "spool: the agent runs, and mends what it finds by itself; stop it first");
    if (r)
        return CLI_FAILURE;
    (void) spool_close(spool);
    return CLI_OK;
}

static int check(struct report *report, const char *directory)
{
    char size[TEXT_SIZE_BYTES];
    int r;

    if (report->is_json) {
        json_begin(&report->json, &report->text, true);
        json_open_object(&report->json);
        json_key(&report->json, "segments");
        json_open_array(&report->json);
    }
    r = spool_check(directory, on_finding, report);
    if (r < 0)
        return CLI_FAILURE;
    if (r)
        return cmd_fail(CLI_NOT_FOUND, "spool: %s is not there, or may not be read", directory);
    if (report->is_json) {
        json_close_array(&report->json);
        json_put_u64(&report->json, "damaged", report->damaged);
        json_close_object(&report->json);
        buf_append_text(&report->text, "\n");
    } else {
        buf_printf(&report->text, "%llu segments, %llu batches, %llu records, %s, %llu damaged\n",
                   (unsigned long long) report->segments, (unsigned long long) report->batches,
                   (unsigned long long) report->records, text_of_size(report->bytes, size),
                   (unsigned long long) report->damaged);
    }
    r = cmd_print(&report->text);
    return r || report->damaged == 0 ? r : CLI_FAILURE;
}

int cmd_spool(int argc, char **argv)
{
    bool is_repair = false;
    const struct conf_option options[] = {
        { .flag = "--repair",
          .is_set = &is_repair,
          .help = "set aside what has no head, and end what a crash has left; the agent must not "
                  "run, and does the same at its start" },
        { .flag = NULL },
    };
    const struct cmd cmd = {
        .usage = "spool check [--repair] [--state-dir D] [--json]",
        .help = "Reads every segment of the spool. Exits with 1 when something is damaged: the "
                "agent skips and counts that, and goes on.",
        .options = options,
        .has_json = true,
        .has_settings = true,
        .max_words = 1,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(buf_deinit) struct buf path = { 0 };
    struct report report = { 0 };
    int code = CLI_FAILURE;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    if (line.args.n_rest != 1 || strcmp(line.args.rest[0], "check") != 0)
        return cmd_fail(CLI_USAGE, "spool: write `sentinel-agent spool check`");
    buf_printf(&path, "%s/spool", line.settings.state_dir);
    code = is_repair ? repair(buf_text(&path)) : CLI_OK;
    report.is_json = line.is_json;
    if (code == CLI_OK)
        code = check(&report, buf_text(&path));
    buf_deinit(&report.text);
    return code;
}
