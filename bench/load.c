/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A batch on the wire, as protobuf-c would pack it:
 *
 *   12 <len>  08 <sequence>  [declarations]  scrape ...           StreamMetricsRequest.batch
 *   scrape:   22 <len>  09 <time:8>  10 01  1a <len> <8 bytes each>
 *
 * Only sequence and the two lengths before it change their size. So the scrapes lie at a fixed
 * place behind FRONT_BYTES, and the front is written backwards from there.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load.h"
#include "bench/load_private.h"
#include "bench/mix.h"
#include "bench/varint.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/wire/wire.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#define FRONT_BYTES 32
#define MAX_LATE_US 500u

#define TAG_BATCH 0x12
#define TAG_SEQUENCE 0x08
#define TAG_SCRAPE 0x22
#define TAG_TIME 0x09
#define TAG_LAYOUT 0x10
#define TAG_VALUES 0x1a

static double counter_value(uint64_t id, uint64_t scrape)
{
    const uint32_t step = 1 + (uint32_t) mix_below(id, 1000);

    /* The part behind the plus is at most a step, so the next value is not less. */
    return (double) (scrape * step + mix_below(mix(id + scrape), step + 1));
}

static double gauge_value(uint64_t id, uint64_t scrape, bool has_two_decimals)
{
    const uint64_t place = (scrape + (id & 1023)) % 720;
    const uint64_t slow = place < 360 ? place : 720 - place;
    const uint64_t units = 1000 + mix_below(id, 8000) + slow + mix_below(mix(id + scrape), 64);

    return (double) units / (has_two_decimals ? 100.0 : 10.0);
}

static enum load_kind kind_of(uint32_t series)
{
    return (enum load_kind)(series % LOAD_N_KINDS);
}

double load_value(const struct load *load, uint32_t agent, uint32_t series, uint64_t scrape)
{
    const uint64_t id = mix_pair(agent, series);

    if (load->tracks)
        return tracks_value(load->tracks, agent, series, scrape);
    if (kind_of(series) == LOAD_CONSTANT)
        return (double) mix_below(id, 1000000);
    if (kind_of(series) == LOAD_COUNTER)
        return counter_value(id, scrape);
    return gauge_value(id, scrape, series / LOAD_N_KINDS % 2 == 1);
}

int64_t load_time_us(const struct load *load, uint32_t agent, uint64_t scrape)
{
    const int64_t apart_us = load->interval_us / (int64_t) load->n_agents;
    int64_t late_us = 0;

    if (load->lines)
        return lines_time_us(load->lines, scrape);
    if (load->tracks)
        late_us = (int64_t) mix_below(mix(mix_pair(agent, UINT32_MAX) + scrape), MAX_LATE_US);
    if (late_us >= apart_us) /* it stays within its step */
        late_us = 0;
    return load->first_us + (int64_t) scrape * load->interval_us + (int64_t) agent * apart_us +
           late_us;
}

uint32_t load_n_constant(const struct load *load, uint32_t agent, uint64_t n_scrapes)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < load->n_series; i++) {
        const double first = load_value(load, agent, i, 0);
        uint64_t same = 1;

        while (same < n_scrapes && load_value(load, agent, i, same) == first)
            same++;
        n += same >= n_scrapes;
    }
    return n;
}

/* ---- messages ---- */

static void put_u64(uint8_t *to, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t) (value >> (8 * i));
}

static void put_double(uint8_t *to, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_u64(to, bits);
}

/* The parts of a scrape, all of fixed size. */
struct scrape_shape {
    size_t values_bytes, inner_bytes, time_at, values_at, total_bytes;
};

static struct scrape_shape shape_of(const struct load *load)
{
    struct scrape_shape shape = { .values_bytes = (size_t) load->n_series * 8 };

    shape.inner_bytes = 9 + 2 + 1 + varint_bytes(shape.values_bytes) + shape.values_bytes;
    shape.time_at = 1 + varint_bytes(shape.inner_bytes) + 1;
    shape.total_bytes = 1 + varint_bytes(shape.inner_bytes) + shape.inner_bytes;
    shape.values_at = shape.total_bytes - shape.values_bytes;
    return shape;
}

static void
put_scrape(const struct load *load, uint32_t agent, const struct scrape_shape *shape, uint8_t *to)
{
    uint8_t *at = to;

    *at++ = TAG_SCRAPE;
    at = put_varint(at, shape->inner_bytes);
    *at++ = TAG_TIME;
    at += 8;
    *at++ = TAG_LAYOUT;
    at = put_varint(at, LAYOUT_ID);
    *at++ = TAG_VALUES;
    at = put_varint(at, shape->values_bytes);
    ensure((size_t) (at - to) == shape->values_at);
    for (uint32_t i = 0; i < load->n_series; i++)
        put_double(at + (size_t) i * 8, load_value(load, agent, i, 0));
}

