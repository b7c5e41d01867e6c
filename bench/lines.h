#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Lines: log lines from a grammar, as a pure function of agent and line, that repeat themselves as
 * real ones do: few words often, most of them seldom, addresses and ids that come again, ids that
 * never do. Of twenty agents eight are web servers, five services that write JSON, three an
 * application in Java with its stack traces, three what journald has of sshd, one a kernel. About
 * 200 bytes in the mean.
 *
 * Thread: any; a buffer is one thread's.
 */

#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/span.h"

#define LINES_MAX_BATCH 16384u
#define LINES_TRACE_BYTES 33 /* with the NUL */

struct lines {
    uint64_t seed;
    uint32_t batch_lines;
    int64_t first_us, interval_us; /* of each agent's lines */
};

/* The StreamLogsRequest with batch `sequence` (from 1), in place of what is in `to`. Returns the
 * bytes of its bodies. Faults are the buffer's. */
uint64_t lines_batch(const struct lines *lines, uint32_t agent, uint64_t sequence, struct buf *to);

struct lines_source {
    const char *type, *name;
};
struct lines_source lines_source(uint32_t agent);

/* The records of that batch, batch_lines of them; their bodies are in `bodies`, in place of what is
 * in it. Returns and fails as lines_batch(). */
struct logblock_record;
uint64_t lines_records(const struct lines *lines,
                       uint32_t agent,
                       uint64_t sequence,
                       struct buf *bodies,
                       struct logblock_record *to);

int64_t lines_time_us(const struct lines *lines, uint64_t line);

/* Whether the agent's lines carry a word that is in LINES_OF_TRACE lines in a row and nowhere else,
 * and that word. */
#define LINES_OF_TRACE 4
bool lines_have_trace(uint32_t agent);
void lines_trace(const struct lines *lines,
                 uint32_t agent,
                 uint64_t line,
                 char to[static LINES_TRACE_BYTES]);
/* A word of every fourth line or so, over all agents. */
#define LINES_FREQUENT "GET"
