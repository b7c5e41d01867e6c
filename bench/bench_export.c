/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `export`: the same values that `metrics` would send, for other programs to send.
 * Little-endian, on stdout:
 *
 *   "SNTLFLT1"  u32 length  header: JSON, {"agents", "scrapes", "series": [{"name", "unit",
 *               "is_counter", "attributes": {...}}]}
 *   rows        scrape by scrape, in each agent by agent: i64 time_us, n_series doubles
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bench/metrics.h"

#define MAGIC "SNTLFLT1"
#define MAX_SCRAPES UINT64_C(1000000)
/* Between the last scrape and now. */
#define MARGIN_US INT64_C(60000000)

struct export
{
    const char *agents, *series, *scrapes, *interval, *data_path;
    bool wants_help;
    uint64_t n_agents, n_series, n_scrapes;
    int64_t interval_us;
    struct data data;
    struct load load;
};

static int put(const void *bytes, size_t len)
{
    if (fwrite(bytes, 1, len, stdout) == len)
        return BENCH_OK;
    return bench_say(BENCH_FAILED, "cannot write: %s", strerror(errno));
}

static void put_series(struct json_writer *json, const struct load *load, uint32_t series)
{
    const struct load_group *group = &load->groups[load->group_of[series]];
    const struct replay_series *recorded =
        load->replay ? &load->replay->series[series % load->replay->n_series] : NULL;
    char item[16];

    json_open_object(json);
    json_put_text(json, "name", group->name);
    json_put_text(json, "unit", recorded ? recorded->unit : group->unit);
    json_put_bool(json, "is_counter", recorded ? recorded->is_counter : group->is_counter);
    json_key(json, "attributes");
    json_open_object(json);
    snprintf(item, sizeof(item), "%" PRIu32, series);
    json_put_text(json, "item", item);
    for (uint32_t i = 0; recorded && i < recorded->n_attributes; i++)
        json_put_text(json, recorded->attributes[i].key, recorded->attributes[i].value);
    json_close_object(json);
    json_close_object(json);
}

static int put_header(const struct export *export)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;
    uint8_t len[4];
    int exit_code;

    json_begin(&json, &text, false);
    json_open_object(&json);
    json_put_u64(&json, "agents", export->n_agents);
    json_put_u64(&json, "scrapes", export->n_scrapes);
    json_key(&json, "series");
    json_open_array(&json);
    for (uint32_t i = 0; i < export->load.n_series; i++)
        put_series(&json, &export->load, i);
    json_close_array(&json);
    json_close_object(&json);
    if (buf_failed(&text))
        return bench_say(BENCH_FAILED, "out of memory");
    for (int i = 0; i < 4; i++)
        len[i] = (uint8_t) (text.len >> (8 * i));
    exit_code = put(MAGIC, strlen(MAGIC));
    if (exit_code == BENCH_OK)
        exit_code = put(len, sizeof(len));
    return exit_code == BENCH_OK ? put(text.data, text.len) : exit_code;
}

static int put_rows(const struct export *export)
{
    const struct load *load = &export->load;
    double *values = calloc(load->n_series, sizeof(*values));
    int exit_code = BENCH_OK;

    if (!values)
        return bench_say(BENCH_FAILED, "out of memory");
    for (uint64_t scrape = 0; scrape < export->n_scrapes && exit_code == BENCH_OK; scrape++) {
        if (bench_is_interrupted())
            exit_code = bench_say(BENCH_FAILED, "interrupted");
        for (uint32_t agent = 0; agent < load->n_agents && exit_code == BENCH_OK; agent++) {
            const int64_t time_us = load_time_us(load, agent, scrape);

            for (uint32_t i = 0; i < load->n_series; i++)
                values[i] = load_value(load, agent, i, scrape);
            exit_code = put(&time_us, sizeof(time_us));
            if (exit_code == BENCH_OK)
                exit_code = put(values, load->n_series * sizeof(*values));
        }
    }
    free(values);
    return exit_code;
}

static int run(struct export *export)
{
    int64_t from_us =
        clock_wall().us - (int64_t) export->n_scrapes * export->interval_us - MARGIN_US;
    int exit_code;

    export->load = (struct load){
        .n_agents = (uint32_t) export->n_agents,
        .n_series = (uint32_t) export->n_series,
        .batch_scrapes = 1,
        .interval_us = export->interval_us,
        .first_us = from_us - from_us % export->interval_us,
        .replay = export->data_path ? &export->data.replay : NULL,
        .tracks = export->data_path ? &export->data.tracks : NULL,
    };
    if (load_init(&export->load) < 0)
        return BENCH_FAILED;
    exit_code = put_header(export);
    return exit_code == BENCH_OK ? put_rows(export) : exit_code;
}

static struct export given = { .n_agents = 200,
                               .n_series = 500,
                               .n_scrapes = 360,
                               .interval_us = 10000000 };

static const struct conf_option rows[] = {
    { .flag = "--agents", .metavar = "N", .value = &given.agents, .help = "200" },
    { .flag = "--series", .metavar = "N", .value = &given.series, .help = "of each agent; 500" },
    { .flag = "--scrapes", .metavar = "N", .value = &given.scrapes, .help = "of each agent; 360" },
    { .flag = "--interval",
      .metavar = "TIME",
      .value = &given.interval,
      .help = "between an agent's scrapes; 10s" },
    { .flag = "--data",
      .metavar = "FILE",
      .value = &given.data_path,
      .help = "a recording of `sentinel-bench record`; numbers of our own" },
    { .flag = "--help", .is_set = &given.wants_help, .help = "this text" },
    { .flag = "-h", .is_set = &given.wants_help },
    { .flag = NULL },
};

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv)
{
    int exit_code = options_read_flags(
        argc, argv, rows, &given.wants_help,
        "Writes the values that `metrics` would send to stdout, for other systems' "
        "senders.\n\nExample:\n"
        "  sentinel-bench export --data host.replay --agents 200 >fleet.bin\n");

    if (exit_code >= 0)
        return exit_code;
    exit_code = options_read_count("--agents", given.agents, 1, 100000, &given.n_agents);
    if (exit_code == BENCH_OK)
        exit_code =
            options_read_count("--series", given.series, 1, LOAD_MAX_SERIES, &given.n_series);
    if (exit_code == BENCH_OK)
        exit_code =
            options_read_count("--scrapes", given.scrapes, 1, MAX_SCRAPES, &given.n_scrapes);
    if (exit_code == BENCH_OK)
        exit_code = options_read_duration("--interval", given.interval, 1000, &given.interval_us);
    return exit_code == BENCH_OK ? -1 : exit_code;
}

int cmd_export(int argc, char **argv)
{
    int exit_code = parse(argc, argv);

    if (exit_code >= 0)
        return exit_code;
    exit_code = data_load(&given.data, given.data_path);
    if (exit_code == BENCH_OK)
        exit_code = run(&given);
    load_deinit(&given.load);
    data_deinit(&given.data);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
