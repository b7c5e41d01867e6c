#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* From batches to frames. Private to agent/spool. */

#include "agent/spool/spool_private.h"

/* Outcomes: SPOOL_FULL, SPOOL_TOO_LARGE; with a split also: the policy dropped it, and nothing was
 * counted. */
int put_logs(struct queue *queue,
             const struct spool_logs *logs,
             const struct codec_split *split) MUST_USE;
