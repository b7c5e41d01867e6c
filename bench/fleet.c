/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/fleet.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/rand.h"

#define TICK_US INT64_C(10000)
#define PACED_TICK_US INT64_C(1000)
/* Handshakes at once: a thousand agents that begin together would time out together. */
#define MAX_OPENING 64u
/* What could not be sent for longer than this is not made up for. */
#define MAX_DEBT_US INT64_C(100000)

/* ---- shared ---- */

void fleet_fail(struct fleet *fleet, int exit_code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    pthread_mutex_lock(&fleet->shared.lock);
    if (fleet->shared.exit_code == BENCH_OK) {
        fleet->shared.exit_code = exit_code;
        (void) vsnprintf(fleet->shared.failure, sizeof(fleet->shared.failure), fmt, args);
    }
    pthread_mutex_unlock(&fleet->shared.lock);
    va_end(args);
}

void fleet_failure(struct fleet *fleet, char *to, size_t size, int *ret_exit)
{
    pthread_mutex_lock(&fleet->shared.lock);
    *ret_exit = fleet->shared.exit_code;
    snprintf(to, size, "%s", fleet->shared.failure);
    pthread_mutex_unlock(&fleet->shared.lock);
}

enum fleet_stage fleet_stage(const struct fleet *fleet)
{
    return (enum fleet_stage) atomic_load_explicit(&fleet->shared.stage, memory_order_relaxed);
}

void fleet_set_stage(struct fleet *fleet, enum fleet_stage stage)
{
    atomic_store(&fleet->shared.stage, (int) stage);
}

void fleet_set_measuring(struct fleet *fleet, bool is_measuring)
{
    atomic_store(&fleet->shared.is_measuring, is_measuring);
}

size_t fleet_n_parts(const struct fleet *fleet)
{
    return fleet->n_parts;
}

const struct fleet_counters *fleet_counters(const struct fleet *fleet, size_t part)
{
    ensure(part < fleet->n_parts);
    return &fleet->parts[part].counters;
}

struct fleet_look fleet_look(struct fleet *fleet)
{
    struct fleet_look look = { 0 };

    for (uint32_t i = 0; i < fleet->n_parts; i++) {
        const struct fleet_counters *counters = &fleet->parts[i].counters;

        look.acknowledged += atomic_load(&counters->acknowledged);
        look.acknowledged_bytes += atomic_load(&counters->acknowledged_bytes);
        look.sent_blocks += atomic_load(&counters->sent_blocks);
        look.n_streaming += atomic_load(&counters->n_streaming);
        look.n_done += atomic_load(&counters->n_done);
        look.n_used_up += atomic_load(&counters->n_used_up);
    }
    pthread_mutex_lock(&fleet->shared.lock);
    look.has_failed = fleet->shared.exit_code != BENCH_OK;
    pthread_mutex_unlock(&fleet->shared.lock);
    return look;
}

/* Agent i is in part i % n_parts. */
struct fleet_agent_result fleet_result(const struct fleet *fleet, uint32_t agent)
{
    const struct bench_agent *at =
        &fleet->parts[agent % fleet->n_parts].agents[agent / fleet->n_parts];

    ensure(!fleet->parts[agent % fleet->n_parts].is_running);
    return (struct fleet_agent_result){ .acknowledged = at->acknowledged, .sent = at->sent };
}

static struct bench_agent *agent_of(struct fleet *fleet, uint32_t agent)
{
    return &fleet->parts[agent % fleet->n_parts].agents[agent / fleet->n_parts];
}

int64_t fleet_expect_end(struct fleet *fleet, uint32_t agent)
{
    const int64_t now_us = clock_mono().us;

    atomic_store(&agent_of(fleet, agent)->end.expected_us, now_us);
    return now_us;
}

struct fleet_end fleet_end(struct fleet *fleet, uint32_t agent)
{
    struct bench_agent *at = agent_of(fleet, agent);

    return (struct fleet_end){ .ended_us = atomic_load(&at->end.at_us),
                               .last_ack_us = atomic_load(&at->end.last_ack_us),
                               .n_late_acks = atomic_load(&at->end.n_late_acks),
                               .late_batches = atomic_load(&at->end.late_batches),
                               .forbidden_batches = atomic_load(&at->end.forbidden_batches) };
}

/* ---- one part, on its thread ---- */

/* This thread's share of the rate, by the clock. */
static void send_paced(struct part *part)
{
    const struct fleet *fleet = part->fleet;
    const double per_s =
        (double) fleet->options.rate * part->n_agents /
        ((double) fleet->load->n_agents * fleet->load->n_series * fleet->load->batch_scrapes);
    const int64_t now_us = clock_mono().us;
    uint64_t n_due, n_debt;
    uint32_t n_refused = 0;

    if (part->paced_from_us == 0)
        part->paced_from_us = now_us;
    n_due = (uint64_t) ((double) (now_us - part->paced_from_us) * per_s / 1e6);
    n_debt = (uint64_t) ((double) MAX_DEBT_US * per_s / 1e6) + 1;
    while (part->n_paced < n_due && n_refused < part->n_agents) {
        if (agent_send_new(&part->agents[part->next])) {
            part->n_paced++;
            n_refused = 0;
        } else {
            n_refused++;
        }
        part->next = (part->next + 1) % part->n_agents;
    }
    if (part->n_paced + n_debt < n_due)
        part->n_paced = n_due - n_debt;
}

