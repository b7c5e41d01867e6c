/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The oracle. Every sample counts: for each agent and group the number and the sum of all series in
 * each step of one interval, where each series has exactly one sample. Some series are also
 * compared bit by bit, value by value, and one question without an end makes sure that nothing lies
 * outside of what was sent.
 *
 * What was sent and not acknowledged may be there or not, whole.
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "common/base/ensure.h"

/* Points of one answer; values that the hub holds for one (series by steps). */
#define MAX_STEPS UINT64_C(20000)
#define MAX_CELLS UINT64_C(4000000)
/* Single series of each agent. */
#define N_SINGLES 6u
/* Integers up to here are doubles: sums in any order are the same. */
#define MAX_EXACT 9007199254740992.0
#define DAY_US INT64_C(86400000000)

struct verify {
    struct ask *ask;
    const struct load *load;
    struct verify_result *result;
    uint32_t agent;
    uint32_t group;
    int64_t item;                    /* -1: all of the group */
    uint64_t n_sent, n_acknowledged; /* scrapes */
    /* the chunk at hand */
    uint64_t first, n_steps; /* scrapes */
    double *counts, *values;
    double total;
};

static uint64_t n_expected(const struct verify *verify)
{
    return verify->item >= 0 ? 1 : verify->load->groups[verify->group].n_series;
}

/* ---- what comes back ---- */

static void put_point(struct verify *verify, double *to, int64_t time_us, double value)
{
    const int64_t from_first_us = time_us - verify->load->first_us;
    int64_t step;

    ensure(from_first_us >= 0);
    step = from_first_us / verify->load->interval_us - (int64_t) verify->first;
    if (step >= 0 && step < (int64_t) verify->n_steps)
        to[step] = value;
}

static void on_count(void *ctx, int64_t time_us, double value)
{
    struct verify *verify = ctx;

    put_point(verify, verify->counts, time_us, value);
}

static void on_value(void *ctx, int64_t time_us, double value)
{
    struct verify *verify = ctx;

    put_point(verify, verify->values, time_us, value);
}

static void on_total(void *ctx, int64_t time_us, double value)
{
    struct verify *verify = ctx;

    (void) time_us;
    verify->total += value;
}

/* ---- comparing ---- */

static double sum_of(const struct verify *verify, uint64_t scrape)
{
    const struct load_group *group = &verify->load->groups[verify->group];
    double sum = 0;

    for (uint32_t i = 0; i < group->n_series; i++)
        sum += load_value(verify->load, verify->agent, group->series[i], scrape);
    return sum;
}

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* Integers add up exactly in any order; a sum of decimals depends on the order in its last bits. */
static bool is_right(const struct verify *verify, uint64_t scrape, double value)
{
    double wanted;

    if (verify->item >= 0) {
        wanted = load_value(verify->load, verify->agent, (uint32_t) verify->item, scrape);
        return bits_of(wanted) == bits_of(value);
    }
    wanted = sum_of(verify, scrape);
    return verify->load->groups[verify->group].is_integer && fabs(wanted) < MAX_EXACT
               ? value == wanted
               : fabs(value - wanted) <= 1e-9 * fabs(wanted);
}

static void say_first(const struct verify *verify, uint64_t scrape, const char *what, double value)
{
    const struct verify_result *result = verify->result;
    char item[32] = "";

    if (result->missing + result->doubled + result->wrong + result->unsent > 0)
        return;
    if (verify->item >= 0)
        snprintf(item, sizeof(item), " item %" PRId64, verify->item);
    bench_say(BENCH_FAILED,
              "agent bench-%" PRIu32 " %s%s, scrape %" PRIu64 " (sent %" PRIu64
              ", acknowledged %" PRIu64 "): %s %.17g",
              verify->agent, verify->load->groups[verify->group].name, item, scrape, verify->n_sent,
              verify->n_acknowledged, what, value);
}

static void compare_step(struct verify *verify, uint64_t step)
{
    const uint64_t scrape = verify->first + step, wanted = n_expected(verify);
    const uint64_t have = (uint64_t) verify->counts[step];
    struct verify_result *result = verify->result;

    if (have == 0 && scrape >= verify->n_acknowledged)
        return;
    if (have < wanted) {
        say_first(verify, scrape, "samples are missing, there are", (double) have);
        result->missing += wanted - have;
    } else if (have > wanted) {
        say_first(verify, scrape, "samples are there twice, in all", (double) have);
        result->doubled += have - wanted;
    } else if (!is_right(verify, scrape, verify->values[step])) {
        say_first(verify, scrape, "another value than was sent:", verify->values[step]);
        result->wrong += wanted;
    }
}

