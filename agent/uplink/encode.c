/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplink/encode.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

/* Of the structs around one batch; collect.max_series bounds what a batch declares. */
#define ARENA_BYTES (32u << 20)
/* Of the layouts of a stream: far below what a hub takes by default, and half a MiB there. */
#define FULL_MEMBERS 65536u
/* What a hub takes of a stream: series and layouts agent_series each, and so many times as many
 * members of layouts. */
#define MEMBER_FACTOR 16u
#define FULL_LAYOUTS 8u /* of the last one's size, where that is more */

/* ---- ids ---- */

static bool ids_has(const struct encoder_ids *ids, uint32_t id)
{
    return id / 64 < ids->n_words && (ids->words[id / 64] >> (id % 64) & 1) != 0;
}

static int ids_add(struct encoder_ids *ids, uint32_t id)
{
    if (id / 64 >= ids->n_words) {
        size_t n_words = id / 64 + 64;
        uint64_t *words = realloc(ids->words, n_words * sizeof(*words));

        if (!words)
            return fault(-ENOMEM, "no memory for the ids of a stream");
        memset(words + ids->n_words, 0, (n_words - ids->n_words) * sizeof(*words));
        ids->words = words;
        ids->n_words = n_words;
    }
    ids->words[id / 64] |= UINT64_C(1) << (id % 64);
    return 0;
}

static void ids_clear(struct encoder_ids *ids)
{
    free(ids->words);
    *ids = (struct encoder_ids){ 0 };
}

void encoder_deinit(struct encoder *encoder)
{
    ids_clear(&encoder->series);
    ids_clear(&encoder->layouts);
}

void encoder_reset(struct encoder *encoder)
{
    encoder_deinit(encoder);
    encoder->n_members = encoder->n_last_series = 0;
    encoder->n_series = encoder->n_layouts = 0;
}

bool encoder_is_full(const struct encoder *encoder)
{
    return encoder->n_members > FULL_MEMBERS &&
           encoder->n_members > (uint64_t) FULL_LAYOUTS * encoder->n_last_series;
}

bool encoder_has_room(const struct encoder *encoder,
                      enum spool_signal signal,
                      const struct spool_item *item,
                      uint32_t agent_series)
{
    const struct spool_layout *layout = item->scrape.layout;
    uint64_t n_new = 0;

    if (item->is_skip || signal != SPOOL_METRICS || agent_series == 0 || encoder->n_layouts == 0 ||
        ids_has(&encoder->layouts, layout->id))
        return true;
    for (size_t i = 0; i < layout->n_series; i++)
        n_new += !ids_has(&encoder->series, layout->series[i]->id);
    return encoder->n_series + n_new <= agent_series && encoder->n_layouts < agent_series &&
           encoder->n_members + layout->n_series <= (uint64_t) MEMBER_FACTOR * agent_series;
}

/* ---- batches ---- */

/* protobuf-c's structs have no const; packing only reads. */
static char *unconst(const char *text)
{
    return (char *) (uintptr_t) text;
}

static Sentinel__Telemetry__V1__Attribute **
make_attributes(struct arena *arena, const struct spool_attribute *from, size_t n)
{
    Sentinel__Telemetry__V1__Attribute **rows =
        arena_alloc_array(arena, n, sizeof(Sentinel__Telemetry__V1__Attribute *));
    Sentinel__Telemetry__V1__Attribute *attributes =
        arena_alloc_array(arena, n, sizeof(*attributes));

    if (!rows || !attributes)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        sentinel__telemetry__v1__attribute__init(&attributes[i]);
        attributes[i].key = unconst(from[i].key);
        attributes[i].value = unconst(from[i].value);
        rows[i] = &attributes[i];
    }
    return rows;
}