static void end_waits(struct bench_agent *agent)
{
    /* Nothing of it is under way: no need to come back. */
    if ((agent->state == AGENT_WAITING || agent->state == AGENT_IDLE) &&
        agent->acknowledged == agent->sent)
        agent_finish(agent);
}

static void on_tick(struct loop_timer *timer)
{
    struct part *part = timer->ctx;
    const enum fleet_stage stage = fleet_stage(part->fleet);
    const bool is_paced = part->fleet->options.rate > 0 && stage == FLEET_LOAD;

    for (uint32_t i = 0; i < part->n_agents; i++) {
        struct bench_agent *agent = &part->agents[i];

        if (stage == FLEET_ABORT && agent->state != AGENT_DONE)
            agent_finish(agent);
        if (stage == FLEET_FINISH)
            end_waits(agent);
        if (agent->state == AGENT_IDLE && part->n_opening < MAX_OPENING)
            agent_connect(agent);
        if (!is_paced && agent->state == AGENT_STREAMING)
            agent_advance(agent);
    }
    if (is_paced)
        send_paced(part);
    if (atomic_load(&part->counters.n_done) == part->n_agents ||
        loop_timer_arm_in(part->loop, &part->tick, is_paced ? PACED_TICK_US : TICK_US) < 0)
        loop_stop(part->loop);
}

static int part_open(struct part *part, uint32_t number)
{
    int r = loop_new(&part->loop);

    if (r == 0)
        r = rpc_queue_new(&part->queue, part->loop);
    for (uint32_t i = 0; i < part->n_agents && r == 0; i++)
        r = agent_init(&part->agents[i], part, i * part->fleet->n_parts + number);
    if (r == 0)
        r = loop_timer_arm_in(part->loop, &part->tick, 0);
    return pass(r);
}

static void part_close(struct part *part)
{
    for (uint32_t i = 0; i < part->n_agents && part->queue; i++)
        agent_deinit(&part->agents[i]);
    part->queue = rpc_queue_free(part->queue);
    if (part->loop)
        loop_timer_disarm(part->loop, &part->tick);
    part->loop = loop_free(part->loop);
}

static void *part_run(void *ctx)
{
    struct part *part = ctx;
    struct rand rand;
    int r;

    rand_init_from_system(&rand);
    part->rand = &rand;
    r = part_open(part, (uint32_t) (part - part->fleet->parts));
    if (r == 0)
        r = loop_run(part->loop);
    if (r < 0)
        fleet_fail(part->fleet, BENCH_FAILED, "the agents could not go on; the reason is above");
    part_close(part);
    atomic_store(&part->counters.n_done, part->n_agents);
    return NULL;
}

/* ---- life ---- */

static int part_start(struct fleet *fleet, uint32_t number)
{
    struct part *part = &fleet->parts[number];
    const uint32_t n_agents = fleet->load->n_agents;

    part->fleet = fleet;
    part->tick = (struct loop_timer){ .fn = on_tick, .ctx = part };
    part->n_agents = (n_agents + fleet->n_parts - 1 - number) / fleet->n_parts;
    part->agents = calloc(part->n_agents, sizeof(*part->agents));
    if (!part->agents)
        return fault(-ENOMEM, "no memory for agents");
    arena_init(&part->arena, 0);
    if (pthread_create(&part->thread, NULL, part_run, part))
        return fault(-EAGAIN, "cannot start a thread");
    part->is_running = true;
    return 0;
}

int fleet_start(struct fleet **ret, const struct fleet_options *options, const struct load *load)
{
    CLEANUP(fleet_freep) struct fleet *fleet = calloc(1, sizeof(*fleet));
    int r = 0;

    if (!fleet)
        return fault(-ENOMEM, "no memory for a fleet");
    ensure(options->n_threads > 0 && options->n_threads <= load->n_agents && options->window > 0);
    fleet->options = *options;
    fleet->load = load;
    pthread_mutex_init(&fleet->shared.lock, NULL);
    fleet->parts = calloc(options->n_threads, sizeof(*fleet->parts));
    if (!fleet->parts)
        return fault(-ENOMEM, "no memory for a fleet");
    fleet->n_parts = options->n_threads;
    for (uint32_t i = 0; i < fleet->n_parts && r == 0; i++)
        r = part_start(fleet, i);
    if (r < 0)
        return pass(r);
    *ret = take(fleet);
    return 0;
}

void fleet_join(struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->n_parts; i++) {
        struct part *part = &fleet->parts[i];

        if (part->is_running)
            pthread_join(part->thread, NULL);
        part->is_running = false;
    }
}

struct fleet *fleet_free(struct fleet *fleet)
{
    if (!fleet)
        return NULL;
    fleet_set_stage(fleet, FLEET_ABORT);
    fleet_join(fleet);
    for (uint32_t i = 0; i < fleet->n_parts; i++) {
        arena_deinit(&fleet->parts[i].arena);
        buf_deinit(&fleet->parts[i].out);
        lines_block_deinit(&fleet->parts[i].block);
        free(fleet->parts[i].agents);
    }
    free(fleet->parts);
    pthread_mutex_destroy(&fleet->shared.lock);
    free(fleet);
    return NULL;
}