static int compare_chunk(struct verify *verify)
{
    struct ask_points question = {
        .load = verify->load,
        .agent = verify->agent,
        .group = verify->group,
        .item = verify->item,
        .from_us = verify->load->first_us + (int64_t) verify->first * verify->load->interval_us,
        .step_us = verify->load->interval_us,
        .how = ASK_COUNT,
        .on_point = on_count,
        .ctx = verify,
    };
    int exit_code;

    ensure(verify->counts && verify->values);
    question.to_us = question.from_us + (int64_t) verify->n_steps * verify->load->interval_us;
    memset(verify->counts, 0, verify->n_steps * sizeof(*verify->counts));
    memset(verify->values, 0, verify->n_steps * sizeof(*verify->values));
    exit_code = ask_points(verify->ask, &question);
    question.how = verify->item >= 0 ? ASK_LAST : ASK_SUM;
    question.on_point = on_value;
    if (exit_code == BENCH_OK)
        exit_code = ask_points(verify->ask, &question);
    for (uint64_t i = 0; i < verify->n_steps && exit_code == BENCH_OK; i++)
        compare_step(verify, i);
    return exit_code;
}

/* All scrapes of what `verify` is about. */
static int compare(struct verify *verify)
{
    uint64_t chunk = MAX_CELLS / n_expected(verify);
    int exit_code = BENCH_OK;

    chunk = chunk < MAX_STEPS ? chunk : MAX_STEPS;
    for (verify->first = 0; verify->first < verify->n_sent && exit_code == BENCH_OK;
         verify->first += chunk) {
        verify->n_steps = verify->n_sent - verify->first;
        verify->n_steps = verify->n_steps < chunk ? verify->n_steps : chunk;
        exit_code = compare_chunk(verify);
    }
    return exit_code;
}

/* Steps of years over all times: what lies outside of the range of what was sent is too much. */
static int compare_total(struct verify *verify, uint64_t n_doubled)
{
    const struct load *load = verify->load;
    const struct ask_points question = {
        .load = load,
        .agent = verify->agent,
        .group = verify->group,
        .item = -1,
        .from_us = load->first_us - 3650 * DAY_US,
        .to_us = load->first_us + 3650 * DAY_US,
        .step_us = 365 * DAY_US,
        .how = ASK_COUNT,
        .on_point = on_total,
        .ctx = verify,
    };
    const uint64_t most = verify->n_sent * load->groups[verify->group].n_series + n_doubled;
    uint64_t have;
    int exit_code;

    verify->total = 0;
    exit_code = ask_points(verify->ask, &question);
    have = (uint64_t) verify->total;
    if (exit_code == BENCH_OK && have > most) {
        say_first(verify, verify->n_sent, "more samples than were sent:", verify->total);
        verify->result->unsent += have - most;
    }
    return exit_code;
}

static int verify_agent(struct verify *verify, struct fleet_agent_result result)
{
    const struct load *load = verify->load;
    int exit_code = BENCH_OK;

    verify->n_sent = result.sent * load->batch_scrapes;
    verify->n_acknowledged = result.acknowledged * load->batch_scrapes;
    for (uint32_t i = 0; i < load->n_groups && exit_code == BENCH_OK; i++) {
        const uint64_t before = verify->result->doubled;

        verify->group = i;
        verify->item = -1;
        exit_code = compare(verify);
        if (exit_code == BENCH_OK)
            exit_code = compare_total(verify, verify->result->doubled - before);
    }
    for (uint32_t i = 0; i < N_SINGLES && i < load->n_series && exit_code == BENCH_OK; i++) {
        /* The first ones, and others that differ between agents. */
        verify->item = i < LOAD_N_KINDS ? i : (verify->agent * 7919 + i * 104729) % load->n_series;
        verify->group = load->group_of[verify->item];
        exit_code = compare(verify);
    }
    return exit_code;
}

int verify_run(struct ask *ask,
               const struct load *load,
               const struct fleet *fleet,
               struct verify_result *ret)
{
    struct verify verify = { .ask = ask, .load = load, .result = ret };
    int exit_code = BENCH_OK;

    *ret = (struct verify_result){ 0 };
    verify.counts = calloc(MAX_STEPS, sizeof(*verify.counts));
    verify.values = calloc(MAX_STEPS, sizeof(*verify.values));
    if (!verify.counts || !verify.values)
        exit_code = bench_say(BENCH_FAILED, "out of memory");
    for (uint32_t i = 0; i < load->n_agents && exit_code == BENCH_OK; i++) {
        verify.agent = i;
        exit_code = verify_agent(&verify, fleet_result(fleet, i));
    }
    free(verify.counts);
    free(verify.values);
    return exit_code;
}
