/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The oracle of log lines: every line that was acknowledged is made again and held against what the
 * hub answers, agent by agent, from the oldest line to the newest, page by page.
 */

#include "bench/verify_logs.h"

#include <inttypes.h>

#include "bench/ask.h"

#define PAGE_SIZE 10000u

struct oracle {
    const struct load *load;
    uint32_t agent;
    uint64_t n_lines, at; /* of the agent; compared so far */
    struct buf batch;     /* with the line that is next */
    struct wire_logs logs;
};

/* The line that is due. */
static int next_line(struct oracle *oracle, struct wire_log_record *ret)
{
    const struct lines *lines = oracle->load->lines;
    struct wire_problem problem;
    int r = WIRE_OK;

    if (oracle->at % lines->batch_lines == 0) {
        (void) lines_batch(lines, oracle->agent, oracle->at / lines->batch_lines + 1,
                           &oracle->batch);
        if (buf_failed(&oracle->batch))
            return bench_say(BENCH_FAILED, "out of memory");
        r = wire_logs_open(buf_span(&oracle->batch), &oracle->logs, &problem);
    }
    if (r == WIRE_OK)
        r = wire_logs_next(&oracle->logs, ret, &problem);
    return r == WIRE_OK ? BENCH_OK
                        : bench_say(BENCH_FAILED, "a line of our own is unreadable: %s",
                                    problem.description);
}

static int on_entry(void *ctx, const struct wire_log_entry *entry)
{
    struct oracle *oracle = ctx;
    struct wire_log_record line = { .time_us = 0 };
    int exit_code;

    if (oracle->at == oracle->n_lines)
        return bench_say(BENCH_FAILED,
                         "NOT KEPT: agent bench-%" PRIu32 " has more than the %" PRIu64
                         " lines that were sent",
                         oracle->agent, oracle->n_lines);
    exit_code = next_line(oracle, &line);
    if (exit_code != BENCH_OK)
        return exit_code;
    if (entry->time_us != line.time_us || entry->severity != line.severity ||
        entry->source_offset != line.source_offset || entry->is_raw ||
        !span_equal(entry->body, line.body))
        return bench_say(BENCH_FAILED,
                         "NOT KEPT: line %" PRIu64 " of agent bench-%" PRIu32
                         " is missing, there twice or another one",
                         oracle->at, oracle->agent);
    oracle->at++;
    return BENCH_OK;
}

static int verify_agent(struct ask *ask, struct oracle *oracle)
{
    Sentinel__Query__V1__SearchLogsRequest request = SENTINEL__QUERY__V1__SEARCH_LOGS_REQUEST__INIT;
    Sentinel__Query__V1__AgentSelector agents = SENTINEL__QUERY__V1__AGENT_SELECTOR__INIT;
    Sentinel__Query__V1__TimeRange range = SENTINEL__QUERY__V1__TIME_RANGE__INIT;
    struct ask_search search = { .on_entry = on_entry, .ctx = oracle };
    Google__Protobuf__Timestamp from, to;
    char id[32], token[sizeof(search.page_token)] = "", *ids[] = { id };
    int exit_code;

    (void) snprintf(id, sizeof(id), "bench-%" PRIu32, oracle->agent);
    agents.ids = ids;
    agents.n_ids = 1;
    from = ask_timestamp(oracle->load->lines->first_us);
    to = ask_timestamp(lines_time_us(oracle->load->lines, oracle->n_lines) + 1000000);
    range.from_time = &from;
    range.to_time = &to;
    request.agents = &agents;
    request.range = &range;
    request.oldest_first = true;
    request.page_size = PAGE_SIZE;
    request.page_token = token;
    do {
        if (bench_is_interrupted())
            return bench_say(BENCH_FAILED, "interrupted");
        exit_code = ask_search(ask, &request, &search);
        (void) snprintf(token, sizeof(token), "%s", search.page_token);
    } while (exit_code == BENCH_OK && token[0]);
    if (exit_code == BENCH_OK && oracle->at != oracle->n_lines)
        return bench_say(BENCH_FAILED,
                         "NOT KEPT: of agent bench-%" PRIu32 " %" PRIu64
                         " lines are there where %" PRIu64 " were acknowledged",
                         oracle->agent, oracle->at, oracle->n_lines);
    return exit_code;
}

int verify_logs(struct ask *ask, const struct load *load, uint64_t n_lines_of_each)
{
    struct oracle oracle = { .load = load, .n_lines = n_lines_of_each };
    int exit_code = BENCH_OK;

    for (; oracle.agent < load->n_agents && exit_code == BENCH_OK; oracle.agent++) {
        oracle.at = 0;
        exit_code = verify_agent(ask, &oracle);
    }
    buf_deinit(&oracle.batch);
    return exit_code;
}
