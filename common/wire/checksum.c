/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/wire/wire.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

typedef Sentinel__Telemetry__V1__StreamMetricsRequest request_message;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "doubles are summed as they lie");

static uint32_t add_u64(uint32_t crc, uint64_t value)
{
    return crc32c(crc, &value, sizeof(value));
}

uint32_t wire_skip_checksum(uint64_t through_sequence, uint64_t records)
{
    return add_u64(add_u64(0, through_sequence), records);
}

uint32_t wire_checksum(const ProtobufCMessage *request)
{
    const request_message *message = (const request_message *) (const void *) request;
    const Sentinel__Telemetry__V1__Scrape *scrape;
    uint32_t crc;

    ensure(request->descriptor == &sentinel__telemetry__v1__stream_metrics_request__descriptor);
    switch ((int) message->message_case) {
    case SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_BATCH:
        crc = add_u64(0, message->batch->sequence);
        for (size_t i = 0; i < message->batch->n_scrapes; i++) {
            scrape = message->batch->scrapes[i];
            crc = crc32c(crc, scrape->values, scrape->n_values * sizeof(*scrape->values));
            crc = crc32c(crc, scrape->absent, scrape->n_absent * sizeof(*scrape->absent));
        }
        return crc;
    case SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_SKIP:
        return wire_skip_checksum(message->skip->through_sequence, message->skip->records);
    default:
        return 0;
    }
}
