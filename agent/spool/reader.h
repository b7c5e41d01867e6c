#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A run on its way to the hub: reader.c reads it, deliver.c is about what the hub says of it.
 * Private to agent/spool.
 */

#include "agent/spool/spool_private.h"

/* Layouts that are kept: each takes 8 bytes for each of its series. */
#define READER_RECENT 2

/* An item that was handed out and is not acknowledged. */
struct sent {
    uint64_t last, records;
    int64_t time_us;
    size_t bytes;
    uint32_t crc32c;
    bool is_skip;
};

struct spool_reader {
    struct queue *queue;
    struct run *run;
    uint64_t cursor; /* handed out last */
    struct sent *sent;
    size_t sent_from, n_sent, sent_room;
    uint64_t bytes_read; /* of frames, ever */

    struct segment *at; /* NULL: none is open */
    int fd;
    uint64_t offset; /* of the next frame */
    struct buf frame;
    struct arena arena; /* of the item that was handed out last */
    /* What the segment has told so far; NULL: let go, see reader.c. */
    struct spool_series **series;
    struct spool_layout **layouts;
    size_t n_series, n_layouts;
    bool keeps_all; /* of this segment: it came back to what was let go */
    uint32_t mark;
    /* Those of the layouts that are kept: the same ids for the same series in any segment. */
    struct map known;
    struct spool_layout *recent[READER_RECENT];
    size_t next_recent;
    uint32_t last_id;
};

/* Goes on behind what is acknowledged. */
void reader_rewind(struct spool_reader *reader);
/* wire_checksum() of the item. */
uint32_t reader_checksum(enum spool_signal signal, const struct spool_item *item);
/* When it was put, by the wall's clock. */
int64_t reader_time(const struct spool_reader *reader, const struct spool_item *item);
