#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The link to a hub, and the streams on it. Private to agent/uplink.
 *
 *   uplink.c    the link: hubs, attempts, waits, draining
 *   stream.c    a stream: hello, batches, acknowledgements; it tells the link how it ended
 *
 * A link has one channel, and at most a LIVE and a BACKFILL stream of each signal. The LIVE stream
 * of metrics is the first: with its welcome the link stands, and its end is the end of the link,
 * but for what is about one batch or one run.
 */

#include "agent/uplink/connection.h"
#include "agent/uplink/encode.h"
#include "agent/uplink/policy.h"
#include "agent/uplink/uplink.h"
#include "common/base/rand.h"

#define LINK_WELCOME_TIMEOUT_US INT64_C(30000000)
#define LINK_LANES 2
/* Blocks of logs in a row whose records the hub takes while it refuses the blocks: from then on it
 * gets records, until the next connection. */
#define LINK_REFUSED_BLOCKS 3

struct stream {
    struct uplink *uplink;
    enum spool_signal signal;
    enum spool_lane lane;
    struct spool_reader *reader; /* NULL: closed */
    struct rpc_client_call *call;
    struct encoder encoder;
    struct buf out;         /* encoded and not taken yet, when is_pending */
    struct spool_item item; /* of `out` */
    bool is_pending, is_welcomed, is_half_closed, is_throttled, is_over;
    bool is_block; /* what is in `out` */
    /* Behind what is on its way lies a batch that is too old for the hub. */
    bool has_old;
    /* What comes next declares more than the hub takes of one stream. */
    bool is_crowded;
    uint32_t agent_series;    /* by the hub; 0: it does not say */
    bool takes_blocks;        /* large batches of logs go as blocks */
    uint64_t blocks_sent;     /* bit n % 64: batch n, which is on its way, went as a block */
    bool is_block_refused;    /* it goes as records, with what follows until that is taken */
    uint32_t message_bytes;   /* by the hub, of one; 0: it does not say */
    int64_t oldest_us;        /* what is so long ago it refuses; 0: it does not say */
    const char *local_reason; /* why we ended the call ourselves */
    uint64_t cursor;          /* sent last */
    uint64_t acknowledged;
    uint32_t window;
    unsigned n_failed; /* ends since the last acknowledgement */
    struct loop_timer again, welcome, throttle;
};

struct uplink {
    struct uplink_options options;
    char *server_name, *identity, *insecure_id;
    char **hubs; /* in order of preference */
    size_t n_hubs, at;
    struct rpc_queue *queue;
    struct rand rand;
    uint8_t instance[16];

    struct rpc_channel *channel;
    bool is_channel_lent;
    struct uplink_clock clock;
    uint64_t use; /* the keeper's number of the identity */
    struct stream streams[SPOOL_SIGNALS][LINK_LANES];
    struct uplink_bucket bandwidth, backfill;
    struct encoder_blocks blocks; /* of all streams, until `rest` */
    unsigned n_refused_blocks;    /* in a row, on this connection: see LINK_REFUSED_BLOCKS */

    unsigned n_failed;     /* rounds over all hubs since the last acknowledgement */
    size_t n_tried;        /* hubs of this round */
    int64_t hub_spread_us; /* 0: the settings' */
    int64_t prefer_us;     /* until the first hub is tried again */
    bool is_draining;
    struct loop_timer attempt, drain, reap, refill, prefer, rest;
    struct uplink_status status;
};

/* ---- stream.c ---- */

void stream_init(struct stream *stream,
                 struct uplink *uplink,
                 enum spool_signal signal,
                 enum spool_lane lane);
void stream_deinit(struct stream *stream);

enum stream_outcome {
    STREAM_OK = 0,
    STREAM_NOTHING, /* there is no run to backfill */
};
/* On the link's channel; closes what was open. Outcomes: STREAM_NOTHING. */
int stream_open(struct stream *stream) MUST_USE;
/* Not in a callback of its call. */
void stream_close(struct stream *stream);
static inline bool stream_is_open(const struct stream *stream)
{
    return stream->reader != NULL;
}
void stream_pump(struct stream *stream);
/* Its end follows, with this reason. */
void stream_give_up(struct stream *stream, const char *reason);
/* All of its run is acknowledged. */
bool stream_is_idle(const struct stream *stream);
void stream_half_close(struct stream *stream);
/* The hub refuses the first batch that is not acknowledged. True: as a block; it goes as records
 * next time, and is not to be set aside yet. */
bool stream_refuse_block(struct stream *stream);
/* To be opened anew. */
void stream_open_in(struct stream *stream, int64_t delay_us);

/* ---- uplink.c: what streams tell ---- */

void link_arm(struct uplink *uplink, struct loop_timer *timer, int64_t delay_us);
/* A block was made: when there is none for a while, the memory that it takes is given back. */
void link_keep_blocks(struct uplink *uplink);
void link_on_welcome(struct stream *stream, const struct encoder_response *welcome);
void link_on_acknowledged(struct stream *stream);
void link_on_ended(struct stream *stream, const struct wire_error *error);
/* A stream is done with what it has, or may go on. */
void link_pump(struct uplink *uplink);
/* Whether so many bytes may go now; they are counted when they may. */
bool link_take_bandwidth(struct stream *stream, size_t bytes);
