#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Private to server/upload: rules.c, what header, chunk and end may say. Pure. */

#include "server/upload/upload.h"

/* Outcomes: UPLOAD_BAD. */
int upload_check_header(const struct upload_header *header,
                        struct upload_problem *problem) MUST_USE;
/* `next`: the offset that is wanted; `size` 0: not known. Outcomes: UPLOAD_BAD. */
int upload_check_chunk(uint64_t offset,
                       size_t len,
                       uint64_t next,
                       uint64_t size,
                       struct upload_problem *problem) MUST_USE;
/* Of the header `size` (0) and `sha256` (NULL: not known). Outcomes: UPLOAD_BAD, UPLOAD_MISMATCH.
 */
int upload_check_end(uint64_t end_size,
                     struct span end_sha256,
                     uint64_t received,
                     uint64_t size,
                     const uint8_t *sha256,
                     struct upload_problem *problem) MUST_USE;

void upload_problem_of_field(struct upload_problem *problem,
                             const char *field,
                             const char *fmt,
                             ...) PRINTF_LIKE(3, 4);
/* The field of the message that the store calls `what`. A literal. */
const char *upload_field(enum store_object_kind kind, const char *what);
