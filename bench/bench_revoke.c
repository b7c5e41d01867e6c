/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `revoke`. Agents stream as fast as acks allow; an operator revokes some of them, one
 * after the other. Of each: the time from the return of the call, which is after the commit, until
 * its stream has ended, and what acks were read after that return. Those may have been under way,
 * on the wire or in this program's few threads; an ack for a batch that was sent after the return
 * can not: the command fails when there is one.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentinel/admin/v1/admin.pb-c.h"

#include "bench/ask.h"
#include "bench/metrics.h"
#include "bench/print.h"
#include "bench/process.h"
#include "common/base/rand.h"
#include "common/rpc/rpc.h"

#define CHANGE_AGENT "/sentinel.admin.v1.AdminService/ChangeAgent"
#define PATIENCE_US INT64_C(600000000)
#define END_PATIENCE_US INT64_C(60000000)
#define AHEAD_US (INT64_C(14) * 24 * 3600 * 1000000) /* as far as a hub takes samples */
#define SERIES 30
#define MAX_REVOKED 90 /* an operator has 100 privileged calls a minute */

struct revoke {
    const char *agents, *revoked, *rate, *threads, *warmup, *state_dir;
    bool is_json, wants_help;
    uint64_t n_agents, n_revoked, samples_per_s, n_threads;
    int64_t warmup_us;
    struct bench_hub hub;
    struct load load;
    struct fleet *fleet;
    struct ask *ask;
    struct histogram ends_us, calls_us;
    int64_t worst_end_us, worst_ack_us; /* after the return */
    uint64_t n_late_acks, late_batches, forbidden_batches;
    double batches_per_s;
};

/* ---- the fleet ---- */

/* Returns an exit code. */
static int look_at_fleet(const struct revoke *revoke)
{
    char text[512];
    int exit_code;

    fleet_failure(revoke->fleet, text, sizeof(text), &exit_code);
    if (exit_code != BENCH_OK)
        return bench_say(exit_code, "%s", text);
    return bench_is_interrupted() ? bench_say(BENCH_FAILED, "interrupted") : BENCH_OK;
}

/* Returns an exit code. */
static int start(struct revoke *revoke)
{
    const struct fleet_options options = {
        .target = revoke->hub.address,
        .identities = revoke->hub.identities,
        .n_identities = (uint32_t) revoke->n_agents,
        .n_threads = (uint32_t) revoke->n_threads,
        .window = 4,
        .rate = revoke->samples_per_s,
        .last_time_us = clock_wall().us + AHEAD_US,
        .is_revoked_from = true,
    };
    const int64_t due_us = clock_mono().us + PATIENCE_US;
    int exit_code = BENCH_OK;
    struct rand rand;

    revoke->load = (struct load){ .n_agents = (uint32_t) revoke->n_agents,
                                  .n_series = SERIES,
                                  .batch_scrapes = 1,
                                  .interval_us = 1000000 };
    revoke->load.first_us = clock_wall().us / 1000000 * 1000000;
    rand_init_from_system(&rand);
    snprintf(revoke->load.run, sizeof(revoke->load.run), "%016" PRIx64, rand_u64(&rand));
    if (load_init(&revoke->load) < 0 ||
        ask_open(&revoke->ask, revoke->hub.address, NULL, revoke->hub.operator_identity) < 0 ||
        fleet_start(&revoke->fleet, &options, &revoke->load) < 0)
        return BENCH_FAILED;
    while (exit_code == BENCH_OK && fleet_look(revoke->fleet).n_streaming < revoke->n_agents) {
        if (clock_mono().us > due_us)
            return bench_say(BENCH_UNAVAILABLE, "only %u of the agents came about",
                             fleet_look(revoke->fleet).n_streaming);
        process_nap();
        exit_code = look_at_fleet(revoke);
    }
    return exit_code;
}

