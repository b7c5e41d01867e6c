#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to write.c and begin.c: a group of jobs on its way to one commit.
 */

#include "server/store/objects/objects.h"

struct objects_group {
    struct objects *objects;
    MDB_txn *txn;
    struct object *dirty; /* touched: rows and files of the group */
    uint64_t n_bytes, n_begun, n_finished, n_shared;
    int64_t n_contents, n_content_bytes; /* more than before */
    size_t n_doomed;                     /* bytes of the list before the group */
    uint64_t first_content;              /* that the group may make */
    bool has_changed;                    /* something is to be committed */
    bool has_new_file;
    bool is_own; /* that there is no room concerns the job at hand alone: the index has nothing of
                    it */
    wall_us now;
};

/* ---- write.c ---- */

/* A copy that outlives the transaction and the caller's header. */
int group_keep_open(struct objects *objects,
                    const struct object_row *row,
                    struct object **ret) MUST_USE;
/* Its row, or its file too, goes with the commit. */
void group_touch(struct objects_group *group, struct object *object);
/* Names the limit in the job; returns STORE_TOO_MUCH. */
int group_too_much(struct store_object_job *job, const char *what, uint64_t limit) MUST_USE;
/* `limit` 0: none. */
bool group_is_over(uint64_t limit, uint64_t used, uint64_t more);
/* Whether so much more of one agent may be there; `n_total` is of it what needs room of its own.
 * Outcomes: STORE_TOO_MUCH. */
int group_check_limits(struct objects_group *group,
                       struct store_object_job *job,
                       uint32_t agent,
                       uint64_t n_more,
                       uint64_t n_total) MUST_USE;
int group_charge(struct objects_group *group,
                 uint32_t agent,
                 uint64_t n_more,
                 uint64_t n_total) MUST_USE;
/* Nothing names it any more once the group is committed. */
int group_give_up_content(struct objects_group *group, struct object *object) MUST_USE;
/* All that was received goes. */
int group_start_over(struct objects_group *group, struct object *object) MUST_USE;

/* ---- begin.c ---- */

/* As store_object_job says of BEGIN. */
int group_begin(struct objects_group *group, struct store_object_job *job) MUST_USE;
void group_answer_complete(struct store_object_job *job, const struct store_object *object);
