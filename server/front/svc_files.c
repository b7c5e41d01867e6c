/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.telemetry.v1.TelemetryService, StreamFileContent: a file is an upload with a path. */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include "server/front/inside.h"
#include "server/front/uploads.h"

typedef Sentinel__Telemetry__V1__StreamFileContentRequest file_request;
typedef Sentinel__Telemetry__V1__StreamFileContentResponse file_response;

static bool
read_request(const ProtobufCMessage *message, struct arena *arena, struct upload_request *ret)
{
    const file_request *request = (const void *) message;

    (void) arena;
    *ret = (struct upload_request){ .type = UPLOAD_REQUEST_EMPTY };
    if (request->message_case ==
        SENTINEL__TELEMETRY__V1__STREAM_FILE_CONTENT_REQUEST__MESSAGE_HEADER) {
        const Sentinel__Telemetry__V1__FileHeader *header = request->header;

        ret->type = UPLOAD_REQUEST_HEADER;
        ret->header = (struct upload_header){
            .kind = STORE_FILE,
            .key = span_of(header->transfer_id.data, header->transfer_id.len),
            .name = header->path,
            .type = "",
            .size = header->size_bytes,
            .mode = header->mode,
            .modified_us = header->modified_time_unix_us,
        };
    } else if (request->message_case ==
               SENTINEL__TELEMETRY__V1__STREAM_FILE_CONTENT_REQUEST__MESSAGE_CHUNK) {
        ret->type = UPLOAD_REQUEST_CHUNK;
        ret->offset = request->chunk->offset;
        ret->data = span_of(request->chunk->data.data, request->chunk->data.len);
    } else if (request->message_case ==
               SENTINEL__TELEMETRY__V1__STREAM_FILE_CONTENT_REQUEST__MESSAGE_END) {
        ret->type = UPLOAD_REQUEST_END;
        ret->size = request->end->size_bytes;
        ret->sha256 = span_of(request->end->sha256.data, request->end->sha256.len);
    }
    return true;
}

static int pack_event(const struct upload_event *event, struct buf *to)
{
    file_response response = SENTINEL__TELEMETRY__V1__STREAM_FILE_CONTENT_RESPONSE__INIT;
    Sentinel__Telemetry__V1__ResumeAt resume = SENTINEL__TELEMETRY__V1__RESUME_AT__INIT;
    Sentinel__Telemetry__V1__ChunkAck ack = SENTINEL__TELEMETRY__V1__CHUNK_ACK__INIT;
    Sentinel__Telemetry__V1__UploadResult result = SENTINEL__TELEMETRY__V1__UPLOAD_RESULT__INIT;
    char id[UPLOAD_ID_BYTES];

    if (event->type == UPLOAD_RESUME) {
        response.message_case =
            SENTINEL__TELEMETRY__V1__STREAM_FILE_CONTENT_RESPONSE__MESSAGE_RESUME;
        response.resume = &resume;
        resume.offset = event->offset;
    } else if (event->type == UPLOAD_ACK) {
        response.message_case = SENTINEL__TELEMETRY__V1__STREAM_FILE_CONTENT_RESPONSE__MESSAGE_ACK;
        response.ack = &ack;
        ack.offset = event->offset;
    } else {
        response.message_case =
            SENTINEL__TELEMETRY__V1__STREAM_FILE_CONTENT_RESPONSE__MESSAGE_RESULT;
        response.result = &result;
        result.object_id = front_borrow(upload_id_of(event->number, id));
        result.sha256.data = (uint8_t *) (uintptr_t) event->sha256;
        result.sha256.len = sizeof(event->sha256);
        result.size_bytes = event->size;
    }
    return wire_pack(&response.base, to);
}

const struct upload_shape svc_files_shape = {
    .request = &sentinel__telemetry__v1__stream_file_content_request__descriptor,
    .read = read_request,
    .pack = pack_event,
};
