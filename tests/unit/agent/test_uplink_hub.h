#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A hub for the uplink's tests: StreamMetrics over mutual TLS on 127.0.0.1, with the sequence and
 * CRC rules of the real one, for one run at a time, in memory. What it counts may be read while the
 * loop of the test runs.
 */

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>

#include "agent/spool/spool.h"
#include "agent/uplink/uplink.h"
#include "common/base/clock.h"
#include "common/logblock/logblock.h"
#include "common/loop/loop.h"
#include "common/rpc/server/server.h"
#include "common/wire/wire.h"

#define HUB_WINDOW 8

struct hub {
    struct rpc_server *server;
    struct rpc_credentials *credentials;
    uint16_t port;
    char directory[64], target[32];
    struct loop *loop;
    struct collect_host host;
    struct uplink_options options;
    struct spool_layout *layout; /* of one series */

    pthread_mutex_t lock; /* of `spool_id` and `call` */
    uint8_t spool_id[16];
    struct rpc_call *call; /* the open stream; referenced */
    atomic_uint_least64_t last;
    atomic_uint crc32c;
    atomic_bool is_silent, is_refusing, is_drained, has_throttled;
    _Atomic double refused_value;         /* a batch with it is answered with BAD_BATCH; 0: none */
    atomic_uint n_lines, n_refused_lines; /* of logs */
    atomic_uint_least64_t logs_last;
    atomic_uint log_block_version, message_bytes; /* as the welcome says */
    atomic_uint n_blocks;                         /* batches of logs that came as one */
    atomic_bool is_refusing_blocks;               /* all of them */
    atomic_uint n_refused_blocks;
    atomic_uint lines_crc32c;  /* hub_add_line() of all that were taken */
    atomic_bool tells_nothing; /* of that: an older hub */
    atomic_uint oldest_s; /* what is older is refused, and the welcome says so; 0: all is taken */
    atomic_int_least64_t ahead_us; /* its clock */
    atomic_uint n_messages,
        n_refused_times; /* batches and skips that came; refused for their age */
    atomic_uint_least64_t n_skipped_records;
    atomic_uint agent_series;         /* of one stream: as a hub bounds it; 0: all is taken */
    atomic_uint n_crowded, n_streams; /* refused for that; hellos that came */
    struct {                          /* what the open stream declared */
        size_t n_series, n_layouts, n_members;
    } told;
    atomic_uint n_stored, n_doubles, n_skipped, n_forked, n_declared;
};

void hub_start(struct hub *hub);
void hub_stop(struct hub *hub);
/* On the same port, with what it had. */
void hub_restart(struct hub *hub);
/* Stores without acknowledging; the last one is acknowledged when that ends. */
void hub_set_silent(struct hub *hub, bool is_silent);
void hub_throttle(struct hub *hub, uint32_t retry_after_ms);
/* Its last batch becomes another one. */
void hub_forge(struct hub *hub);

#define HOUR_US INT64_C(3600000000)

/* ---- test_uplink_alone.c ---- */
TCase *case_uplink_policy(void);
TCase *case_uplink_encoding(void);
/* ---- test_uplink_blocks.c ---- */
TCase *case_uplink_blocks(void);

/* All that a record of logs has, whichever way it came. */
uint32_t hub_add_line(uint32_t crc, const struct spool_log_record *record);
/* As a hub does, or the test fails; the arena is begun here. */
void hub_read_block(struct span block, struct arena *arena, struct logblock_sent *ret);
#define HUB_ATTRIBUTES 4 /* of a record, at most */
void hub_line_of_block(const struct logblock_record *from,
                       struct spool_log_attribute room[static HUB_ATTRIBUTES],
                       struct spool_log_record *ret);
void hub_line_of_wire(const struct wire_log_record *from,
                      struct spool_log_attribute room[static HUB_ATTRIBUTES],
                      struct spool_log_record *ret);

void hub_start_rpc(void);
/* In memory. */
void hub_open_spool(struct spool **ret);
/* One batch of logs, at most 16 lines. */
void hub_put_lines(struct uplink *uplink, const char *const *bodies, size_t n);
void hub_put_records(struct uplink *uplink, const struct spool_log_record *records, size_t n);
struct uplink *hub_uplink(struct hub *hub, struct spool *spool);
struct spool_layout *hub_layout(uint32_t n_series);

/* Runs the loop until the condition holds; the test fails after 30 s. */
#define hub_until(hub, cond)                                           \
    do {                                                               \
        int64_t until_ = clock_mono().us + 30000000;                   \
        while (!(cond)) {                                              \
            ck_assert_msg(clock_mono().us < until_, "waited: " #cond); \
            ck_assert_int_ge(loop_run_once((hub)->loop, 5), 0);        \
        }                                                              \
    } while (0)
