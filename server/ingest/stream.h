#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/ingest: what its files share.
 *
 *   ingest.c   the hub-wide registry of open streams, limits, counters
 *   stream.c   hello, events, what the writer's thread hands back
 *   batch.c    a batch against the rules, then to the store
 *   metrics.c  what is of metrics in that
 *   declare.c  series and layouts of a stream, and their hub-wide ids
 *   inventory.c  uploads of inventories, which are no streams
 *   logs.c     what is of logs
 *
 * Locks, outermost first: ingest->shared.lock, stream->shared.lock. `wake` is called with the
 * stream's lock held, so that it cannot come after ingest_stream_close().
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/arena.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "server/ingest/ingest.h"

#define INGEST_MAX_SEQUENCE (UINT64_MAX >> 1)
#define INGEST_FINGERPRINT_MAX 32
#define INGEST_UNIT_BYTES 63
#define INGEST_VERSION_BYTES 63
#define INGEST_HOST_ENTRIES 32
#define INGEST_SOURCE_TYPE_BYTES 63
#define INGEST_SOURCE_NAME_BYTES 4096 /* a path of any length that Linux takes */
#define INGEST_MEMBER_FACTOR \
    16 /* members of all layouts of a stream: at most this x agent_series */

enum ingest_source { SOURCE_MACHINE_ID, SOURCE_DMI, SOURCE_BOOT_DISK, SOURCE_FIRST_MAC, N_SOURCES };

struct ingest_machine { /* a fingerprint, copied */
    uint8_t len[N_SOURCES];
    uint8_t bytes[N_SOURCES][INGEST_FINGERPRINT_MAX];
};

#define INGEST_PACKERS 64u /* idle ones that are kept */

struct ingest {
    struct store *store;
    _Atomic uint32_t n_refs; /* the owner and each stream's memory: batches may come back late */
    _Atomic uint32_t limits_version;
    _Atomic uint32_t n_waiting;
    _Atomic uint64_t n_refused;
    struct { /* inventories that are being received */
        pthread_mutex_t lock;
        struct map uploaders; /* name -> struct uploader: agents that have an upload open */
        uint64_t n_bytes, n_begun;
    } inventories;
    struct { /* to pack logs with; one for each thread that does so */
        pthread_mutex_t lock;
        struct store_packer *idle[INGEST_PACKERS];
        size_t n_idle;
    } packers;
    struct {
        pthread_mutex_t lock;
        struct ingest_limits limits;
        struct map agents;   /* number -> struct ingest_agent */
        struct list waiting; /* streams that met a full queue of the writer */
        uint32_t n_streams;
    } shared;
};

struct ingest_agent { /* one that has a stream open */
    uint32_t number;
    struct list streams;
};

struct declared_series {
    uint32_t id;
    uint32_t definition; /* hub-wide; 0 until interned */
    uint32_t mark;       /* the newest layout that it was seen in, to find doubles */
};

struct declared_layout {
    uint32_t id;
    uint32_t n_series;
    uint32_t layout;                 /* hub-wide; 0 until interned */
    struct declared_series **series; /* only until interned */
    uint32_t *order;                 /* NULL: the store's order is ours */
};

struct layout_request {
    struct store_intern intern;
    struct ingest_stream *stream;
};

/* Declarations of the batch at hand that the store does not know yet. Its memory outlives the call
 * if it must. */
struct declaring {
    struct arena arena;
    struct ingest_stream *stream;
    struct store_intern intern;
    struct store_definition *definitions;
    struct declared_series **series;
    size_t n_series;
    struct declared_layout **layouts;
    size_t n_layouts;
    struct layout_request *requests;
    enum { DECLARE_SERIES, DECLARE_LAYOUTS } step;
    /* under stream->shared.lock */
    size_t n_outstanding;
    int result;
};

struct ingest_stream {
    /* set once */
    struct ingest *ingest;
    uint32_t agent;
    enum store_signal signal;
    uint8_t spool[STORE_SPOOL_BYTES];
    struct ingest_machine machine;
    uint8_t instance[16];
    bool is_vouched; /* for this machine, whatever others say */
    void (*wake)(void *ctx);
    void *ctx;
    _Atomic uint32_t n_refs; /* the owner, each batch and each declaration at the store */

    /* under ingest->shared.lock */
    struct list in_agent;
    struct list in_waiting;
    bool is_listed;

