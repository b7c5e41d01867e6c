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
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/wire/wire.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#define FRONT_BYTES 32
#define LAYOUT_ID 1u
#define ARENA_BYTES (64u << 20) /* for the declarations of LOAD_MAX_SERIES */

#define TAG_BATCH 0x12
#define TAG_SEQUENCE 0x08
#define TAG_SCRAPE 0x22
#define TAG_TIME 0x09
#define TAG_LAYOUT 0x10
#define TAG_VALUES 0x1a

/* The finaliser of splitmix64: every bit of the input moves every bit of the output. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* 0 .. bound - 1 without a division. */
static uint64_t below(uint64_t hash, uint32_t bound)
{
    return ((hash >> 32) * bound) >> 32;
}

static double counter_value(uint64_t id, uint64_t scrape)
{
    const uint32_t step = 1 + (uint32_t) below(id, 1000);

    /* The part behind the plus is at most a step, so the next value is not less. */
    return (double) (scrape * step + below(mix(id + scrape), step + 1));
}

static double gauge_value(uint64_t id, uint64_t scrape, bool has_two_decimals)
{
    const uint64_t place = (scrape + (id & 1023)) % 720;
    const uint64_t slow = place < 360 ? place : 720 - place;
    const uint64_t units = 1000 + below(id, 8000) + slow + below(mix(id + scrape), 64);

    return (double) units / (has_two_decimals ? 100.0 : 10.0);
}

double load_value(uint32_t agent, uint32_t series, uint64_t scrape)
{
    const uint64_t id = mix((((uint64_t) agent << 32) | series) + UINT64_C(0x9e3779b97f4a7c15));

    if (load_kind_of(series) == LOAD_CONSTANT)
        return (double) below(id, 1000000);
    if (load_kind_of(series) == LOAD_COUNTER)
        return counter_value(id, scrape);
    return gauge_value(id, scrape, series / LOAD_N_KINDS % 2 == 1);
}

int64_t load_time_us(const struct load *load, uint32_t agent, uint64_t scrape)
{
    return load->first_us + (int64_t) scrape * load->interval_us +
           (int64_t) agent * (load->interval_us / (int64_t) load->n_agents);
}

const char *load_kind_name(enum load_kind kind)
{
    static const char *const names[LOAD_N_KINDS] = {
        [LOAD_CONSTANT] = "bench.constant",
        [LOAD_COUNTER] = "bench.counter",
        [LOAD_GAUGE] = "bench.gauge",
    };

    ensure(kind < LOAD_N_KINDS);
    return names[kind];
}

uint32_t load_n_of_kind(const struct load *load, enum load_kind kind)
{
    return (load->n_series + LOAD_N_KINDS - 1 - (uint32_t) kind) / LOAD_N_KINDS;
}

/* ---- declarations ---- */

struct declared {
    Sentinel__Telemetry__V1__Series message;
    Sentinel__Telemetry__V1__Attribute run, item;
    Sentinel__Telemetry__V1__Attribute *attributes[2];
    char item_text[12];
};

static void declare(struct declared *to, struct load *load, uint32_t series)
{
    static char item_key[] = "item", run_key[] = "run", unit[] = "1";

    sentinel__telemetry__v1__series__init(&to->message);
    sentinel__telemetry__v1__attribute__init(&to->run);
    sentinel__telemetry__v1__attribute__init(&to->item);
    snprintf(to->item_text, sizeof(to->item_text), "%" PRIu32, series);
    to->item.key = item_key;
    to->item.value = to->item_text;
    to->run.key = run_key;
    to->run.value = load->run;
    to->attributes[0] = &to->item;
    to->attributes[1] = &to->run;
    to->message.id = series + 1;
    to->message.name = (char *) (uintptr_t) load_kind_name(load_kind_of(series));
    to->message.unit = unit;
    to->message.kind = load_kind_of(series) == LOAD_COUNTER
                           ? SENTINEL__TELEMETRY__V1__KIND__KIND_COUNTER
                           : SENTINEL__TELEMETRY__V1__KIND__KIND_GAUGE;
    to->message.attributes = to->attributes;
    to->message.n_attributes = 2;
}

