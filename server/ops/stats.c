/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "server/ops/ops.h"
#include "server/settings.h"
#include "server/store/store.h"

static const char help[] =
    "Example:\n"
    "  sentinel-hub stats\n"
    "\n"
    "Says what the database holds and what it takes, beside a running hub or without one. Every\n"
    "byte of a file counts, free pages too; a day's file is shared out to the levels of its "
    "blocks\n"
    "by their size. Roll-ups are told apart: what they hold is in days too, while these are kept.\n"
    "What is in the journal may be in a day already: it goes a little later.\n"
    "--environments lists each journal segment, day, day of logs, and month and year of "
    "roll-ups.\n";

#define METRICS 32 /* more than store_survey() tells */

struct stats {
    struct progress progress;
    struct json_writer writer; /* `environments` is open in it during the survey */
    struct buf json, environments;
    struct {
        char name[256];
        uint64_t n_series;
    } metrics[METRICS];
    size_t n_metrics;
    bool is_json, is_long;
};

static const char *kind_name(enum store_environment_kind kind)
{
    switch (kind) {
    case STORE_JOURNAL_SEGMENT:
        return "journal";
    case STORE_DAY:
        return "day";
    case STORE_LOG_DAY:
        return "logs";
    case STORE_MINUTES:
        return "minutes";
    case STORE_HOURS:
        return "hours";
    case STORE_INVENTORY:
        return "inventory";
    case STORE_UPLOADS:
        return "uploads";
    case STORE_STATE:
    default:
        return "state";
    }
}

static void on_environment(void *ctx, const struct store_environment *environment)
{
    struct stats *stats = ctx;
    struct json_writer *writer = &stats->writer;
    char size[TEXT_SIZE_BYTES];

    if (stats->is_json) {
        json_open_object(writer);
        json_put_text(writer, "kind", kind_name(environment->kind));
        json_put_text(writer, "path", environment->path);
        json_put_u64(writer, "bytes", environment->n_bytes);
        json_put_u64(writer, "pages", environment->n_pages);
        json_put_u64(writer, "free_pages", environment->n_free_pages);
        json_put_u64(writer, "records", environment->n_records);
        json_put_u64(writer, "samples", environment->n_samples);
        json_close_object(writer);
    } else if (stats->is_long) {
        buf_printf(&stats->environments,
                   "%-9s %11s %11" PRIu64 " %16" PRIu64 " %11" PRIu64 "  %s\n",
                   kind_name(environment->kind), text_of_size(environment->n_bytes, size),
                   environment->n_records, environment->n_samples, environment->n_free_pages,
                   environment->path);
    }
}

static void on_metric(void *ctx, const char *name, uint64_t n_series)
{
    struct stats *stats = ctx;

    if (stats->n_metrics == METRICS)
        return;
    snprintf(stats->metrics[stats->n_metrics].name, sizeof(stats->metrics[0].name), "%s", name);
    stats->metrics[stats->n_metrics++].n_series = n_series;
}

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct stats *stats = ctx;

    progress_show(&stats->progress, done_bytes, all_bytes);
}

static int print_json(struct stats *stats, const struct store_found *found)
{
    struct json_writer *writer = &stats->writer;

    json_close_array(writer);
    ops_put_found(writer, found);
    json_put_u64(writer, "n_damaged", found->n_damaged);
    json_key(writer, "top_metrics");
    json_open_array(writer);
    for (size_t i = 0; i < stats->n_metrics; i++) {
        json_open_object(writer);
        json_put_text(writer, "metric", stats->metrics[i].name);
        json_put_u64(writer, "series", stats->metrics[i].n_series);
        json_close_object(writer);
    }
    json_close_array(writer);
    json_close_object(writer);
    if (buf_failed(&stats->json))
        return ops_refuse("stats", OPS_FAILED, "no memory");
    printf("%s\n", buf_text(&stats->json));
    return OPS_OK;
}

static void print_text(struct stats *stats, const struct store_found *found)
{
    ops_print_found(found);
    if (stats->is_long)
        printf("\n%-9s %11s %11s %16s %11s  %s\n%s", "kind", "size", "records", "samples",
               "free pages", "path", buf_text(&stats->environments));
    if (stats->n_metrics)
        printf("\n%11s  metric\n", "series");
    for (size_t i = 0; i < stats->n_metrics; i++) {
        CLEANUP(buf_deinit) struct buf name = { 0 };

        text_append_printable(&name, span_of_text(stats->metrics[i].name));
        printf("%11" PRIu64 "  %s\n", stats->metrics[i].n_series, buf_text(&name));
    }
}

static int print(struct stats *stats, const struct store_found *found)
{
    int exit_code = OPS_OK;

    if (stats->is_json)
        exit_code = print_json(stats, found);
    else
        print_text(stats, found);
    if (exit_code != OPS_OK || found->n_damaged == 0)
        return exit_code;
    return ops_refuse("stats", OPS_PARTIAL,
                      "%" PRIu64 " places are damaged and not counted: see sentinel-hub verify",
                      found->n_damaged);
}

static int run(struct stats *stats, const char *directory)
{
    struct store_survey survey = {
        .directory = directory,
        .on_environment = on_environment,
        .on_metric = on_metric,
        .on_progress = on_progress,
        .ctx = stats,
    };
    struct store_why why = { "" };

    if (stats->is_json) {
        json_begin(&stats->writer, &stats->json, true);
        json_open_object(&stats->writer);
        json_key(&stats->writer, "environments");
        json_open_array(&stats->writer);
    }
    progress_begin(&stats->progress, "reading");
    int r = store_survey(&survey, &why);
    progress_end(&stats->progress);
    if (r == 0)
        return print(stats, &survey.found);
    if (r > 0)
        return ops_refuse("stats", r == STORE_NOT_FOUND ? OPS_NOT_FOUND : OPS_FAILED, "%s",
                          why.text);
    return ops_refuse("stats", OPS_FAILED, "not all could be read");
}

int ops_stats(int argc, char **argv)
{
    const char *state = NULL;
    struct stats stats = { .is_json = false };
    const struct conf_option options[] = {
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &state,
          .help = "the hub's; $STATE_DIRECTORY, else /var/lib/sentinel-hub" },
        { .flag = "--environments", .is_set = &stats.is_long, .help = "each one on a line" },
        { .flag = "--json", .is_set = &stats.is_json, .help = "as one JSON object" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "stats", .text = help, .options = options };
    struct conf_args args = { 0 };
    char directory[OPS_PATH_BYTES];

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    int exit_code = ops_database("stats", settings_state_directory(state), directory);
    if (exit_code != 0)
        return exit_code;
    exit_code = run(&stats, directory);
    buf_deinit(&stats.environments);
    buf_deinit(&stats.json);
    return exit_code;
}
