/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent collect --once [--json]: needs no hub and no identity. */
#include "agent/cli/cmd.h"
#include "agent/collect/collect.h"
#include "common/base/text.h"
#include "common/json/json.h"

static const char *kind_name(enum spool_kind kind)
{
    return kind == SPOOL_COUNTER ? "counter" : "gauge";
}

static bool is_absent(const struct spool_scrape *sample, size_t i)
{
    for (size_t at = 0; at < sample->n_absent; at++)
        if (sample->absent[at] == i)
            return true;
    return false;
}

static void print_json(const struct spool_scrape *sample, struct buf *to)
{
    char text[TEXT_TIME_BYTES];
    struct json_writer json;

    json_begin(&json, to, true);
    json_open_object(&json);
    json_put_text(&json, "time", text_of_time(sample->time, text));
    json_key(&json, "samples");
    json_open_array(&json);
    for (size_t i = 0; i < sample->layout->n_series; i++) {
        const struct spool_series *series = sample->layout->series[i];

        if (is_absent(sample, i))
            continue;
        json_open_object(&json);
        json_put_text(&json, "name", series->name);
        json_put_text(&json, "unit", series->unit);
        json_put_text(&json, "kind", kind_name(series->kind));
        json_key(&json, "attributes");
        json_open_object(&json);
        for (size_t a = 0; a < series->n_attributes; a++)
            json_put_text(&json, series->attributes[a].key, series->attributes[a].value);
        json_close_object(&json);
        json_put_f64(&json, "value", sample->values[i]);
        json_close_object(&json);
    }
    json_close_array(&json);
    json_close_object(&json);
    buf_append_text(to, "\n");
}

/* "name{key=value,...}" */
static void print_name(const struct spool_series *series, struct buf *to)
{
    buf_append_text(to, series->name);
    for (size_t a = 0; a < series->n_attributes; a++) {
        buf_printf(to, "%s%s=", a == 0 ? "{" : ",", series->attributes[a].key);
        text_append_printable(to, span_of_text(series->attributes[a].value));
    }
    if (series->n_attributes > 0)
        buf_append_text(to, "}");
}

static void print_table(const struct spool_scrape *sample, struct buf *to)
{
    CLEANUP(buf_deinit) struct buf name = { 0 };

    for (size_t i = 0; i < sample->layout->n_series; i++) {
        const struct spool_series *series = sample->layout->series[i];

        if (is_absent(sample, i))
            continue;
        buf_clear(&name);
        print_name(series, &name);
        buf_printf(to, "%20.15g %-17s %-8s %s\n", sample->values[i], series->unit,
                   kind_name(series->kind), buf_text(&name));
    }
}

static int print(struct collect *collect, bool is_json)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct collect_totals totals;
    struct spool_scrape sample;

    if (collect_run(collect, &sample))
        return CLI_FAILURE;
    if (is_json)
        print_json(&sample, &text);
    else
        print_table(&sample, &text);
    collect_get_totals(collect, &totals);
    if (totals.errors > 0)
        (void) cmd_fail(0, "%llu files could not be read or understood",
                        (unsigned long long) totals.errors);
    return cmd_print(&text);
}

int cmd_collect(int argc, char **argv)
{
    bool is_once = false;
    const struct conf_option options[] = {
        { .flag = "--once", .help = "one round, then leave", .is_set = &is_once },
        { .flag = NULL },
    };
    const struct cmd cmd = {
        .usage = "collect --once [--json]",
        .help = "Prints every sample of one round. Needs no hub and no identity.",
        .options = options,
        .has_json = true,
        .has_settings = true,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(collect_freep) struct collect *collect = NULL;
    struct collect_options wanted;
    int code = CLI_FAILURE;
    int r;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    if (!is_once)
        return cmd_fail(CLI_USAGE,
                        "collect: give --once; `sentinel-agent run` collects all the time");
    settings_collect(&line.settings, &wanted);
    wanted.waits_for_all = true;
    r = collect_new(&collect, &wanted);
    if (r == COLLECT_ABSENT)
        return cmd_fail(CLI_NOT_FOUND, "collect.root: %s cannot be opened",
                        line.settings.collect_root);
    return r ? CLI_FAILURE : print(collect, line.is_json);
}
