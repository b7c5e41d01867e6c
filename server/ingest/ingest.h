#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ingest: from a decoded message of an agent's stream to an acknowledged batch on disk.
 *
 * A stream is one StreamMetrics or StreamLogs call. That of metrics maps the stream's own series
 * and layout ids to hub-wide ones, checks every rule of design/wire.md, and hands batches to the
 * store. A batch is taken whole or refused whole: nothing of a refused batch is stored, and its
 * declarations do not count.
 *
 * How a front drives it, all on the call's thread:
 *
 *     ingest_stream_open(hello) -> welcome
 *     ingest_stream_batch() -> INGEST_OK: read on | INGEST_WAIT: do not read; give the same batch
 * again after an INGEST_READY wake (any thread) -> the front gets itself onto the call's thread and
 * drains ingest_stream_next(): INGEST_ACK n       send Ack INGEST_READY       the store can go on:
 * give the waiting batch again, or read on INGEST_END outcome finish the call with that outcome
 * (all acks before it have been handed out)
 *
 * Taking over: a newer stream of the same (agent, signal, spool) ends the older with
 * INGEST_TAKEN_OVER. Of one agent INGEST_STREAMS_PER_AGENT streams with different spools may be
 * open, as what a stream declares takes memory.
 *
 * Thread: a stream belongs to its call's thread; ingest as a whole may be used from any.
 * Start here: server/front/stream.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"
#include "server/ingest/ingest_inventory.h"
#include "server/store/store.h"

struct ingest;
struct ingest_stream;

#define INGEST_STREAMS_PER_AGENT 100

enum ingest_outcome {
    INGEST_OK = 0,
    INGEST_WAIT,
    INGEST_BAD_HELLO,  /* the problem names the field */
    INGEST_FORKED,     /* the agent's run does not continue ours: SPOOL_FORKED */
    INGEST_TAKEN_OVER, /* a newer stream has this spool: SPOOL_TAKEN_OVER */
    INGEST_GAP,        /* a sequence above the next one */
    INGEST_BAD_BATCH,  /* a rule is broken; the problem names field, limit and remedy */
    INGEST_TIME_OUT_OF_RANGE,
    INGEST_LIMIT, /* a hard limit (series per agent, samples per batch ...); the problem names it in
                     quota */
    INGEST_FULL,  /* disk or map full: RESOURCE_EXHAUSTED + RetryInfo */
    INGEST_STOPPED, /* the hub stops or the store failed: UNAVAILABLE + RetryInfo */
    INGEST_CLONED,  /* another machine's fingerprint while one is live: AGENT_ID_CLONED */
    INGEST_FAULT,   /* ours; the reason is in the log */
    /* Of inventories alone. */
    INGEST_BAD_INVENTORY, /* a rule is broken; the problem names field, limit and remedy */
    INGEST_LACKS,         /* the hub lacks contents that the header names */
    INGEST_BUSY,          /* too much is received at the same time; try again */
};

struct ingest_problem {
    char field[192]; /* "batch.scrapes[2].values" */
    char description[320];
    const char *quota; /* the limit's name, for INGEST_LIMIT */
};

struct ingest_limits {
    uint32_t batch_samples;    /* 65,536 */
    uint32_t batch_new_series; /* 4,096 */
    uint32_t agent_series; /* 100,000; counted in each stream: what it has declared. Layouts too;
                              members of layouts 16 x */
    uint32_t name_bytes;   /* of a metric or an attribute's key: 255 */
    uint32_t series_attributes;      /* 32 */
    uint32_t attribute_bytes;        /* of a value: 1,024 */
    uint32_t unacknowledged_batches; /* of one stream; above it INGEST_WAIT. 1,024; 0: no limit */
    uint32_t batch_log_records;      /* 65,536 */
    uint32_t log_body_bytes;         /* of one record: 256 KiB */
    uint32_t log_attributes;         /* of one record, and of a source: 32 */
    int64_t retention_us;            /* older samples are refused; 30 days */
    int64_t logs_retention_us;       /* older records are refused; 30 days */
    int64_t future_us;               /* 1 h */
    struct ingest_inventory_limits inventory;
};
void ingest_default_limits(struct ingest_limits *ret);

int ingest_new(struct ingest **ret,
               struct store *store,
               const struct ingest_limits *limits) MUST_USE;
/* Every stream must be closed; batches may still be under way. */
struct ingest *ingest_free(struct ingest *ingest);
DEFINE_CLEANUP(struct ingest *, ingest_free);
/* The instance of the newest open stream of an agent; false: it has none. Thread: any. */
bool ingest_get_instance(struct ingest *ingest, uint32_t agent, uint8_t ret[16]);
/* New ones count from now on. */
void ingest_set_limits(struct ingest *ingest, const struct ingest_limits *limits);
void ingest_get_limits(struct ingest *ingest, struct ingest_limits *ret);

struct ingest_fingerprint {
    struct span machine_id, dmi, boot_disk, first_mac; /* empty: the machine has none */
};