/* Returns an exit code. */
static int warm_up(struct revoke *revoke)
{
    const uint64_t before = fleet_look(revoke->fleet).acknowledged;
    const int64_t from_us = clock_mono().us;
    int exit_code = BENCH_OK;

    fleet_set_stage(revoke->fleet, FLEET_LOAD);
    while (exit_code == BENCH_OK && clock_mono().us < from_us + revoke->warmup_us) {
        process_nap();
        exit_code = look_at_fleet(revoke);
    }
    revoke->batches_per_s = (double) (fleet_look(revoke->fleet).acknowledged - before) /
                            ((double) (clock_mono().us - from_us) / 1e6);
    return exit_code;
}

/* ---- one revocation ---- */

/* Returns an exit code. */
static int revoke_one(struct revoke *revoke, uint32_t agent)
{
    Sentinel__Admin__V1__ChangeAgentRequest request =
        SENTINEL__ADMIN__V1__CHANGE_AGENT_REQUEST__INIT;
    static char reason[] = "measured";
    const int64_t from_us = clock_mono().us;
    ProtobufCMessage *answer = NULL;
    struct fleet_end end;
    char name[32];
    int64_t returned_us;
    int exit_code;

    snprintf(name, sizeof(name), "bench-%u", agent);
    request.agent_id = name;
    request.change = SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_REVOKE;
    request.reason = reason;
    exit_code = ask_call(revoke->ask, CHANGE_AGENT, &request.base, &answer);
    if (exit_code != BENCH_OK)
        return exit_code;
    returned_us = fleet_expect_end(revoke->fleet, agent);
    if (!answer)
        return bench_say(BENCH_FAILED, "the hub does not know agent %s", name);
    for (end = fleet_end(revoke->fleet, agent); end.ended_us == 0;
         end = fleet_end(revoke->fleet, agent)) {
        if (clock_mono().us > returned_us + END_PATIENCE_US)
            return bench_say(BENCH_FAILED, "the stream of %s goes on after its revocation", name);
        usleep(200);
        exit_code = look_at_fleet(revoke);
        if (exit_code != BENCH_OK)
            return exit_code;
    }
    if (end.ended_us < returned_us) /* heard before the operator did */
        end.ended_us = returned_us;
    histogram_add(&revoke->calls_us, returned_us - from_us, 1);
    histogram_add(&revoke->ends_us, end.ended_us - returned_us, 1);
    if (end.ended_us - returned_us > revoke->worst_end_us)
        revoke->worst_end_us = end.ended_us - returned_us;
    if (end.n_late_acks > 0 && end.last_ack_us - returned_us > revoke->worst_ack_us)
        revoke->worst_ack_us = end.last_ack_us - returned_us;
    revoke->n_late_acks += end.n_late_acks;
    revoke->late_batches += end.late_batches;
    revoke->forbidden_batches += end.forbidden_batches;
    return BENCH_OK;
}

/* ---- the report ---- */

static void report(const struct revoke *revoke)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;

    if (!revoke->is_json) {
        printf("%" PRIu64 " agents that stream, %" PRIu64 " of them revoked one by one\n\n",
               revoke->n_agents, revoke->n_revoked);
        print_line("batches acknowledged, of all", revoke->batches_per_s, 0, "/s");
        print_line("an operator's call p50",
                   (double) histogram_quantile(&revoke->calls_us, 0.50) / 1e3, 2, "ms");
        print_line("from its return to the stream's end p50",
                   (double) histogram_quantile(&revoke->ends_us, 0.50) / 1e3, 2, "ms");
        print_line("  the last", (double) revoke->worst_end_us / 1e3, 2, "ms");
        print_line("acks read after the return", (double) revoke->n_late_acks, 0, "");
        print_line("  for batches", (double) revoke->late_batches, 0, "");
        print_line("  the last", (double) revoke->worst_ack_us / 1e3, 2, "ms after it");
        print_line("  for batches sent after it", (double) revoke->forbidden_batches, 0, "");
        return;
    }
    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_u64(&json, "agents", revoke->n_agents);
    json_put_u64(&json, "revoked", revoke->n_revoked);
    print_json_number(&json, "batches_per_second", revoke->batches_per_s, 1);
    json_put_u64(&json, "call_p50_us", histogram_quantile(&revoke->calls_us, 0.50));
    json_put_u64(&json, "end_p50_us", histogram_quantile(&revoke->ends_us, 0.50));
    json_put_u64(&json, "end_max_us", (uint64_t) revoke->worst_end_us);
    json_put_u64(&json, "late_acks", revoke->n_late_acks);
    json_put_u64(&json, "late_batches", revoke->late_batches);
    json_put_u64(&json, "forbidden_batches", revoke->forbidden_batches);
    json_put_u64(&json, "late_ack_max_us", (uint64_t) revoke->worst_ack_us);
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

