/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "bench/metrics.h"
#include "common/base/text.h"

int options_read_count(const char *flag,
                       const char *text,
                       uint64_t min,
                       uint64_t max,
                       uint64_t *ret)
{
    if (!text)
        return BENCH_OK;
    if (text_to_u64(text, ret) || *ret < min || *ret > max)
        return bench_say(BENCH_USAGE, "%s: `%s` is not a number from %" PRIu64 " to %" PRIu64, flag,
                         text, min, max);
    return BENCH_OK;
}

int options_read_duration(const char *flag, const char *text, int64_t min_us, int64_t *ret_us)
{
    if (!text)
        return BENCH_OK;
    if (text_to_duration_us(text, ret_us) || *ret_us < min_us)
        return bench_say(BENCH_USAGE, "%s: `%s` is not a duration such as 10s, or too short", flag,
                         text);
    return BENCH_OK;
}

static int print_help(const struct conf_option *rows, const char *about)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    conf_print_options(rows, &text);
    printf("%s\nOptions:\n%s", about, buf_text(&text));
    return BENCH_OK;
}

int options_read_flags(int argc,
                       char **argv,
                       const struct conf_option *rows,
                       const bool *wants_help,
                       const char *about)
{
    struct conf_args args = { 0 };
    struct conf_error error = { "" };

    if (conf_parse_args(argc, argv, rows, NULL, &args, &error))
        return bench_say(BENCH_USAGE, "%s", error.text);
    if (*wants_help)
        return print_help(rows, about);
    if (args.n_rest > 0)
        return bench_say(BENCH_USAGE, "`%s` is too much; --help has the options", args.rest[0]);
    return -1;
}

static int read_numbers(struct options *options)
{
    const struct {
        const char *flag, *text;
        uint64_t min, max;
        uint64_t *to;
    } counts[] = {
        { "--agents", options->agents, 1, 100000, &options->n_agents },
        { "--series", options->series, 1, LOAD_MAX_SERIES, &options->n_series },
        { "--batch-scrapes", options->batch_scrapes, 1, LOAD_MAX_SAMPLES,
          &options->n_batch_scrapes },
        { "--window", options->window, 1, 65536, &options->n_window },
        { "--threads", options->threads, 1, 256, &options->n_threads },
        { "--scrapes", options->scrapes, 1, UINT64_C(1000000000), &options->n_scrapes },
        { "--rate", options->rate, 0, UINT64_C(1000000000000), &options->samples_per_s },
    };
    uint64_t pid = 0;
    int exit_code = BENCH_OK;

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) && exit_code == BENCH_OK; i++)
        exit_code = options_read_count(counts[i].flag, counts[i].text, counts[i].min, counts[i].max,
                                       counts[i].to);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--hub-pid", options->hub_pid, 1, INT32_MAX, &pid);
    options->pid = (pid_t) pid;
    if (exit_code == BENCH_OK)
        exit_code =
            options_read_duration("--duration", options->duration, 1000, &options->duration_us);
    if (exit_code == BENCH_OK)
        exit_code = options_read_duration("--warmup", options->warmup, 0, &options->warmup_us);
    if (exit_code == BENCH_OK)
        exit_code =
            options_read_duration("--interval", options->interval, 1000, &options->interval_us);
    return exit_code;
}

static int check_foreign(const struct options *options)
{
    if (!options->identities && !options->is_insecure)
        return bench_say(BENCH_USAGE,
                         "--hub needs --identities DIR; `sentinel-bench identities` makes them");
    if (options->verifies && !options->operator_identity && !options->is_insecure)
        return bench_say(
            BENCH_USAGE,
            "--verify with --hub needs --operator DIR, the identity of a viewer or more");
    if (options->restarts || options->compares_tls)
        return bench_say(BENCH_USAGE, "--restart and --compare-tls start hubs of their own; leave "
                                      "out --hub");
    return BENCH_OK;
}

static int check_own(const struct options *options)
{
    if (options->compares_tls && options->samples_per_s == 0)
        return bench_say(BENCH_USAGE,
                         "--compare-tls needs --rate N: what both hubs are offered, and can take");
    if (options->compares_tls && (options->is_insecure || options->restarts))
        return bench_say(BENCH_USAGE, "--compare-tls goes neither with --insecure nor --restart");
    return BENCH_OK;
}

