#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: the two methods that upload differ in their messages alone. What one
 * request says, and what is answered, as server/upload knows it; svc_uploads.c has bulk data's and
 * the call, svc_files.c files'.
 */

#include "common/base/buf.h"
#include "common/wire/wire.h"
#include "server/upload/upload.h"

enum upload_request_type {
    UPLOAD_REQUEST_EMPTY = 0,
    UPLOAD_REQUEST_HEADER,
    UPLOAD_REQUEST_CHUNK,
    UPLOAD_REQUEST_END,
};

struct upload_request { /* borrows from the message */
    enum upload_request_type type;
    struct upload_header header; /* its agent is 0 */
    uint64_t offset;             /* of the chunk */
    struct span data;            /* too */
    uint64_t size;               /* of the end */
    struct span sha256;          /* too */
};

struct upload_shape {
    const ProtobufCMessageDescriptor *request;
    /* Labels go into the arena. False: it has no room. */
    bool (*read)(const ProtobufCMessage *message, struct arena *arena, struct upload_request *ret);
    /* RESUME, ACK or RESULT. Faults: no memory. */
    int (*pack)(const struct upload_event *event, struct buf *to);
};
extern const struct upload_shape svc_uploads_shape, svc_files_shape;
