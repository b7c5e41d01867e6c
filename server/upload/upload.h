#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Upload: what agents send as it is, from header to digest: the rules of UploadBulkData and
 * StreamFileContent. It checks, hashes, hands on to the store, and says what to answer; it knows
 * neither messages nor sockets.
 *
 *     upload_open() -> UPLOAD_RESUME | UPLOAD_RESULT
 *       upload_chunk()* -> UPLOAD_ACK*
 *     upload_finish() -> UPLOAD_RESULT | UPLOAD_END
 *
 * Everything is hashed as it comes, by the call's thread; how far the hash is, is stored with the
 * bytes, so that no byte is read again after a cut or a restart of the hub. A result means: size
 * and SHA-256 of what lies on disk are what the agent says. Where the digest differs what was
 * received is dropped, as it can never become what was announced.
 *
 * Flow: chunks are taken whenever they come. Who reads them asks upload_wants_more() before each
 * read: an upload has at most UPLOAD_WINDOW_BYTES under way to the disk, all of them together
 * UPLOAD_ALL_BYTES and one chunk each.
 *
 * Glossary:  stream  one call that adds to an upload; a newer one of the same upload takes over
 * Thread:    a stream is one thread's; its wake() may come from the store's.
 * Start here: upload_open() is called from server/front/svc_uploads.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"
#include "server/store/store.h"

#define UPLOAD_CHUNK_BYTES (1u << 20)
#define UPLOAD_WINDOW_BYTES (16u << 20)
#define UPLOAD_ALL_BYTES (UINT64_C(64) << 20)
#define UPLOAD_NAME_BYTES STORE_OBJECT_NAME_BYTES
#define UPLOAD_TYPE_BYTES STORE_OBJECT_TYPE_BYTES
#define UPLOAD_LABELS STORE_OBJECT_LABELS
#define UPLOAD_LABEL_KEY_BYTES 63
#define UPLOAD_LABEL_VALUE_BYTES STORE_OBJECT_LABEL_BYTES
#define UPLOAD_MODE_MAX 07777u

enum upload_outcome {
    UPLOAD_OK = 0,
    UPLOAD_BAD,      /* header, chunk or end breaks a rule; the problem names the field */
    UPLOAD_DIFFERS,  /* from what was said of this upload before; the problem names the field */
    UPLOAD_MISMATCH, /* size or SHA-256 are not those of what came; the problem says which */
    UPLOAD_LIMIT,    /* the problem has the limit's name */
    UPLOAD_BUSY,  /* as many streams as there may be are open; the problem has the limit's name */
    UPLOAD_TAKEN, /* a newer stream adds to this upload */
    UPLOAD_FULL,
    UPLOAD_STOPPED,
    UPLOAD_FAULT, /* the hub's log has it */
};

struct upload_problem {
    char field[64];
    char description[320];
    const char *quota; /* a literal; NULL: none */
};

struct uploads;
struct upload;

/* Streams at a time: of all, and of one agent, so that one alone cannot take every place. */
struct uploads_limits {
    uint32_t max_open, agent_open;
};
int uploads_new(struct uploads **ret,
                struct store *store,
                const struct uploads_limits *limits) MUST_USE;
/* For what is opened from now on. */
void uploads_set_limits(struct uploads *uploads, const struct uploads_limits *limits);
/* After the last upload_close(); what is under way at the store may come back later. */
struct uploads *uploads_free(struct uploads *uploads);
DEFINE_CLEANUP(struct uploads *, uploads_free);

struct upload_header {
    enum store_object_kind kind;
    uint32_t agent;
    struct span key; /* 16 bytes */
    const char *name, *type;
    uint64_t size;      /* 0: not known */
    struct span sha256; /* 32 bytes; empty: not known */
    const struct store_attribute *labels;
    size_t n_labels;
    uint32_t mode;
    int64_t modified_us;
};

/* The name of an upload for people: "u17". `to` has room for UPLOAD_ID_BYTES. Returns `to`. */
#define UPLOAD_ID_BYTES 24
const char *upload_id_of(uint64_t number, char to[static UPLOAD_ID_BYTES]);
/* 0: it is none. */
uint64_t upload_number_of(const char *id);

enum upload_event_type {
    UPLOAD_NOTHING = 0,
    UPLOAD_RESUME, /* send from `offset` on */
    UPLOAD_ACK,    /* all below `offset` is on disk */
    UPLOAD_RESULT, /* the last one: it is whole */
    UPLOAD_END,    /* the last one: `outcome`, `problem` */
};

struct upload_event {
    enum upload_event_type type;
    uint64_t offset;
    uint64_t number, size;
    uint8_t sha256[STORE_OBJECT_SHA256_BYTES];
    bool had_it; /* the result came without a byte of this stream */
    int outcome;
    const struct upload_problem *problem; /* until upload_close() */
};

/*
 * Nothing of the header is kept but in the store. wake() says that upload_next() has something; it
 * comes once until that has said UPLOAD_NOTHING. Outcomes: UPLOAD_BAD, UPLOAD_BUSY, UPLOAD_STOPPED.
 */
int upload_open(struct upload **ret,
                struct uploads *uploads,
                const struct upload_header *header,
                void (*wake)(void *ctx),
                void *ctx,
                struct upload_problem *ret_problem) MUST_USE;
void upload_next(struct upload *upload, struct upload_event *ret);

/* After UPLOAD_RESUME. Bytes are copied. Outcomes: UPLOAD_BAD, UPLOAD_STOPPED: the stream is over,
 * with UPLOAD_END behind the acks. */
int upload_chunk(struct upload *upload,
                 uint64_t offset,
                 struct span data,
                 struct upload_problem *ret_problem) MUST_USE;
/* Whether another chunk should be read now. After UPLOAD_ACK ask again. */
bool upload_wants_more(struct upload *upload);

/* The agent's last word. `sha256` may be empty where the header has one. Outcomes: UPLOAD_BAD,
 * UPLOAD_MISMATCH, as above. */
int upload_finish(struct upload *upload,
                  uint64_t size,
                  struct span sha256,
                  struct upload_problem *ret_problem) MUST_USE;
/* No more comes, without an end: UPLOAD_END with `outcome` follows behind the acks. */
void upload_cut(struct upload *upload, int outcome);

/* Gives up the lease; no wake() after it. */
struct upload *upload_close(struct upload *upload);
