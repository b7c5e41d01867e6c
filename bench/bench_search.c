/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `search`. A hub of its own is filled with log lines, which are sealed; then two
 * questions are asked again and again:
 *
 *   rare       a word that is in a few lines of one agent, each time another: until the search ends
 *   frequent   a word of every fourth line or so: the first page
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/ask.h"
#include "bench/fill.h"
#include "bench/metrics.h"
#include "bench/mix.h"
#include "bench/print.h"
#include "common/base/text.h"
#include "common/rpc/rpc.h"

#define LINE_INTERVAL_US 10000
#define BATCH_LINES 500u
#define WINDOW 16u
#define FIRST_PAGE 100u
/* What a line has in the mean, about: how many of them make --bytes. */
#define LINE_BYTES 180

struct search_bench {
    const char *agents, *bytes, *repeat, *state_dir;
    bool sends_records, is_json, wants_help;
    uint64_t n_agents, n_bytes, n_repeat;
    struct bench_hub hub;
    struct lines grammar;
    struct load load;
    struct fill fill;
    struct ask *ask;
    struct histogram rare_us, frequent_us;
    uint64_t stored_bytes, read_bytes, n_rare;
};

/* ---- one question ---- */

static int search(struct search_bench *bench,
                  char *word,
                  uint32_t page_size,
                  struct ask_search *ret,
                  struct histogram *to)
{
    Sentinel__Query__V1__SearchLogsRequest request;
    Sentinel__Query__V1__TimeRange range;
    Google__Protobuf__Timestamp from, until;
    char *words[] = { word };
    int64_t from_us;
    int exit_code;

    sentinel__query__v1__search_logs_request__init(&request);
    sentinel__query__v1__time_range__init(&range);
    from = ask_timestamp(bench->grammar.first_us);
    until = ask_timestamp(bench->fill.last_time_us + 1000000);
    range.from_time = &from;
    range.to_time = &until;
    request.range = &range;
    request.words = words;
    request.n_words = 1;
    request.page_size = page_size;
    from_us = clock_mono().us;
    *ret = (struct ask_search){ .n_entries = 0 };
    exit_code = ask_search(bench->ask, &request, ret);
    histogram_add(to, clock_mono().us - from_us, 1);
    return exit_code;
}

static int search_rare(struct search_bench *bench, uint64_t round)
{
    const uint64_t n_lines = bench->fill.n_batches / bench->n_agents * BATCH_LINES;
    uint32_t agent = (uint32_t) mix_below(mix(round + 1), (uint32_t) bench->n_agents);
    uint64_t line = mix(round + 77) % n_lines;
    char word[LINES_TRACE_BYTES];
    struct ask_search answer;
    int exit_code;

    while (!lines_have_trace(agent))
        agent = (agent + 1) % (uint32_t) bench->n_agents;
    line -= line % LINES_OF_TRACE;
    lines_trace(&bench->grammar, agent, line, word);
    exit_code = search(bench, word, 1000, &answer, &bench->rare_us);
    bench->read_bytes += answer.bytes_read;
    bench->n_rare++;
    if (exit_code == BENCH_OK && (answer.n_entries != LINES_OF_TRACE || answer.is_budget_reached))
        return bench_say(BENCH_FAILED, "%" PRIu64 " lines have the word %s where %d are wanted%s",
                         answer.n_entries, word, LINES_OF_TRACE,
                         answer.is_budget_reached ? "; the hub's budget for a search was reached"
                                                  : "");
    return exit_code;
}

static int search_frequent(struct search_bench *bench)
{
    char word[] = LINES_FREQUENT;
    struct ask_search answer;
    int exit_code = search(bench, word, FIRST_PAGE, &answer, &bench->frequent_us);

    if (exit_code == BENCH_OK && answer.n_entries != FIRST_PAGE)
        return bench_say(BENCH_FAILED, "%" PRIu64 " lines on the first page where %u are wanted",
                         answer.n_entries, FIRST_PAGE);
    return exit_code;
}

