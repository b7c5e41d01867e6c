#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Writer: the queue to the journal and its one thread. It takes all that is queued, up to
 * WRITER_GROUP_BYTES, for one commit. While one fdatasync runs the next group gathers by itself; a
 * group of several batches of logs is followed by a wait of some milliseconds where little is
 * queued, so that a busy hub commits less often.
 *
 * Full: a commit that found no room, or a disk above full_percent, begins it. Then submissions are
 * refused at once. The thread looks each second, whether or not something is submitted: a disk
 * above full_percent begins it too, and one below it that has room for a commit ends it.
 *
 * BEGINs (store_run_begin()) do not count as what makes the queue full: nobody who waits for room
 * is told of their end.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "server/store/store.h"

#define WRITER_GROUP_BYTES (16u << 20)
#define WRITER_LOOK_S 1
#define WRITER_LATENCIES 1024u

struct group;

struct writer {
    struct store *store;
    pthread_t thread;
    bool has_thread;
    /* Asked for; maybe before the thread is there. */
    _Atomic bool wants_rotation;
    _Atomic uint32_t n_to_forget, n_forgotten;
    struct group *group;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct store_batch *first, **end;
        uint64_t n_bytes;   /* of all */
        uint64_t n_batches; /* without BEGINs */
        bool is_waiting, is_stopping, is_full;
    } queue;
    struct {
        pthread_mutex_t lock;
        uint64_t n_batches, n_samples, n_duplicates, n_commits;
        uint64_t n_records, n_record_bytes;      /* of logs */
        uint32_t latencies_us[WRITER_LATENCIES]; /* a ring */
    } stats;
};

int writer_start(struct writer *writer, struct store *store) MUST_USE;
/* Writes what is queued and ends the thread. */
void writer_stop(struct writer *writer);
void writer_deinit(struct writer *writer);

/* As store_submit(). */
int writer_submit(struct writer *writer, struct store_batch *batch) MUST_USE;

/* Within WRITER_LOOK_S, or when there is room: drops the runs of agents that are gone; and goes on
 * in a new segment, so that the one of now can go. Any thread. */
void writer_forget_soon(struct writer *writer, bool rotates);
/* The runs are dropped. Any thread. */
bool writer_has_forgotten(struct writer *writer);

/* ---- group.c: one group commit, on the writer's thread ---- */

struct group *group_new(void);
struct group *group_free(struct group *group);
/* Judges, appends, commits, shows. STORE_FULL or a fault: nothing of it happened. */
int group_commit(struct group *group, struct store *store, struct store_batch *batches) MUST_USE;
/* Then calls each done(), in order. False: no memory to show all rows; the store must fail. */
bool group_answer(struct group *group, struct store *store) MUST_USE;
/* Answers all with one result; nothing is written. */
void group_refuse(struct store *store, struct store_batch *batches, int r);
