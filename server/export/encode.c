/* SPDX-License-Identifier: Apache-2.0 */
#include "server/export/encode.h"

#include <string.h>

/* Tags: field << 3 | type. Those of labels and of a TimeSeries in a WriteRequest are the same. */
#define TAG_BYTES_1 0x0a
#define TAG_BYTES_2 0x12
#define TAG_F64_1 0x09
#define TAG_VARINT_2 0x10

#define NAME "__name__"

/* model/value of Prometheus: a signalling NaN that ends a series, and the NaN of its own. */
#define STALE_NAN UINT64_C(0x7ff0000000000002)
#define NORMAL_NAN UINT64_C(0x7ff8000000000001)

static size_t varint_size(uint64_t value)
{
    return value == 0 ? 1 : (70 - (size_t) __builtin_clzll(value)) / 7;
}

static uint8_t *put_varint(uint8_t *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *to++ = (uint8_t) (value | 0x80);
    *to++ = (uint8_t) value;
    return to;
}

static uint8_t *put_bytes(uint8_t *to, uint8_t tag, const char *text, size_t len)
{
    *to++ = tag;
    to = put_varint(to, len);
    memcpy(to, text, len);
    return to + len;
}

static size_t bytes_size(size_t len)
{
    return 1 + varint_size(len) + len;
}

void encode_label(struct buf *to, const char *name, const char *value)
{
    size_t name_len = strlen(name), value_len = strlen(value);
    size_t len = bytes_size(name_len) + bytes_size(value_len);
    uint8_t *at = buf_extend(to, bytes_size(len));

    if (!at)
        return;
    *at++ = TAG_BYTES_1;
    at = put_varint(at, len);
    at = put_bytes(at, TAG_BYTES_1, name, name_len);
    put_bytes(at, TAG_BYTES_2, value, value_len);
}

void encode_labels(struct buf *before,
                   struct buf *behind,
                   const char *name,
                   const struct prom_label *labels,
                   size_t n_labels,
                   const struct prom_label *more,
                   size_t n_more)
{
    bool has_name = false;

    for (size_t i = 0, j = 0; i < n_labels || j < n_more;) {
        int order = i == n_labels ? 1 : j == n_more ? -1 : strcmp(labels[i].name, more[j].name);
        const struct prom_label *next = order <= 0 ? &labels[i++] : &more[j++];

        j += order == 0;
        if (!next->name[0] || !next->value[0])
            continue;
        if (!has_name && strcmp(next->name, NAME) > 0) {
            encode_label(before, NAME, name);
            has_name = true;
        }
        encode_label(strcmp(next->name, "agent") < 0 ? before : behind, next->name, next->value);
    }
    if (!has_name)
        encode_label(before, NAME, name);
}

static uint8_t *put_sample(uint8_t *to, const struct encode_sample *sample, size_t len)
{
    uint64_t bits = sample->bits == STALE_NAN ? NORMAL_NAN : sample->bits;

    *to++ = TAG_BYTES_2;
    *to++ = (uint8_t) len;
    *to++ = TAG_F64_1;
    memcpy(to, &bits, sizeof(bits)); /* little-endian, as all that this hub runs on */
    to += sizeof(bits);
    *to++ = TAG_VARINT_2;
    return put_varint(to, (uint64_t) sample->time_ms);
}

static size_t sample_size(const struct encode_sample *sample)
{
    return 1 + 8 + 1 + varint_size((uint64_t) sample->time_ms);
}

static uint8_t *put_span(uint8_t *to, struct span span)
{
    if (span.len > 0)
        memcpy(to, span.data, span.len);
    return to + span.len;
}

void encode_series(struct buf *to,
                   const struct encode_series *series,
                   const struct encode_sample *samples,
                   size_t n_samples)
{
    size_t len = series->before.len + series->agent.len + series->behind.len;
    uint8_t *at;

    for (size_t i = 0; i < n_samples; i++)
        len += 2 + sample_size(&samples[i]);
    at = buf_extend(to, bytes_size(len));
    if (!at)
        return;
    *at++ = TAG_BYTES_1;
    at = put_varint(at, len);
    at = put_span(at, series->before);
    at = put_span(at, series->agent);
    at = put_span(at, series->behind);
    for (size_t i = 0; i < n_samples; i++)
        at = put_sample(at, &samples[i], sample_size(&samples[i]));
}

int64_t encode_ms(int64_t time_us)
{
    return time_us / 1000 - (time_us % 1000 < 0);
}
