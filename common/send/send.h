#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Send: one file to a hub as an upload (UploadBulkData), the client's side of it: for the agent's
 * command, for sentinelctl and for the benchmark.
 *
 * A file is hashed first, so that the hub can say at once that it has it, and its key is derived
 * from what it is (name, type, labels, size, SHA-256): the same file sent again goes on where it
 * was cut, in this process or a later one. A pipe is hashed as it comes and has a key of its own;
 * it goes on after a cut while the process lives, as what is not acknowledged is kept.
 *
 * A cut connection is made again, after 0.5 s to 10 s (+-20 %), until nothing has gone on for
 * give_up_us.
 *
 * Thread: the caller's; runs the loop until it is over.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/span.h"
#include "common/loop/loop.h"
#include "common/rpc/client/client.h"

#define SEND_CHUNK_BYTES (256u << 10) /* small enough to stay in a cache on its way */
#define SEND_WINDOW_BYTES (16u << 20) /* on their way without an acknowledgement */
#define SEND_KEY_BYTES 16
#define SEND_SHA256_BYTES 32
#define SEND_LABELS 32

enum send_outcome {
    SEND_OK = 0,
    SEND_REFUSED,     /* the hub's word: code, reason, message, ... */
    SEND_UNREACHABLE, /* the same of the last attempt */
    SEND_UNREADABLE,  /* the file; `message` says why */
    SEND_LOST,        /* the hub lost what a pipe cannot give again */
    SEND_UNCONNECTED, /* connect() said so */
    SEND_UNWANTED,    /* is_unwanted() said so; what has arrived stays there */
};

struct send_label {
    const char *key, *value;
};

struct send {
    struct loop *loop;
    /* Makes a connection, for each attempt; freed here. An answer that is not 0 ends it all. */
    int (*connect)(void *ctx, struct rpc_channel **ret);
    void *connect_ctx;
    int64_t give_up_us;
    uint64_t bytes_per_s; /* 0: as fast as it goes */
    int fd;               /* a file, from its begin, or a pipe; stays open */
    const char *name, *type;
    const struct send_label *labels;
    size_t n_labels;
    const uint8_t *key; /* SEND_KEY_BYTES; NULL: derived from a file, random for a pipe */
    /* May be NULL. all_bytes 0: not known. */
    void (*on_progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void (*on_hashing)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void (*on_retry)(void *ctx, const char *why, int64_t wait_us);
    /* Asked a few times in a second; NULL: it is wanted to the end. */
    bool (*is_unwanted)(void *ctx);
    void *ctx;
    /* Out. */
    char object_id[64];
    uint8_t sha256[SEND_SHA256_BYTES];
    uint64_t n_bytes;      /* the upload's */
    uint64_t n_sent_bytes; /* by this process, also twice */
    uint64_t resumed_at;   /* the first offset that was asked for */
    uint32_t n_cuts;
    bool had_it; /* the hub did: not a byte was sent */
    /* With REFUSED, UNREACHABLE, UNREADABLE. */
    int code;
    char reason[64], message[512], field[96], quota[64];
};

/* Faults: memory, the loop. */
int send_file(struct send *send) MUST_USE;
