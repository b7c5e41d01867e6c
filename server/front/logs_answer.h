#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: what answers about logs share.
 */

#include "server/front/inside.h"

/* The zero value is fine. */
struct logs_answer {
    struct buf attributes; /* scratch */
};
void logs_answer_deinit(struct logs_answer *answer);

/* Appends an entry. Faults are the buffer's: buf_failed(). */
void logs_answer_add(struct logs_answer *answer,
                     struct buf *to,
                     const char *agent_id,
                     const struct logblock_source *source,
                     const struct logblock_record *record);
/* What that takes in an answer, about. */
size_t logs_answer_bytes(const struct logblock_source *source,
                         const struct logblock_record *record);