    struct { /* the call's thread */
        struct ingest_limits limits;
        uint32_t limits_version;
        uint64_t next_sequence;
        struct map series, layouts;
        struct arena arena; /* declared series and layouts */
        struct declared_layout *last_layout;
        uint32_t n_marks;
        uint64_t n_members; /* of all layouts */
        struct declaring *declaring;
        struct store_batch *built; /* waits for room in the writer's queue */
        uint64_t held_sequence;    /* of the batch that waits, when one does */
        bool is_checked;           /* it was found good already */
        bool is_behind;            /* it waits for the writer */
        size_t payload_bytes;      /* then; of metrics */
        uint32_t *scratch;
        size_t n_scratch;
        int64_t seen_us;
    } loop;

    struct {
        pthread_mutex_t lock;
        uint64_t acked, told;
        uint32_t n_under_way;
        int end;       /* why, once has_end */
        bool must_ack; /* said already, but asked again */
        bool has_end, is_end_told;
        uint32_t ready_below; /* batches under way; 0: nobody waits for fewer */
        bool is_ready;
        bool is_woken, is_closed;
    } shared;
};

/* ---- ingest.c ---- */

/* Takes over an older stream of the same spool. Returns false for another machine's fingerprint
 * while one is live. Outcomes in ret_r: INGEST_LIMIT. */
bool ingest_list_stream(struct ingest *ingest, struct ingest_stream *stream, int *ret_r);
bool ingest_is_clone(struct ingest *ingest, uint32_t agent, const struct ingest_machine *machine);
void ingest_unlist_stream(struct ingest *ingest, struct ingest_stream *stream);
/* The writer's queue was full for this stream: any batch that comes back makes it ready. */
void ingest_wait_for_room(struct ingest *ingest, struct ingest_stream *stream);
void ingest_tell_room(struct ingest *ingest);
/* The caller's until it is given back. Faults: no memory. */
int ingest_take_packer(struct ingest *ingest, struct store_packer **ret) MUST_USE;
void ingest_give_back_packer(struct ingest *ingest, struct store_packer *packer);
struct ingest *ingest_ref(struct ingest *ingest);
void ingest_unref(struct ingest *ingest);

/* ---- stream.c ---- */

struct ingest_stream *stream_ref(struct ingest_stream *stream);
void stream_unref(struct ingest_stream *stream);
/* The first end counts. Returns it. */
int stream_end(struct ingest_stream *stream, int outcome);
/* With the lock held: something is there for ingest_stream_next(). */
void stream_wake(struct ingest_stream *stream);
void stream_make_ready(struct ingest_stream *stream);
/* store_batch.done */
void stream_on_done(struct store_batch *batch, int r, uint64_t run_last);
int stream_outcome_of_store(int r);

/* ---- batch.c ---- */

/* Outcomes: INGEST_TIME_OUT_OF_RANGE; the field is the caller's to name. */
int batch_check_time(const struct ingest_stream *stream,
                     int64_t time_us,
                     wall_us now,
                     struct ingest_problem *problem) MUST_USE;

/* ---- metrics.c, logs.c; metrics_check() sets loop.payload_bytes. Outcomes: refusals ---- */

int metrics_check(struct ingest_stream *stream,
                  const struct ingest_batch *batch,
                  wall_us now,
                  struct ingest_problem *problem) MUST_USE;
/* Every declaration has its id by then. */
int metrics_build(struct ingest_stream *stream,
                  const struct ingest_batch *batch,
                  struct store_batch *built) MUST_USE;
int logs_check(struct ingest_stream *stream,
               const struct ingest_batch *batch,
               wall_us now,
               struct ingest_problem *problem) MUST_USE;

/* ---- declare.c ---- */

void problem_field(struct ingest_problem *problem, const char *fmt, ...) PRINTF_LIKE(2, 3);
void problem_say(struct ingest_problem *problem, const char *fmt, ...) PRINTF_LIKE(2, 3);

/*
 * Takes the batch's declarations in. They stay when the batch is refused later, but a refusal ends
 * the stream. Outcomes: INGEST_BAD_BATCH, INGEST_LIMIT. What is new lies in loop.declaring then.
 * Faults: no memory.
 */
int declare_check(struct ingest_stream *stream,
                  const struct ingest_batch *batch,
                  struct ingest_problem *problem) MUST_USE;
/* Outcomes: INGEST_WAIT and refusals. INGEST_OK: every declaration has its hub-wide id. */
int declare_intern(struct ingest_stream *stream, struct ingest_problem *problem) MUST_USE;
struct declared_layout *declare_find_layout(struct ingest_stream *stream, uint32_t id);
struct declaring *declaring_free(struct declaring *declaring);
void declare_deinit(struct ingest_stream *stream);