static int ask_all(struct search_bench *bench)
{
    int exit_code = BENCH_OK;

    for (uint64_t i = 0; i < bench->n_repeat && exit_code == BENCH_OK; i++) {
        exit_code = search_rare(bench, i);
        if (exit_code == BENCH_OK)
            exit_code = search_frequent(bench);
        if (bench_is_interrupted())
            exit_code = bench_say(BENCH_FAILED, "interrupted");
    }
    return exit_code;
}

/* ---- report ---- */

static void print_json(const struct search_bench *bench)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;

    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_text(&json, "log_form", fill_log_form(&bench->fill));
    json_put_u64(&json, "agents", bench->n_agents);
    json_put_u64(&json, "raw_bytes", bench->fill.ret_look.acknowledged_bytes);
    json_put_u64(&json, "stored_bytes", bench->stored_bytes);
    json_put_u64(&json, "lines", bench->fill.ret_look.acknowledged * BATCH_LINES);
    json_put_u64(&json, "repeat", bench->n_repeat);
    print_json_number(&json, "search_ms", (double) histogram_quantile(&bench->rare_us, 0.50) / 1e3,
                      100);
    print_json_number(&json, "search_p99_ms",
                      (double) histogram_quantile(&bench->rare_us, 0.99) / 1e3, 100);
    print_json_number(&json, "search_bytes_read",
                      (double) bench->read_bytes / (double) bench->n_rare, 1);
    print_json_number(&json, "first_page_ms",
                      (double) histogram_quantile(&bench->frequent_us, 0.50) / 1e3, 100);
    print_json_number(&json, "first_page_p99_ms",
                      (double) histogram_quantile(&bench->frequent_us, 0.99) / 1e3, 100);
    json_put_u64(&json, "hub_rss_bytes", stats_resident_bytes(bench->hub.pid));
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

static void print_text(const struct search_bench *bench)
{
    char raw[TEXT_SIZE_BYTES], stored[TEXT_SIZE_BYTES];

    printf("%" PRIu64 " lines of %" PRIu64 " agents, log form %s, %s raw, %s stored; %" PRIu64
           " searches of each kind, from question to the last entry\n\n",
           bench->fill.ret_look.acknowledged * BATCH_LINES, bench->n_agents,
           fill_log_form(&bench->fill), text_of_size(bench->fill.ret_look.acknowledged_bytes, raw),
           text_of_size(bench->stored_bytes, stored), bench->n_repeat);
    print_line("a rare word p50", (double) histogram_quantile(&bench->rare_us, 0.50) / 1e3, 1,
               "ms");
    print_line("a rare word p99", (double) histogram_quantile(&bench->rare_us, 0.99) / 1e3, 1,
               "ms");
    print_line("decoded for it", (double) bench->read_bytes / (double) bench->n_rare / 1048576, 2,
               "MiB");
    print_line("first page of a frequent one p50",
               (double) histogram_quantile(&bench->frequent_us, 0.50) / 1e3, 1, "ms");
    print_line("first page of a frequent one p99",
               (double) histogram_quantile(&bench->frequent_us, 0.99) / 1e3, 1, "ms");
}

/* ---- the whole ---- */

static struct search_bench given = { .n_agents = 40, .n_bytes = 1000000000, .n_repeat = 50 };

