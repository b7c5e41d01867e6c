#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Heads of logs: where the packs of one agent stand in the journal, in its order. Not the records:
 * who reads them takes those from the journal's mapped pages. 48 bytes for each pack, which has at
 * least twice as many in the journal.
 *
 * Thread: the owner's lock (struct agent).
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"

struct format_pack;

struct log_pack {
    int64_t first_us, last_us; /* least and greatest time, of one day */
    uint64_t source;           /* its hash */
    uint64_t chunk;
    uint32_t segment; /* its number */
    uint32_t offset;  /* of the PACK record in its chunk */
    uint32_t n_records, n_raw_bytes;
};

static_assert(sizeof(struct log_pack) == 48, "memory of a pack");

struct log_heads {
    struct log_pack *packs;
    size_t n_packs, capacity;
    uint64_t n_raw_bytes; /* of all */
    int64_t since_us;     /* monotonic: when the oldest pack of now came; 0: there is none */
    uint64_t seal;        /* blocks with a higher number are still packs here */
    uint32_t n_readers;   /* under way: no block of the agent may be compacted */
};

void log_heads_deinit(struct log_heads *heads);

/* Behind all others. Faults: no memory. */
int log_heads_add(struct log_heads *heads, const struct log_pack *pack) MUST_USE;

/*
 * Takes out the packs of a day up to a place, its own included: they are sealed, or gone. dropped()
 * hears of each. Memory above what is needed is given back.
 */
void log_heads_drop(struct log_heads *heads,
                    int32_t day,
                    const struct log_pack *up_to,
                    void (*dropped)(void *ctx, const struct log_pack *pack),
                    void *ctx);
/* All there are. */
void log_heads_drop_all(struct log_heads *heads,
                        void (*dropped)(void *ctx, const struct log_pack *pack),
                        void *ctx);