struct ingest_hello {
    uint32_t agent; /* the store's number */
    enum store_signal signal;
    struct span spool_id; /* must be 16 bytes */
    uint64_t first_sequence, last_sequence;
    uint32_t crc32c_before_first;
    struct span instance; /* must be 16 bytes */
    struct ingest_fingerprint fingerprint;
    /* Who keeps identities has decided that this is the machine: streams of another one end with
     * INGEST_CLONED. Without, the machine that was there first stays, and this is refused. */
    bool is_vouched;
    int64_t time_us;
    const char *agent_version; /* at most 63 bytes */
    const char *address;
    uint32_t interval_ms;
    const struct store_attribute *host; /* at most 32 */
    size_t n_host;
    wall_us now;
};

struct ingest_welcome {
    uint64_t resume_after_sequence;
    uint64_t lost_first, lost_last; /* 0, 0: none */
};

/*
 *   wake   called on any thread when ingest_stream_next() has something; at most once until it was
 * drained. It may be called up to the moment ingest_stream_close() returns. Outcomes:
 * INGEST_BAD_HELLO, INGEST_FORKED, INGEST_CLONED, INGEST_LIMIT (agent_runs, agent_streams),
 * INGEST_STOPPED, INGEST_FULL; ret_problem is filled.
 */
int ingest_stream_open(struct ingest_stream **ret,
                       struct ingest *ingest,
                       const struct ingest_hello *hello,
                       void (*wake)(void *ctx),
                       void *ctx,
                       struct ingest_welcome *ret_welcome,
                       struct ingest_problem *ret_problem) MUST_USE;
/*
 * Nothing more comes from the agent. Batches under way are still stored. Never blocks; the memory
 * goes when the store has handed everything back.
 */
struct ingest_stream *ingest_stream_close(struct ingest_stream *stream);

struct ingest_series {
    uint32_t id;
    const char *name, *unit;
    int kind;                                 /* as on the wire: 1 gauge, 2 counter */
    const struct store_attribute *attributes; /* any order */
    size_t n_attributes;
};
struct ingest_layout {
    uint32_t id;
    const uint32_t *series_ids;
    size_t n_series;
};
struct ingest_scrape {
    int64_t time_us;
    uint32_t layout_id;
    const double *values;
    size_t n_values;
    const uint32_t *absent;
    size_t n_absent;
};
/* Lengths of a record's ids as they came, 255 for more. */
struct ingest_log_ids {
    uint8_t trace_id_bytes, span_id_bytes;
};
/* Texts are UTF-8, names without NUL: the decoder saw to it. Places are not looked at. */
struct ingest_logs {
    const struct logblock_source *source;
    const struct logblock_record *records;
    const struct ingest_log_ids *ids; /* beside the records; NULL: as these say */
    size_t n_records;
    const struct logblock_sent *sent; /* NULL, or the block that they came in */
};
struct ingest_batch {
    uint64_t sequence;
    uint32_t crc32c; /* what StreamHello.crc32c_before_first says, of this batch */
    bool is_skip;    /* then only through (in sequence), reason and records count */
    uint32_t skip_reason;
    uint64_t skip_records;
    const struct ingest_series *series;
    size_t n_series;
    const struct ingest_layout *layouts;
    size_t n_layouts;
    const struct ingest_scrape *scrapes;
    size_t n_scrapes;
    const struct ingest_logs *logs; /* of a stream of logs; then nothing of the above */
};
/*
 * After INGEST_WAIT the next batch given must be the same; it may lie elsewhere.
 * Outcomes: INGEST_OK (on its way), INGEST_WAIT, and every refusal; a refusal ends the stream:
 * finish the call after ingest_stream_next() has no more acks (it will hand out INGEST_END with
 * this outcome when all before is settled).
 */
int ingest_stream_batch(struct ingest_stream *stream,
                        const struct ingest_batch *batch,
                        wall_us now,
                        struct ingest_problem *ret_problem) MUST_USE;

/* After INGEST_WAIT: the store's writer is behind. It is the one wait that the agent should hear
 * of. */
bool ingest_stream_is_behind(const struct ingest_stream *stream);

/* The agent half-closed, or the hub drains: INGEST_END (INGEST_OK or INGEST_STOPPED) comes once
 * everything under way is settled. */
void ingest_stream_finish(struct ingest_stream *stream, int outcome);

enum ingest_event_type { INGEST_NOTHING = 0, INGEST_ACK, INGEST_READY, INGEST_END };
struct ingest_event {
    enum ingest_event_type type;
    uint64_t sequence; /* INGEST_ACK */
    int outcome;       /* INGEST_END */
};
/* To be called until INGEST_NOTHING: only then wake() comes again. */
void ingest_stream_next(struct ingest_stream *stream, struct ingest_event *ret);

/* For queries and status; any thread. */
bool ingest_is_connected(struct ingest *ingest, uint32_t agent);
bool ingest_run_is_connected(struct ingest *ingest,
                             uint32_t agent,
                             enum store_signal signal,
                             const uint8_t spool[STORE_SPOOL_BYTES]);
struct ingest_stats {
    uint32_t n_streams, n_agents;
    uint64_t n_refused; /* batches and hellos */
};
void ingest_get_stats(struct ingest *ingest, struct ingest_stats *ret);