static const struct conf_option rows[] = {
    { .flag = "--agents", .metavar = "N", .value = &given.agents, .help = "that send lines; 40" },
    { .flag = "--bytes",
      .metavar = "SIZE",
      .value = &given.bytes,
      .help = "of bodies in the hub, about; 1GB" },
    { .flag = "--repeat",
      .metavar = "N",
      .value = &given.repeat,
      .help = "searches of each kind; 50" },
    { .flag = "--records",
      .is_set = &given.sends_records,
      .help = "send lines as records, as a client does that knows no blocks" },
    OPTIONS_OF_ALL(given),
    { .flag = NULL },
};

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv)
{
    int exit_code = options_read_flags(argc, argv, rows, &given.wants_help,
                                       "Fills a hub of its own with log lines, and searches "
                                       "them.\n\nExample:\n  sentinel-bench search --bytes 1GB\n");

    if (exit_code >= 0)
        return exit_code;
    /* From two on there is one whose lines have a rare word. */
    exit_code = options_read_count("--agents", given.agents, 2, 10000, &given.n_agents);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--repeat", given.repeat, 1, 1000000, &given.n_repeat);
    if (exit_code == BENCH_OK && given.bytes &&
        (text_to_size(given.bytes, &given.n_bytes) || given.n_bytes < 1000000))
        return bench_say(BENCH_USAGE, "--bytes: a size of 1MB and more, such as 1GB");
    return exit_code == BENCH_OK ? -1 : exit_code;
}

static int prepare(struct search_bench *bench)
{
    const uint64_t n_lines = bench->n_bytes / LINE_BYTES / bench->n_agents + BATCH_LINES;
    const uint64_t n_batches = n_lines / BATCH_LINES;
    const int64_t span_us = (int64_t) (n_batches * BATCH_LINES) * LINE_INTERVAL_US;
    const int64_t first_us = clock_wall().us - span_us;

    bench->grammar = (struct lines){ .seed = 1,
                                     .batch_lines = BATCH_LINES,
                                     .first_us = first_us - first_us % 1000000,
                                     .interval_us = LINE_INTERVAL_US };
    bench->load = (struct load){ .n_agents = (uint32_t) bench->n_agents,
                                 .n_series = 1,
                                 .batch_scrapes = BATCH_LINES,
                                 .first_us = bench->grammar.first_us,
                                 .interval_us = LINE_INTERVAL_US,
                                 .lines = &bench->grammar };
    bench->fill =
        (struct fill){ .hub = &bench->hub,
                       .load = &bench->load,
                       .last_time_us = lines_time_us(&bench->grammar, n_batches * BATCH_LINES - 1),
                       .n_threads = 1,
                       .window = WINDOW,
                       .sends_records = bench->sends_records,
                       .n_batches = n_batches * bench->n_agents };
    return load_init(&bench->load) < 0 ? BENCH_FAILED : BENCH_OK;
}

static int run(struct search_bench *bench)
{
    int64_t cpu_us;
    int exit_code;

    if (ask_open(&bench->ask, bench->hub.address, NULL, bench->hub.operator_identity) < 0)
        return BENCH_FAILED; /* the log has said why */
    exit_code = fill_run(&bench->fill);
    if (exit_code == BENCH_OK)
        exit_code = fill_wait_sealed(&bench->hub, &bench->stored_bytes, &cpu_us);
    if (exit_code == BENCH_OK)
        exit_code = ask_all(bench);
    if (exit_code == BENCH_OK)
        (bench->is_json ? print_json : print_text)(bench);
    return exit_code;
}

int cmd_search(int argc, char **argv)
{
    struct search_bench *bench = &given;
    bool has_rpc = false;
    int exit_code = parse(argc, argv);

    if (exit_code >= 0)
        return exit_code;
    (void) bench_raise_descriptors();
    fill_seal_soon();
    exit_code = prepare(bench);
    if (exit_code == BENCH_OK)
        exit_code = hub_start(
            &bench->hub, &(struct bench_hub_options){ .parent_directory = bench->state_dir,
                                                      .n_identities = (uint32_t) bench->n_agents });
    if (exit_code == BENCH_OK) {
        has_rpc = rpc_init() == 0;
        exit_code = has_rpc ? run(bench) : BENCH_FAILED;
    }
    bench->ask = ask_close(bench->ask);
    load_deinit(&bench->load);
    if (has_rpc)
        rpc_deinit();
    hub_stop(&bench->hub);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