static Sentinel__Telemetry__V1__Series *make_series(struct arena *arena,
                                                    const struct spool_series *from)
{
    Sentinel__Telemetry__V1__Series *series = arena_alloc(arena, sizeof(*series));

    if (!series)
        return NULL;
    sentinel__telemetry__v1__series__init(series);
    series->id = from->id;
    series->name = unconst(from->name);
    series->unit = unconst(from->unit);
    series->kind = from->kind == SPOOL_COUNTER ? SENTINEL__TELEMETRY__V1__KIND__KIND_COUNTER
                                               : SENTINEL__TELEMETRY__V1__KIND__KIND_GAUGE;
    if (from->n_attributes == 0)
        return series;
    series->n_attributes = from->n_attributes;
    series->attributes = make_attributes(arena, from->attributes, from->n_attributes);
    return series->attributes ? series : NULL;
}

/* The layout, and those of its series that the stream has not heard of. */
static int declare(const struct encoder *encoder,
                   const struct spool_layout *layout,
                   struct arena *arena,
                   Sentinel__Telemetry__V1__MetricBatch *batch)
{
    Sentinel__Telemetry__V1__Layout *message = arena_alloc(arena, sizeof(*message));

    batch->layouts = arena_alloc(arena, sizeof(Sentinel__Telemetry__V1__Layout *));
    batch->series =
        arena_alloc_array(arena, layout->n_series + 1, sizeof(Sentinel__Telemetry__V1__Series *));
    if (!message || !batch->layouts || !batch->series)
        return fault(-ENOMEM, "a layout of %zu series is too large", layout->n_series);

    sentinel__telemetry__v1__layout__init(message);
    message->id = layout->id;
    message->n_series_ids = layout->n_series;
    message->series_ids = arena_alloc_array(arena, layout->n_series + 1, sizeof(uint32_t));
    if (!message->series_ids)
        return fault(-ENOMEM, "a layout of %zu series is too large", layout->n_series);
    batch->layouts[batch->n_layouts++] = message;

    for (size_t i = 0; i < layout->n_series; i++) {
        message->series_ids[i] = layout->series[i]->id;
        if (ids_has(&encoder->series, layout->series[i]->id))
            continue;
        batch->series[batch->n_series] = make_series(arena, layout->series[i]);
        if (!batch->series[batch->n_series])
            return fault(-ENOMEM, "a layout of %zu series is too large", layout->n_series);
        batch->n_series++;
    }
    return 0;
}

static int put_batch(const struct encoder *encoder,
                     const struct spool_item *item,
                     const struct uplink_clock *clock,
                     struct arena *arena,
                     struct buf *to)
{
    const struct spool_scrape *from = &item->scrape;
    Sentinel__Telemetry__V1__StreamMetricsRequest request;
    Sentinel__Telemetry__V1__MetricBatch batch;
    Sentinel__Telemetry__V1__Scrape scrape;
    Sentinel__Telemetry__V1__Scrape *scrapes = &scrape;
    int r;

    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    sentinel__telemetry__v1__metric_batch__init(&batch);
    sentinel__telemetry__v1__scrape__init(&scrape);
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_BATCH;
    request.batch = &batch;
    batch.sequence = item->sequence;
    batch.n_scrapes = 1;
    batch.scrapes = &scrapes;
    if (!ids_has(&encoder->layouts, from->layout->id)) {
        r = declare(encoder, from->layout, arena, &batch);
        if (r)
            return pass(r);
    }
    scrape.time_unix_us = uplink_stamp_scrape(clock, item);
    scrape.layout_id = from->layout->id;
    scrape.n_values = from->layout->n_series;
    scrape.values = (double *) (uintptr_t) from->values;
    scrape.n_absent = from->n_absent;
    scrape.absent = (uint32_t *) (uintptr_t) from->absent;
    return pass(wire_pack(&request.base, to));
}

static int put_skip(const struct spool_item *item, struct buf *to)
{
    Sentinel__Telemetry__V1__StreamMetricsRequest request;
    Sentinel__Telemetry__V1__Skip skip;

    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    sentinel__telemetry__v1__skip__init(&skip);
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_SKIP;
    request.skip = &skip;
    skip.through_sequence = item->sequence;
    skip.reason = (Sentinel__Telemetry__V1__SkipReason) item->reason;
    skip.records = item->records;
    return pass(wire_pack(&request.base, to));
}