static int check_options(struct options *options)
{
    int exit_code = read_numbers(options);

    if (exit_code != BENCH_OK)
        return exit_code;
    if (options->n_series * options->n_batch_scrapes > LOAD_MAX_SAMPLES)
        return bench_say(
            BENCH_USAGE,
            "--series times --batch-scrapes is more than %u, what a hub takes in a batch",
            LOAD_MAX_SAMPLES);
    if (options->n_scrapes > 0 && options->restarts)
        return bench_say(BENCH_USAGE, "--restart is for a load that goes on; leave out --scrapes");
    if (options->n_scrapes % options->n_batch_scrapes != 0)
        return bench_say(BENCH_USAGE, "--scrapes must be a multiple of --batch-scrapes");
    if (options->n_threads > options->n_agents)
        options->n_threads = options->n_agents;
    options->reconnects = options->reconnects || options->restarts;
    return options->hub ? check_foreign(options) : check_own(options);
}

/* Where the flags of the table below put what they are given. */
static struct options given;

static const struct conf_option rows[] = {
    { .flag = "--agents",
      .metavar = "N",
      .value = &given.agents,
      .help = "connections, each an agent's; 200" },
    { .flag = "--series", .metavar = "N", .value = &given.series, .help = "of each agent; 500" },
    { .flag = "--duration",
      .metavar = "TIME",
      .value = &given.duration,
      .help = "that is measured; 20s" },
    { .flag = "--warmup", .metavar = "TIME", .value = &given.warmup, .help = "load before it; 3s" },
    { .flag = "--rate",
      .metavar = "N",
      .value = &given.rate,
      .help = "samples per second of all agents; 0: as fast as acknowledgements allow" },
    { .flag = "--batch-scrapes",
      .metavar = "N",
      .value = &given.batch_scrapes,
      .help = "scrapes in a message; 1" },
    { .flag = "--window",
      .metavar = "N",
      .value = &given.window,
      .help = "messages of an agent without an acknowledgement; 64" },
    { .flag = "--threads", .metavar = "N", .value = &given.threads, .help = "of this program; 1" },
    { .flag = "--interval",
      .metavar = "TIME",
      .value = &given.interval,
      .help = "between the times of an agent's scrapes; 10s" },
    { .flag = "--scrapes",
      .metavar = "N",
      .value = &given.scrapes,
      .help = "that each agent sends, and all of it is measured; instead of --duration" },
    { .flag = "--data",
      .metavar = "FILE",
      .value = &given.data,
      .help = "a recording of `sentinel-bench record`, whose values are sent; numbers of our own" },
    { .flag = "--restart",
      .is_set = &given.restarts,
      .help = "under load the hub is killed, and started again: how long it takes" },
    { .flag = "--insecure", .is_set = &given.is_insecure, .help = "plaintext" },
    { .flag = "--compare-tls",
      .is_set = &given.compares_tls,
      .help = "runs with TLS and without by turns, at --rate: what it costs the hub" },
    { .flag = "--reconnect", .is_set = &given.reconnects, .help = "go on when a stream breaks" },
    { .flag = "--verify",
      .is_set = &given.verifies,
      .help = "ask the hub for everything afterwards, and compare" },
    { .flag = "--json", .is_set = &given.is_json, .help = "one JSON object on stdout" },
    { .flag = "-v",
      .is_set = &given.is_verbose,
      .help = "progress, also when stderr is no terminal" },
    { .flag = "--state-dir",
      .metavar = "DIR",
      .value = &given.state_dir,
      .help = "the hub's files go below it; $TMPDIR, else /tmp" },
    { .flag = "--hub",
      .metavar = "HOST:PORT",
      .value = &given.hub,
      .help = "a hub that runs already" },
    { .flag = "--identities",
      .metavar = "DIR",
      .value = &given.identities,
      .help = "with bench-0, bench-1, ... of that hub" },
    { .flag = "--operator",
      .metavar = "DIR",
      .value = &given.operator_identity,
      .help = "identity to ask that hub with: --verify, its CPU time and size" },
    { .flag = "--server-name",
      .metavar = "NAME",
      .value = &given.server_name,
      .help = "that its certificate must carry; the host of --hub" },
    { .flag = "--hub-pid",
      .metavar = "PID",
      .value = &given.hub_pid,
      .help = "of that hub, when it runs here: CPU time and memory" },
    { .flag = "--help", .is_set = &given.wants_help, .help = "this text" },
    { .flag = "-h", .is_set = &given.wants_help },
    { .flag = NULL },
};

int options_parse(int argc, char **argv, struct options *options)
{
    int exit_code;

    given = *options;
    exit_code = options_read_flags(
        argc, argv, rows, &given.wants_help,
        "Streams metrics of many agents over mutual TLS.\n\nExamples:\n"
        "  sentinel-bench metrics --agents 200 --series 500 --duration 20s --verify\n"
        "  sentinel-bench metrics --data host.replay\n"
        "  sentinel-bench metrics --rate 1000000 --compare-tls\n");
    if (exit_code >= 0)
        return exit_code;
    *options = given;
    exit_code = check_options(options);
    return exit_code == BENCH_OK ? -1 : exit_code;
}
