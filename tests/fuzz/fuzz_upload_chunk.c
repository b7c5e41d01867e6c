/* Targets: chunk_scan.
 * SPDX-License-Identifier: Apache-2.0 */

/* What it takes says the same to whoever unpacks the whole message, of both kinds. */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include "common/base/ensure.h"
#include "common/wire/wire.h"
#include "server/front/chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const Sentinel__Telemetry__V1__UploadBulkDataRequest *bulk;
    const Sentinel__Telemetry__V1__StreamFileContentRequest *file;
    ProtobufCMessage *message = NULL;
    struct arena arena;
    struct span bytes;
    uint64_t offset;

    if (!chunk_scan(span_of(data, len), &offset, &bytes))
        return 0;
    arena_init(&arena, wire_arena_limit(len));
    ensure(wire_unpack(&sentinel__telemetry__v1__upload_bulk_data_request__descriptor,
                       span_of(data, len), &arena, &message, NULL) == WIRE_OK);
    bulk = (const void *) message;
    ensure(bulk->message_case == SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_CHUNK);
    ensure(bulk->chunk->offset == offset);
    ensure(span_equal(span_of(bulk->chunk->data.data, bulk->chunk->data.len), bytes));
    ensure(wire_unpack(&sentinel__telemetry__v1__stream_file_content_request__descriptor,
                       span_of(data, len), &arena, &message, NULL) == WIRE_OK);
    file = (const void *) message;
    ensure(file->message_case ==
           SENTINEL__TELEMETRY__V1__STREAM_FILE_CONTENT_REQUEST__MESSAGE_CHUNK);
    ensure(file->chunk->offset == offset && file->chunk->data.len == bytes.len);
    arena_deinit(&arena);
    return 0;
}
