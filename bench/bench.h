#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sentinel-bench: a load as many agents make it, and an oracle for what the hub keeps of it. A gRPC
 * client like any other; it knows nothing of the server's insides and drives sentinel-hub as a
 * program.
 *
 * Files: main.c commands, bench_<command>.c each of them. `metrics`: options.c its command line,
 * report.c what it prints, fleet.c threads, agent.c one agent's stream, verify.c the oracle.
 * `logs`, `search`: fill.c. `record`: workload.c, gather.c. What is sent (pure): load.c,
 * load_series.c, lines.c, replay.c, tracks.c; data.c reads a recording. hub.c a hub of our own and
 * identities, process.c programs, ask.c questions of an operator, stats.c histogram and /proc,
 * print.c.
 *
 * Threads: main, which measures; and one loop for each part of the fleet. What they share is atomic
 * and named so below.
 *
 * Exit codes: 0 ok, 1 failure (also a hub that did not keep what it acknowledged), 2 usage, 5 the
 * hub is not there.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "bench/load.h"
#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/json/json.h"

enum bench_exit { BENCH_OK = 0, BENCH_FAILED = 1, BENCH_USAGE = 2, BENCH_UNAVAILABLE = 5 };

/* Prints "sentinel-bench: ..." on stderr and returns `code`. */
int bench_say(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* SIGINT, SIGTERM or SIGHUP came: they are blocked, and stay pending. */
bool bench_is_interrupted(void);

/* To as many descriptors as may be, which it returns; programs that we start have them too. */
uint64_t bench_raise_descriptors(void);

int cmd_metrics(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_search(int argc, char **argv);
int cmd_query(int argc, char **argv);
int cmd_idle(int argc, char **argv);
int cmd_handshakes(int argc, char **argv);
int cmd_bulk(int argc, char **argv);
int cmd_record(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_export_logs(int argc, char **argv);
int cmd_identities(int argc, char **argv);
int cmd_enroll(int argc, char **argv);
int cmd_revoke(int argc, char **argv);

/* ---- data.c: a recording, from its file ---- */

struct data {
    struct replay replay;
    struct tracks tracks;
};
/* `path` NULL: there is none. Returns an exit code; data_deinit() in any case. */
int data_load(struct data *data, const char *path);
void data_deinit(struct data *data);

/* ---- stats.c ---- */

/*
 * Durations in microseconds, log-linear: 64 buckets for each power of two, so a value is known
 * to 1.6 %. One thread adds; any other may read meanwhile.
 */
#define HISTOGRAM_BUCKETS 2304u
struct histogram {
    _Atomic(uint64_t) counts[HISTOGRAM_BUCKETS];
    _Atomic(uint64_t) max_us;
};
void histogram_add(struct histogram *histogram, int64_t us, uint64_t n);
void histogram_merge(struct histogram *to, const struct histogram *from);
uint64_t histogram_count(const struct histogram *histogram);
/* The value that a share of all (0 .. 1) does not exceed; 0 when there is none. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);
uint64_t histogram_max(const struct histogram *histogram);

/* Of n > 0 numbers, which are put in order. */
double stats_median(double *numbers, size_t n);

/* User and system time of a process so far; -1 when there is no such process. */
int64_t stats_cpu_us(pid_t pid);
/* Its resident bytes; 0 when there is no such process. */
uint64_t stats_resident_bytes(pid_t pid);
/* What the files below a directory take on the disk. */
uint64_t stats_disk_bytes(const char *directory);

/* ---- hub.c: programs that we start ---- */

struct bench_hub {
    pid_t pid;      /* 0: none runs */
    char home[512]; /* the temporary directory, or empty */
    char program[512];
    char address[300]; /* HOST:PORT */
    char identities[600], operator_identity[600];
    unsigned n_runs;
    bool is_insecure;
};

struct bench_hub_options {
    const char *parent_directory; /* NULL: $TMPDIR, else /tmp */
    uint32_t n_identities;        /* of agents: bench-0 .. */
    bool is_insecure;             /* plaintext, and no identities */
};

/* $SENTINEL_HUB_PROGRAM, else beside this program in the build tree or its directory, else on PATH.
 * Returns an exit code. */
int hub_find_program(char *to, size_t size);
/* Makes the directory, the database, identities, and runs it. Returns an exit code; hub_stop() in
 * any case. */
int hub_start(struct bench_hub *hub, const struct bench_hub_options *options);
/* SIGKILL, and again at the same address; ret_us: from the start of the new process until it says
 * that it serves, to 5 ms. Returns an exit code. */
int hub_restart(struct bench_hub *hub, int64_t *ret_us);
/* Stops it and removes everything. */
void hub_stop(struct bench_hub *hub);
/* OUT/bench-0 .. bench-(N-1); those that are there stay. Returns an exit code. */
int hub_issue_identities(const char *program,
                         const char *state,
                         const char *out,
                         uint32_t n_agents);

/* ---- fleet.c and agent.c ---- */

enum fleet_stage {
    FLEET_CONNECT, /* every agent connects; nothing is sent yet */
    FLEET_LOAD,
    FLEET_FINISH, /* nothing new; what is under way is acknowledged, then each stream ends */
    FLEET_ABORT,
};

struct fleet_options {
    const char *target;      /* HOST:PORT */
    const char *server_name; /* NULL: the target's host */
    const char *identities;  /* a directory with bench-0 ..; NULL: plaintext */
    uint32_t n_identities;   /* agent i is bench-(i modulo this) */
    uint32_t n_threads, window;
    uint64_t rate;        /* samples per second of all; 0: as fast as acks allow */
    int64_t last_time_us; /* no scrape beyond */
    bool reconnects;
    bool sends_records;   /* lines as records, though the hub would take blocks */
    bool is_revoked_from; /* agents lose their certificates: a stream that ends for it is no failure
                           */
};

/* What one thread's agents did. Written by it, read by any. */
struct fleet_counters {
    _Atomic(uint64_t) acknowledged;       /* batches */
    _Atomic(uint64_t) acknowledged_bytes; /* of the logs in them */
    _Atomic(uint64_t) sent,
        sent_bytes; /* messages with batches, again counted when they are sent again */
    _Atomic(uint64_t) sent_blocks; /* of those, with a block of lines */
    _Atomic(uint64_t) refused, reconnects, throttles, lost;
    _Atomic(uint32_t) n_streaming, n_done, n_used_up;
    struct histogram ack_us; /* while measuring */
};

struct fleet;

/* Of an agent whose certificate is taken away while it streams. Thread: any. */
struct fleet_end {
    int64_t ended_us;                   /* when its stream had ended; 0: it goes on */
    int64_t last_ack_us;                /* when the last ack was read; 0: never */
    uint64_t n_late_acks, late_batches; /* read after fleet_expect_end(), and what they covered */
    uint64_t forbidden_batches;         /* of these, what was sent after it too */
};
/* From now on the end of its stream is no failure, and acks are counted. Returns when that is, on
 * the monotonic clock. */
int64_t fleet_expect_end(struct fleet *fleet, uint32_t agent);
struct fleet_end fleet_end(struct fleet *fleet, uint32_t agent);

/* How far an agent came; after fleet_join(). */
struct fleet_agent_result {
    uint64_t acknowledged, sent; /* sequences */
};

int fleet_start(struct fleet **ret,
                const struct fleet_options *options,
                const struct load *load) MUST_USE;
void fleet_set_stage(struct fleet *fleet, enum fleet_stage stage);
void fleet_set_measuring(struct fleet *fleet, bool is_measuring);
size_t fleet_n_parts(const struct fleet *fleet);
const struct fleet_counters *fleet_counters(const struct fleet *fleet, size_t part);
/* Of all parts. */
struct fleet_look {
    uint64_t acknowledged, acknowledged_bytes; /* batches, and of the logs in them */
    uint64_t sent_blocks;
    uint32_t n_streaming, n_done, n_used_up;
    bool has_failed;
};
struct fleet_look fleet_look(struct fleet *fleet);
/* The first failure that agents cannot get over, or an empty text; *ret_exit is what to exit with.
 * Thread: any. */
void fleet_failure(struct fleet *fleet, char *to, size_t size, int *ret_exit);
/* Waits for the threads; after FLEET_FINISH or FLEET_ABORT. */
void fleet_join(struct fleet *fleet);
struct fleet_agent_result fleet_result(const struct fleet *fleet, uint32_t agent);
struct fleet *fleet_free(struct fleet *fleet);
DEFINE_CLEANUP(struct fleet *, fleet_free);

/* ---- ask.c: an operator's questions. Thread: main ---- */

struct ask;
/* `identity` NULL: plaintext. */
int ask_open(struct ask **ret,
             const char *target,
             const char *server_name,
             const char *identity) MUST_USE;
struct ask *ask_close(struct ask *ask);
DEFINE_CLEANUP(struct ask *, ask_close);

struct ask_status {
    int64_t cpu_us;
    uint64_t resident_bytes, database_bytes;
};
/* Returns an exit code; what is wrong is said when it is not BENCH_OK. */
int ask_status(struct ask *ask, struct ask_status *ret);

/* One metric of one agent, or of all, in this run. Names and numbers are those of QueryMetrics. */
#define ASK_ALL_AGENTS UINT32_MAX
enum ask_how { ASK_AVG = 1, ASK_SUM = 4, ASK_COUNT = 5, ASK_LAST = 6 };
struct ask_points {
    const struct load *load;
    uint32_t agent;
    uint32_t group;
    int64_t item; /* this series alone; -1: the sum over all of the group */
    int64_t from_us, to_us, step_us;
    enum ask_how how;
    void (*on_point)(void *ctx,
                     int64_t time_us,
                     double value); /* for each step that has something */
    void *ctx;
};
/* Returns an exit code. */
int ask_points(struct ask *ask, const struct ask_points *question);

/* ---- verify.c ---- */

struct verify_result {
    uint64_t missing; /* acknowledged samples that are not there */
    uint64_t doubled; /* there more than once */
    uint64_t wrong;   /* there with another value */
    uint64_t unsent;  /* there and never sent */
};
/* Compares what the hub has of every agent with what was acknowledged. Returns an exit code: of
 * asking, not of the result. */
int verify_run(struct ask *ask,
               const struct load *load,
               const struct fleet *fleet,
               struct verify_result *ret);