static int pack_declarations(struct load *load, struct declared *rows, struct arena *arena)
{
    Sentinel__Telemetry__V1__Series **series =
        arena_alloc_array(arena, load->n_series, sizeof(Sentinel__Telemetry__V1__Series *));
    uint32_t *ids = arena_alloc_array(arena, load->n_series, sizeof(*ids));
    Sentinel__Telemetry__V1__MetricBatch batch;
    Sentinel__Telemetry__V1__Layout layout, *layouts[1] = { &layout };

    if (!series || !ids)
        return fault(-ENOMEM, "no memory for %" PRIu32 " series", load->n_series);
    sentinel__telemetry__v1__metric_batch__init(&batch);
    sentinel__telemetry__v1__layout__init(&layout);
    for (uint32_t i = 0; i < load->n_series; i++) {
        declare(&rows[i], load, i);
        series[i] = &rows[i].message;
        ids[i] = i + 1;
    }
    layout.id = LAYOUT_ID;
    layout.series_ids = ids;
    layout.n_series_ids = load->n_series;
    batch.series = series;
    batch.n_series = load->n_series;
    batch.layouts = layouts;
    batch.n_layouts = 1;
    return pass(wire_pack(&batch.base, &load->declarations));
}

int load_init(struct load *load)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct declared *rows;

    ensure(load->n_agents > 0 && load->n_series > 0 && load->n_series <= LOAD_MAX_SERIES);
    ensure((uint64_t) load->batch_scrapes * load->n_series <= LOAD_MAX_SAMPLES);
    ensure(load->first_us % load->interval_us == 0);
    load->declarations = (struct buf){ 0 };
    arena_init(&arena, ARENA_BYTES);
    rows = arena_alloc_array(&arena, load->n_series, sizeof(*rows));
    if (!rows)
        return fault(-ENOMEM, "no memory for %" PRIu32 " series", load->n_series);
    return pass(pack_declarations(load, rows, &arena));
}

void load_deinit(struct load *load)
{
    buf_deinit(&load->declarations);
}

/* ---- messages ---- */

static size_t varint_bytes(uint64_t value)
{
    size_t n = 1;

    while (value >>= 7)
        n++;
    return n;
}

static uint8_t *put_varint(uint8_t *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *to++ = (uint8_t) (value | 0x80);
    *to++ = (uint8_t) value;
    return to;
}

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
    for (uint32_t i = LOAD_CONSTANT; i < load->n_series; i += LOAD_N_KINDS)
        put_double(at + (size_t) i * 8, load_value(agent, i, 0));
}

int load_message_init(struct load_message *message, const struct load *load, uint32_t agent)
{
    const struct scrape_shape shape = shape_of(load);

    message->agent = agent;
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
}

/* Times and values; constants are there from the beginning. */
static void patch_scrapes(struct load_message *message, const struct load *load, uint64_t sequence)
{
    const struct scrape_shape shape = shape_of(load);
    uint64_t scrape = (sequence - 1) * load->batch_scrapes;

    for (uint32_t n = 0; n < load->batch_scrapes; n++, scrape++) {
        uint8_t *at = message->bytes + FRONT_BYTES + n * shape.total_bytes;
        uint8_t *values = at + shape.values_at;

        put_u64(at + shape.time_at, (uint64_t) load_time_us(load, message->agent, scrape));
        for (uint32_t i = LOAD_COUNTER; i < load->n_series; i += LOAD_N_KINDS)
            put_double(values + (size_t) i * 8, load_value(message->agent, i, scrape));
        for (uint32_t i = LOAD_GAUGE; i < load->n_series; i += LOAD_N_KINDS)
            put_double(values + (size_t) i * 8, load_value(message->agent, i, scrape));
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
    patch_scrapes(message, load, sequence);
    buf_clear(to);
    buf_append(to, front,
               put_front(front, sequence, load->declarations.len + message->scrapes_bytes));
    buf_append_span(to, buf_span(&load->declarations));
    buf_append(to, message->bytes + FRONT_BYTES, message->scrapes_bytes);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a message with declarations") : 0;
}
