#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From what the spool holds to StreamMetricsRequest and StreamLogsRequest, which have hello and
 * skip under the same numbers, and from StreamMetricsResponse to what the stream does with it.
 * Private to agent/uplink.
 *
 * Ids in a stream are the process' own of series and layouts: an encoder knows which of them this
 * stream has heard of.
 */

#include "agent/uplink/policy.h"
#include "common/base/arena.h"
#include "common/logblock/logblock.h"

struct encoder_ids {
    uint64_t *words;
    size_t n_words;
};

/* The zero value is one for a new stream. */
struct encoder {
    struct encoder_ids series;
    struct encoder_ids layouts;
    uint64_t n_series, n_layouts; /* that were declared */
    uint64_t n_members;           /* of all these layouts */
    size_t n_last_series;         /* of the last of them */
};

void encoder_deinit(struct encoder *encoder);
/* A new stream: it has heard of nothing. */
void encoder_reset(struct encoder *encoder);

/* Appends the request for a batch or a skip, with what it has to declare. */
int encoder_put(struct encoder *encoder,
                enum spool_signal signal,
                const struct spool_item *item,
                const struct uplink_clock *clock,
                struct buf *to) MUST_USE;
/* The newest time in a batch, as it would be sent now. */
int64_t encoder_newest_us(enum spool_signal signal,
                          const struct spool_item *item,
                          const struct uplink_clock *clock);
/* It was given to the transport: what it declared is declared. */
int encoder_commit(struct encoder *encoder,
                   enum spool_signal signal,
                   const struct spool_item *item) MUST_USE;
/* What a stream has heard of both ends keep until its end, and the hub takes so much and no more:
 * it is to be a new one. */
bool encoder_is_full(const struct encoder *encoder);
/* Whether the hub, by its agent_series (0: not said), takes what the batch has to declare; false: a
 * new stream has to come first. A stream that heard of nothing has room: there is no better one. */
bool encoder_has_room(const struct encoder *encoder,
                      enum spool_signal signal,
                      const struct spool_item *item,
                      uint32_t agent_series);
/* Of logs, which protobuf-c would cut at a NUL. Private to the encoder. */
int64_t encoder_newest_log_us(const struct spool_item *item, int64_t offset_us);
void encoder_put_logs(const struct spool_item *item, int64_t offset_us, struct buf *to);

enum encoder_outcome {
    ENCODER_OK = 0,
    ENCODER_UNFIT, /* it goes as records: nothing was appended */
};

/* What blocks of logs are made with, by any number of streams. The zero value has nothing yet. */
struct encoder_blocks {
    struct logblock_work *work;
    struct logblock_record *records;
    struct logblock_attribute *attributes;
    size_t n_records, n_attributes; /* that there is room for */
    struct buf block;
};
/* To nothing again; after a batch that is larger than most it goes there by itself. */
void encoder_blocks_deinit(struct encoder_blocks *blocks);
/*
 * Appends the request for a batch of logs with a block in place of its records, as a hub takes it
 * whose welcome has LOGBLOCK_VERSION and these message_bytes (0: not said). Outcomes:
 * ENCODER_UNFIT (too small to be worth it, or too large; a record that blocks cannot hold; a skip).
 */
int encoder_put_block(struct encoder_blocks *blocks,
                      const struct spool_item *item,
                      uint32_t message_bytes,
                      const struct uplink_clock *clock,
                      struct buf *to) MUST_USE;

struct encoder_hello {
    struct spool_run run;
    const uint8_t *instance; /* 16 bytes */
    const struct collect_host *host;
    wall_us time;
    uint32_t interval_ms;
    uint64_t generation; /* of the registry, the highest seen */
    enum spool_lane lane;
    bool is_probe; /* lane unspecified */
};
int encoder_put_hello(const struct encoder_hello *from, struct buf *to) MUST_USE;

enum encoder_message { ENCODER_WELCOME, ENCODER_ACK, ENCODER_THROTTLE, ENCODER_OTHER };
struct encoder_response {
    enum encoder_message kind;
    uint64_t sequence;               /* ack: up to here; welcome: resume after */
    uint32_t unacknowledged_batches; /* welcome; 0: no limit */
    uint32_t interval_ms, spread_ms;
    uint32_t log_body_bytes;    /* welcome; 0: not said */
    uint32_t log_block_version; /* welcome; 0: it takes records only */
    uint32_t message_bytes;     /* welcome; 0: not said */
    uint64_t oldest_s;          /* welcome: what is older is refused; 0: not said */
    uint32_t agent_series;      /* welcome: see encoder_has_room(); 0: not said */
    int64_t hub_us;
    uint64_t lost_first, lost_last;
    uint32_t retry_after_ms;
    struct keeper_welcome hub; /* welcome: what the identity's keeper wants to know */
    const char *text; /* welcome: the hub's version; throttle: the reason; lives in the arena */
};
/* Outcomes: those of wire_unpack(). */
int encoder_read(struct span message,
                 struct arena *arena,
                 struct encoder_response *ret,
                 struct wire_problem *ret_problem) MUST_USE;
