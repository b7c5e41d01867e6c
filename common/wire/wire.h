#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Wire: protobuf messages between bytes and structs, safely.
 *
 * Unpacking goes into an arena with a byte limit. Before it, one pass over the bytes checks what
 * protobuf-c does not: nesting depth (it recurses without a limit and dies of deep nesting), that
 * every string is UTF-8 without NUL (it drops the length), field numbers and wire types. What is
 * wrong is named by its field path.
 *
 * Fields that the type does not have are kept as bytes, not looked into, and count against the
 * arena.
 *
 * The generated headers are "sentinel/telemetry/v1/telemetry.pb-c.h" and so on; only common/wire,
 * server/front, server/ctl, agent/uplink, bench and tests include them.
 *
 * Thread: any; an arena is one thread's.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/wire/logs.h"

enum wire_outcome {
    WIRE_OK = 0,
    WIRE_MALFORMED, /* not a message of this type */
    WIRE_TOO_DEEP,  /* nested past WIRE_MAX_DEPTH; the message itself is the first level */
    WIRE_TOO_BIG,   /* the arena's limit */
    WIRE_BAD_TEXT,  /* a string is not UTF-8, or has a NUL in it */
};

#define WIRE_MAX_DEPTH 32

struct wire_problem {
    char field[192];       /* "batch.series[3].name"; empty when unknown */
    char description[256]; /* what is wrong and what is allowed */
};

/* What an arena for unpacking n wire bytes may hold: max(64 KiB, 16 n). That is the bound on
 * amplification. */
size_t wire_arena_limit(size_t wire_bytes);

/*
 * Unpacks into the arena; the message lives as long as the arena and is not freed by itself. It
 * borrows nothing from `bytes`. Legal but refused as WIRE_MALFORMED: groups, and a sub-message
 * given twice whose type has a oneof (protobuf-c cannot merge those). ret_problem may be NULL.
 *
 * Outcomes: WIRE_MALFORMED, WIRE_TOO_DEEP, WIRE_TOO_BIG, WIRE_BAD_TEXT; *ret_problem is filled
 * then.
 *
 * Faults: no memory.
 */
int wire_unpack(const ProtobufCMessageDescriptor *type,
                struct span bytes,
                struct arena *arena,
                ProtobufCMessage **ret,
                struct wire_problem *ret_problem) MUST_USE;

/* Appends the packed message. Faults: no memory. */
int wire_pack(const ProtobufCMessage *message, struct buf *to) MUST_USE;

/*
 * What a run's last batch is known by (StreamHello.crc32c_before_first) of a StreamMetricsRequest.
 * CRC32C over, little-endian: for a batch its sequence (8 bytes), then of each scrape the values (8
 * bytes each) and the absent places (4 bytes each); for a skip through_sequence and records (8
 * bytes each). Declarations and ids are left out, as they differ from stream to stream, and times,
 * as an agent restamps when its clock was off: a batch sent again has the same checksum.
 */
uint32_t wire_checksum(const ProtobufCMessage *request);
/* Of a skip alone, of either stream. */
uint32_t wire_skip_checksum(uint64_t through_sequence, uint64_t records);

/* ---- errors with details (google.rpc.Status in grpc-status-details-bin) ---- */

#define WIRE_ERROR_DOMAIN "sentinel" /* of ErrorInfo */

struct wire_error {
    int code;            /* a gRPC status code */
    const char *message; /* says what to do; NULL packs as "" */
    const char *reason;  /* ErrorInfo.reason in CAPS; NULL: no ErrorInfo */
    const char *field;   /* BadRequest; NULL: none; "" is the message as a whole */
    const char *field_description;
    const char *quota; /* QuotaFailure subject: the limit's name; NULL: none */
    const char *quota_description;
    /* PreconditionFailure: a violation for each subject, all of one type; 0: none. */
    const char *precondition;
    const char *const *subjects;
    size_t n_subjects;
    const char *correlation_id; /* RequestInfo; NULL: none */
    uint64_t retry_after_ms;    /* RetryInfo; 0: none */
};

/* Appends the packed google.rpc.Status. Texts are UTF-8. Faults: no memory. */
int wire_error_pack(const struct wire_error *error, struct buf *to) MUST_USE;
/*
 * Texts live in the arena; what is not there is NULL, but `message` never is. Passed over: details
 * that are none of ours, an ErrorInfo of another domain, all but the first violation of a request
 * or quota. Outcomes: WIRE_MALFORMED and the other outcomes of unpacking. Faults: no memory.
 */
int wire_error_unpack(struct span bytes, struct arena *arena, struct wire_error *ret) MUST_USE;

/* ---- the method table and the reflection index, made from the descriptors at build time ---- */

enum wire_role { /* numbers of sentinel.options.v1.Role */
                 WIRE_ROLE_NONE = 0,
                 WIRE_ROLE_ANYONE = 1,
                 WIRE_ROLE_KNOWN = 2,
                 WIRE_ROLE_AGENT = 3,
                 WIRE_ROLE_VIEWER = 4,
                 WIRE_ROLE_OPERATOR = 5,
                 WIRE_ROLE_ADMIN = 6,
                 WIRE_ROLE_EXPORTER = 7,
};

struct wire_method {
    const char *path;    /* "/sentinel.query.v1.QueryService/ListAgents" */
    const char *service; /* "sentinel.query.v1.QueryService" */
    const char *name;    /* "ListAgents" */
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
    bool client_streams, server_streams;
    enum wire_role role;
};
/* Sorted by path; wire_n_methods rows. */
extern const struct wire_method wire_methods[];
extern const size_t wire_n_methods;
/* NULL when there is none. */
const struct wire_method *wire_find_method(const char *path);

struct wire_file {
    const char *name;        /* "sentinel/query/v1/query.proto" */
    struct span descriptor;  /* its FileDescriptorProto as protoc wrote it */
    const uint16_t *imports; /* indices into wire_files */
    size_t n_imports;
};
/* Sorted by name; wire_n_files rows: ours, the third-party ones, and everything they import. */
extern const struct wire_file wire_files[];
extern const size_t wire_n_files;
/*
 * The file that defines a full name, without a leading dot: service, method (pkg.Service.Method),
 * message, enum, field, oneof, enum value (beside its enum: pkg.VALUE), extension. NULL: none.
 */
const struct wire_file *wire_find_symbol(const char *full_name);
const struct wire_file *wire_find_file(const char *name);
/* Extensions: the file, or NULL; numbers of a type, rising: n written, at most max. */
const struct wire_file *wire_find_extension(const char *type, int32_t number);
size_t wire_extension_numbers(const char *type, int32_t *to, size_t max);