int load_message_init(struct load_message *message, const struct load *load, uint32_t agent)
{
    const struct scrape_shape shape = shape_of(load);

    *message = (struct load_message){ .agent = agent };
    if (load->lines)
        return 0;
    message->scrapes_bytes = shape.total_bytes * load->batch_scrapes;
    message->bytes = malloc(FRONT_BYTES + message->scrapes_bytes);
    if (!message->bytes)
        return fault(-ENOMEM, "no memory for a message of %zu bytes", message->scrapes_bytes);
    for (uint32_t i = 0; i < load->batch_scrapes; i++)
        put_scrape(load, agent, &shape, message->bytes + FRONT_BYTES + i * shape.total_bytes);
    return 0;
}

void load_message_deinit(struct load_message *message)
{
    free(message->bytes);
    message->bytes = NULL;
    buf_deinit(&message->logs);
}

/* What changes; constants are there from the beginning. */
static void put_values(const struct load *load, uint32_t agent, uint64_t scrape, uint8_t *to)
{
    if (load->tracks) {
        tracks_put(load->tracks, agent, scrape, load->n_series, true, to);
        return;
    }
    for (uint32_t i = LOAD_COUNTER; i < load->n_series; i += LOAD_N_KINDS)
        put_double(to + (size_t) i * 8, load_value(load, agent, i, scrape));
    for (uint32_t i = LOAD_GAUGE; i < load->n_series; i += LOAD_N_KINDS)
        put_double(to + (size_t) i * 8, load_value(load, agent, i, scrape));
}

static void patch_scrapes(struct load_message *message, const struct load *load, uint64_t sequence)
{
    const struct scrape_shape shape = shape_of(load);
    uint64_t scrape = (sequence - 1) * load->batch_scrapes;

    for (uint32_t n = 0; n < load->batch_scrapes; n++, scrape++) {
        uint8_t *at = message->bytes + FRONT_BYTES + n * shape.total_bytes;

        put_u64(at + shape.time_at, (uint64_t) load_time_us(load, message->agent, scrape));
        put_values(load, message->agent, scrape, at + shape.values_at);
    }
}

/* What comes before declarations and scrapes, `rest_bytes` of them. Returns its length. */
static size_t put_front(uint8_t to[static FRONT_BYTES], uint64_t sequence, size_t rest_bytes)
{
    uint8_t *at = to;

    *at++ = TAG_BATCH;
    at = put_varint(at, 1 + varint_bytes(sequence) + rest_bytes);
    *at++ = TAG_SEQUENCE;
    at = put_varint(at, sequence);
    return (size_t) (at - to);
}

struct span
load_message_patch(struct load_message *message, const struct load *load, uint64_t sequence)
{
    uint8_t front[FRONT_BYTES];
    size_t front_bytes;

    ensure(sequence > 0);
    if (load->lines) {
        message->body_bytes =
            (uint32_t) lines_batch(load->lines, message->agent, sequence, &message->logs);
        return buf_span(&message->logs);
    }
    patch_scrapes(message, load, sequence);
    front_bytes = put_front(front, sequence, message->scrapes_bytes);
    memcpy(message->bytes + FRONT_BYTES - front_bytes, front, front_bytes);
    return span_of(message->bytes + FRONT_BYTES - front_bytes,
                   front_bytes + message->scrapes_bytes);
}

int load_message_declare(struct load_message *message,
                         const struct load *load,
                         uint64_t sequence,
                         struct buf *to)
{
    uint8_t front[FRONT_BYTES];

    ensure(sequence > 0);
    buf_clear(to);
    if (load->lines) { /* they declare nothing */
        message->body_bytes = (uint32_t) lines_batch(load->lines, message->agent, sequence, to);
        return buf_failed(to) ? fault(-ENOMEM, "no memory for a batch of logs") : 0;
    }
    patch_scrapes(message, load, sequence);
    buf_append(to, front,
               put_front(front, sequence, load->declarations.len + message->scrapes_bytes));
    buf_append_span(to, buf_span(&load->declarations));
    buf_append(to, message->bytes + FRONT_BYTES, message->scrapes_bytes);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a message with declarations") : 0;
}

const char *load_path(const struct load *load)
{
    return load->lines ? "/sentinel.telemetry.v1.TelemetryService/StreamLogs"
                       : "/sentinel.telemetry.v1.TelemetryService/StreamMetrics";
}

/* At most once per connection, so it may take its time. */
static uint32_t checksum_of_metrics(struct span encoded)
{
    ProtobufCMessage *request;
    struct arena arena;
    uint32_t checksum = 0;

    arena_init(&arena, wire_arena_limit(encoded.len));
    if (wire_unpack(&sentinel__telemetry__v1__stream_metrics_request__descriptor, encoded, &arena,
                    &request, NULL) == 0)
        checksum = wire_checksum(request);
    arena_deinit(&arena);
    return checksum;
}

static uint32_t checksum_of_logs(struct span encoded)
{
    struct wire_log_record record;
    struct wire_problem problem;
    struct wire_logs logs;

    if (wire_logs_open(encoded, &logs, &problem))
        return 0;
    for (size_t i = 0; i < logs.n_records; i++)
        if (wire_logs_next(&logs, &record, &problem))
            return 0;
    return logs.crc32c;
}

uint32_t
load_message_checksum(struct load_message *message, const struct load *load, uint64_t sequence)
{
    const struct span encoded = load_message_patch(message, load, sequence);

    return load->lines ? checksum_of_logs(encoded) : checksum_of_metrics(encoded);
}