int encoder_put(struct encoder *encoder,
                enum spool_signal signal,
                const struct spool_item *item,
                const struct uplink_clock *clock,
                struct buf *to)
{
    struct arena arena;
    int r;

    if (item->is_skip)
        return pass(put_skip(item, to));
    if (signal == SPOOL_LOGS) {
        encoder_put_logs(item, uplink_log_offset(clock, item), to);
        return buf_failed(to) ? fault(-ENOMEM, "no memory for a batch of logs") : 0;
    }
    arena_init(&arena, ARENA_BYTES);
    r = put_batch(encoder, item, clock, &arena, to);
    arena_deinit(&arena);
    return pass(r);
}

int64_t encoder_newest_us(enum spool_signal signal,
                          const struct spool_item *item,
                          const struct uplink_clock *clock)
{
    return signal == SPOOL_METRICS ? uplink_stamp_scrape(clock, item)
                                   : encoder_newest_log_us(item, uplink_log_offset(clock, item));
}

int encoder_commit(struct encoder *encoder, enum spool_signal signal, const struct spool_item *item)
{
    const struct spool_layout *layout = item->scrape.layout;
    int r = 0;

    if (item->is_skip || signal != SPOOL_METRICS || ids_has(&encoder->layouts, layout->id))
        return 0;
    for (size_t i = 0; i < layout->n_series && r == 0; i++) {
        encoder->n_series += !ids_has(&encoder->series, layout->series[i]->id);
        r = ids_add(&encoder->series, layout->series[i]->id);
    }
    if (r == 0)
        r = ids_add(&encoder->layouts, layout->id);
    encoder->n_layouts++;
    encoder->n_members += layout->n_series;
    encoder->n_last_series = layout->n_series;
    return pass(r);
}

/* ---- hello ---- */

static ProtobufCBinaryData bytes_of(const uint8_t *data, size_t len)
{
    return (ProtobufCBinaryData){ .len = len, .data = (uint8_t *) (uintptr_t) data };
}

static ProtobufCBinaryData bytes_of_source(const struct identity_fingerprint *fingerprint,
                                           enum identity_source source)
{
    return bytes_of(fingerprint->sha256[source],
                    fingerprint->has[source] ? sizeof(fingerprint->sha256[source]) : 0);
}

int encoder_put_hello(const struct encoder_hello *from, struct buf *to)
{
    Sentinel__Telemetry__V1__Attribute attributes[COLLECT_HOST_ROWS];
    Sentinel__Telemetry__V1__Attribute *rows[COLLECT_HOST_ROWS];
    Sentinel__Telemetry__V1__StreamMetricsRequest request;
    Sentinel__Telemetry__V1__StreamHello hello;
    Sentinel__Telemetry__V1__Fingerprint fingerprint;
    const struct collect_host *host = from->host;

    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    sentinel__telemetry__v1__stream_hello__init(&hello);
    sentinel__telemetry__v1__fingerprint__init(&fingerprint);
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_HELLO;
    request.hello = &hello;

    fingerprint.machine_id = bytes_of_source(&host->fingerprint, IDENTITY_MACHINE_ID);
    fingerprint.dmi = bytes_of_source(&host->fingerprint, IDENTITY_DMI);
    fingerprint.boot_disk = bytes_of_source(&host->fingerprint, IDENTITY_BOOT_DISK);
    fingerprint.first_mac = bytes_of_source(&host->fingerprint, IDENTITY_FIRST_MAC);
    for (size_t i = 0; i < host->n_attributes; i++) {
        sentinel__telemetry__v1__attribute__init(&attributes[i]);
        attributes[i].key = unconst(host->attributes[i].key);
        attributes[i].value = unconst(host->attributes[i].value);
        rows[i] = &attributes[i];
    }
    hello.spool_id = bytes_of(from->run.id, sizeof(from->run.id));
    hello.first_sequence = from->run.first_sequence;
    hello.last_sequence = from->run.last_sequence;
    hello.crc32c_before_first = from->run.crc32c_before_first;
    hello.instance = bytes_of(from->instance, 16);
    hello.fingerprint = &fingerprint;
    hello.time_unix_us = from->time.us;
    hello.agent_version = unconst(SENTINEL_VERSION);
    hello.lane = from->lane == SPOOL_BACKFILL ? SENTINEL__TELEMETRY__V1__LANE__LANE_BACKFILL
                                              : SENTINEL__TELEMETRY__V1__LANE__LANE_LIVE;
    if (from->is_probe)
        hello.lane = SENTINEL__TELEMETRY__V1__LANE__LANE_UNSPECIFIED;
    hello.n_host = host->n_attributes;
    hello.host = rows;
    hello.registry_generation = from->generation;
    hello.interval_ms = from->interval_ms;
    return pass(wire_pack(&request.base, to));
}