/* ---- the whole ---- */

static int run(struct revoke *revoke)
{
    int exit_code = start(revoke);

    if (exit_code == BENCH_OK)
        exit_code = warm_up(revoke);
    for (uint32_t i = 0; exit_code == BENCH_OK && i < revoke->n_revoked; i++)
        exit_code = revoke_one(revoke, i);
    if (exit_code == BENCH_OK)
        report(revoke);
    if (exit_code == BENCH_OK && revoke->forbidden_batches > 0)
        return bench_say(BENCH_FAILED,
                         "%" PRIu64 " batches were sent after a revocation and acknowledged",
                         revoke->forbidden_batches);
    return exit_code;
}

static struct revoke given = { .n_agents = 1000,
                               .n_revoked = 50,
                               .n_threads = 1,
                               .warmup_us = 5000000 };

static const struct conf_option rows[] = {
    { .flag = "--agents", .metavar = "N", .value = &given.agents, .help = "that stream; 1000" },
    { .flag = "--revoked",
      .metavar = "N",
      .value = &given.revoked,
      .help = "of them, one after the other; 50" },
    { .flag = "--rate",
      .metavar = "N",
      .value = &given.rate,
      .help = "samples per second of all; 0, the default: as fast as acks allow" },
    { .flag = "--threads", .metavar = "N", .value = &given.threads, .help = "of this program; 1" },
    { .flag = "--warmup", .metavar = "TIME", .value = &given.warmup, .help = "before it; 5s" },
    OPTIONS_OF_ALL(given),
    { .flag = NULL },
};

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv)
{
    int exit_code = options_read_flags(argc, argv, rows, &given.wants_help,
                                       "Revokes agents while they stream.\n\nExample:\n"
                                       "  sentinel-bench revoke --agents 1000\n");

    if (exit_code >= 0)
        return exit_code;
    exit_code = options_read_count("--agents", given.agents, 1, 10000, &given.n_agents);
    if (exit_code == BENCH_OK)
        exit_code =
            options_read_count("--revoked", given.revoked, 1, MAX_REVOKED, &given.n_revoked);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--rate", given.rate, 0, 100000000, &given.samples_per_s);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--threads", given.threads, 1, 256, &given.n_threads);
    if (exit_code == BENCH_OK)
        exit_code = options_read_duration("--warmup", given.warmup, 0, &given.warmup_us);
    if (given.n_threads > given.n_agents)
        given.n_threads = given.n_agents;
    if (given.n_revoked > given.n_agents)
        given.n_revoked = given.n_agents;
    return exit_code == BENCH_OK ? -1 : exit_code;
}

int cmd_revoke(int argc, char **argv)
{
    struct revoke *revoke = &given;
    bool has_rpc = false;
    int exit_code = parse(argc, argv);

    if (exit_code >= 0)
        return exit_code;
    (void) bench_raise_descriptors();
    exit_code = hub_start(
        &revoke->hub, &(struct bench_hub_options){ .parent_directory = revoke->state_dir,
                                                   .n_identities = (uint32_t) revoke->n_agents });
    if (exit_code == BENCH_OK) {
        has_rpc = rpc_init() == 0;
        exit_code = has_rpc ? run(revoke) : BENCH_FAILED;
    }
    revoke->fleet = fleet_free(revoke->fleet);
    revoke->ask = ask_close(revoke->ask);
    load_deinit(&revoke->load);
    if (has_rpc)
        rpc_deinit();
    hub_stop(&revoke->hub);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