/* ---- responses ---- */

static void read_anchor(const Sentinel__Telemetry__V1__AuditAnchor *anchor,
                        struct keeper_welcome *ret)
{
    ret->anchor.time_us = anchor->time_unix_us;
    ret->anchor.entry = anchor->entry;
    ret->anchor.sha256 = span_of(anchor->sha256.data, anchor->sha256.len);
    ret->anchor.signature = span_of(anchor->signature.data, anchor->signature.len);
}

static void read_welcome(const Sentinel__Telemetry__V1__Welcome *welcome,
                         struct encoder_response *ret)
{
    ret->kind = ENCODER_WELCOME;
    ret->sequence = welcome->resume_after_sequence;
    ret->hub_us = welcome->hub_time_unix_us;
    ret->text = welcome->hub_version;
    ret->lost_first = welcome->lost_first_sequence;
    ret->lost_last = welcome->lost_last_sequence;
    ret->hub.hub_us = welcome->hub_time_unix_us;
    ret->hub.generation = welcome->registry_generation;
    if (welcome->audit_anchor)
        read_anchor(welcome->audit_anchor, &ret->hub);
    if (welcome->limits) {
        ret->unacknowledged_batches = welcome->limits->unacknowledged_batches;
        ret->log_body_bytes = welcome->limits->log_body_bytes;
        ret->log_block_version = welcome->limits->log_block_version;
        ret->message_bytes = welcome->limits->message_bytes;
        ret->oldest_s = welcome->limits->oldest_s;
        ret->agent_series = welcome->limits->agent_series;
    }
    if (welcome->intervals) {
        ret->interval_ms = welcome->intervals->metrics_ms;
        ret->spread_ms = welcome->intervals->reconnect_spread_ms;
    }
}

int encoder_read(struct span message,
                 struct arena *arena,
                 struct encoder_response *ret,
                 struct wire_problem *ret_problem)
{
    const Sentinel__Telemetry__V1__StreamMetricsResponse *response;
    ProtobufCMessage *unpacked;
    int r = wire_unpack(&sentinel__telemetry__v1__stream_metrics_response__descriptor, message,
                        arena, &unpacked, ret_problem);

    if (r)
        return r < 0 ? pass(r) : r;
    response = (const Sentinel__Telemetry__V1__StreamMetricsResponse *) (void *) unpacked;
    *ret = (struct encoder_response){ .kind = ENCODER_OTHER };
    if (response->message_case == SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_WELCOME)
        read_welcome(response->welcome, ret);
    if (response->message_case == SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_ACK) {
        ret->kind = ENCODER_ACK;
        ret->sequence = response->ack->sequence;
    }
    if (response->message_case ==
        SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_THROTTLE) {
        ret->kind = ENCODER_THROTTLE;
        ret->retry_after_ms = response->throttle->retry_after_ms;
        ret->text = response->throttle->reason;
    }
    return 0;
}
