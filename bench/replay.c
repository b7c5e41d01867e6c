/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The file, little-endian:
 *
 *   "SNTLRPLY"  u32 version  u32 n_series  u32 n_rows  u64 first_us  u64 interval_us
 *   phases      (varint n, u8 phase)* until n_rows
 *   series      text name, text unit, u8 is_counter, varint n_attributes, (text key, text value)*,
 *               (varint n, 8 bytes: the double's bits)* until n_rows: a value and how often it
 * repeats u32 crc32c of all before
 *
 *   text        varint length, bytes
 */

#include "bench/replay.h"

#include <errno.h>
#include <string.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"

#define MAGIC "SNTLRPLY"
#define MAGIC_BYTES 8
#define VERSION 1u
#define HEADER_BYTES (MAGIC_BYTES + 4 + 4 + 4 + 8 + 8)
#define ARENA_BYTES (UINT64_C(4) << 30)
#define MAX_TEXT_BYTES 1024u

const char *replay_phase_name(enum replay_phase phase)
{
    static const char *const names[REPLAY_N_PHASES] = {
        [REPLAY_IDLE] = "idle",
        [REPLAY_BUSY] = "busy",
        [REPLAY_IO] = "io",
        [REPLAY_MIXED] = "mixed",
    };

    ensure(phase < REPLAY_N_PHASES);
    return names[phase];
}

void replay_deinit(struct replay *replay)
{
    arena_deinit(&replay->arena);
    *replay = (struct replay){ 0 };
}

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* ---- out ---- */

static void put_fixed(struct buf *to, uint64_t value, int n_bytes)
{
    uint8_t bytes[8];

    for (int i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t) (value >> (8 * i));
    buf_append(to, bytes, (size_t) n_bytes);
}

static void put_varint(struct buf *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;

    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (uint8_t) (value | 0x80);
    bytes[n++] = (uint8_t) value;
    buf_append(to, bytes, n);
}

static void put_text(struct buf *to, const char *text)
{
    put_varint(to, strlen(text));
    buf_append_text(to, text);
}

static void put_phases(struct buf *to, const struct replay *replay)
{
    for (uint32_t i = 0, n; i < replay->n_rows; i += n) {
        for (n = 1; i + n < replay->n_rows && replay->phases[i + n] == replay->phases[i]; n++)
            continue;
        put_varint(to, n);
        put_fixed(to, replay->phases[i], 1);
    }
}

static void put_values(struct buf *to, const double *values, uint32_t n_rows)
{
    for (uint32_t i = 0, n; i < n_rows; i += n) {
        for (n = 1; i + n < n_rows && bits_of(values[i + n]) == bits_of(values[i]); n++)
            continue;
        put_varint(to, n);
        put_fixed(to, bits_of(values[i]), 8);
    }
}

int replay_encode(const struct replay *replay, struct buf *to)
{
    const size_t begin = to->len;

    buf_append(to, MAGIC, MAGIC_BYTES);
    put_fixed(to, VERSION, 4);
    put_fixed(to, replay->n_series, 4);
    put_fixed(to, replay->n_rows, 4);
    put_fixed(to, (uint64_t) replay->first_us, 8);
    put_fixed(to, (uint64_t) replay->interval_us, 8);
    put_phases(to, replay);
    for (uint32_t i = 0; i < replay->n_series; i++) {
        const struct replay_series *series = &replay->series[i];

        put_text(to, series->name);
        put_text(to, series->unit);
        put_fixed(to, series->is_counter, 1);
        put_varint(to, series->n_attributes);
        for (uint32_t a = 0; a < series->n_attributes; a++) {
            put_text(to, series->attributes[a].key);
            put_text(to, series->attributes[a].value);
        }
        put_values(to, series->values, replay->n_rows);
    }
    if (!buf_failed(to))
        put_fixed(to, crc32c(0, to->data + begin, to->len - begin), 4);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a recording") : 0;
}

/* ---- in ---- */

/* The first thing that is wrong stays; from then on everything reads as zero. */
struct reader {
    struct span rest;
    const char *why;
};

static void refuse(struct reader *reader, const char *why)
{
    if (!reader->why)
        reader->why = why;
    reader->rest.len = 0;
}

static uint64_t get_fixed(struct reader *reader, size_t n_bytes)
{
    uint64_t value = 0;

    if (reader->rest.len < n_bytes) {
        refuse(reader, "it ends too early");
        return 0;
    }
    for (size_t i = 0; i < n_bytes; i++)
        value |= (uint64_t) reader->rest.data[i] << (8 * i);
    reader->rest = span_of(reader->rest.data + n_bytes, reader->rest.len - n_bytes);
    return value;
}

static uint64_t get_varint(struct reader *reader)
{
    uint64_t value = 0;

    for (int shift = 0; shift < 64; shift += 7) {
        uint64_t byte = get_fixed(reader, 1);

        value |= (byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    refuse(reader, "a number is too long");
    return 0;
}

static const char *get_text(struct reader *reader, struct arena *arena)
{
    const uint64_t len = get_varint(reader);
    const char *text;

    if (len > MAX_TEXT_BYTES || len > reader->rest.len) {
        refuse(reader, "a text is too long");
        return "";
    }
    text = arena_copy(arena, span_of(reader->rest.data, (size_t) len));
    reader->rest = span_of(reader->rest.data + len, reader->rest.len - (size_t) len);
    if (!text)
        refuse(reader, "it is too large");
    return text ? text : "";
}

/* How many of the rows from `at` on have the value that follows. */
static uint32_t get_run(struct reader *reader, uint32_t at, uint32_t n_rows)
{
    const uint64_t n = get_varint(reader);

    if (n == 0 || n > n_rows - at)
        refuse(reader, "a run of values is longer than the recording");
    return reader->why ? n_rows - at : (uint32_t) n;
}

static void get_phases(struct reader *reader, struct replay *to)
{
    for (uint32_t i = 0, n; i < to->n_rows; i += n) {
        uint64_t phase;

        n = get_run(reader, i, to->n_rows);
        phase = get_fixed(reader, 1);
        if (phase >= REPLAY_N_PHASES)
            refuse(reader, "there is no such phase");
        memset(to->phases + i, (int) phase, n);
    }
}

static void get_values(struct reader *reader, double *to, uint32_t n_rows)
{
    for (uint32_t i = 0, n; i < n_rows; i += n) {
        uint64_t bits;
        double value;

        n = get_run(reader, i, n_rows);
        bits = get_fixed(reader, 8);
        memcpy(&value, &bits, sizeof(value));
        for (uint32_t k = 0; k < n; k++)
            to[i + k] = value;
    }
}

static void get_series(struct reader *reader, struct replay *replay, struct replay_series *to)
{
    uint64_t n_attributes;

    to->name = get_text(reader, &replay->arena);
    to->unit = get_text(reader, &replay->arena);
    to->is_counter = get_fixed(reader, 1) != 0;
    n_attributes = get_varint(reader);
    if (n_attributes > REPLAY_MAX_ATTRIBUTES) {
        refuse(reader, "a series has too many attributes");
        n_attributes = 0;
    }
    to->n_attributes = (uint32_t) n_attributes;
    to->attributes = arena_alloc_array(&replay->arena, n_attributes + 1, sizeof(*to->attributes));
    to->values = arena_alloc_array(&replay->arena, replay->n_rows, sizeof(double));
    if (!to->attributes || !to->values) {
        refuse(reader, "it is too large");
        return;
    }
    for (uint32_t a = 0; a < to->n_attributes; a++) {
        to->attributes[a].key = get_text(reader, &replay->arena);
        to->attributes[a].value = get_text(reader, &replay->arena);
    }
    get_values(reader, to->values, replay->n_rows);
}

static void get_header(struct reader *reader, struct replay *to)
{
    uint64_t n_series, n_rows;

    if (get_fixed(reader, 4) != VERSION)
        refuse(reader, "it is of another version; record anew");
    n_series = get_fixed(reader, 4);
    n_rows = get_fixed(reader, 4);
    to->first_us = (int64_t) get_fixed(reader, 8);
    to->interval_us = (int64_t) get_fixed(reader, 8);
    if (n_series == 0 || n_series > REPLAY_MAX_SERIES || n_rows < 2 || n_rows > REPLAY_MAX_ROWS)
        refuse(reader, "it has no series, fewer than two rows, or too many of either");
    if (reader->why)
        return;
    to->n_series = (uint32_t) n_series;
    to->n_rows = (uint32_t) n_rows;
    to->series = arena_alloc_array(&to->arena, n_series, sizeof(*to->series));
    to->phases = arena_alloc_array(&to->arena, n_rows, 1);
    if (!to->series || !to->phases)
        refuse(reader, "it is too large");
}

int replay_decode(struct span bytes, struct replay *ret, const char **ret_why)
{
    struct replay replay = { 0 };
    struct reader reader = { .rest = bytes };

    if (bytes.len < HEADER_BYTES + 4 || memcmp(bytes.data, MAGIC, MAGIC_BYTES) != 0) {
        *ret_why = "it is not a recording; `sentinel-bench record` makes one";
        return REPLAY_BAD;
    }
    reader.rest = span_of(bytes.data + bytes.len - 4, 4);
    if (get_fixed(&reader, 4) != crc32c(0, bytes.data, bytes.len - 4)) {
        *ret_why = "it is damaged; record anew";
        return REPLAY_BAD;
    }
    reader.rest = span_of(bytes.data + MAGIC_BYTES, bytes.len - MAGIC_BYTES - 4);
    arena_init(&replay.arena, ARENA_BYTES);
    get_header(&reader, &replay);
    if (!reader.why)
        get_phases(&reader, &replay);
    for (uint32_t i = 0; i < replay.n_series && !reader.why; i++)
        get_series(&reader, &replay, &replay.series[i]);
    if (!reader.why && reader.rest.len > 0)
        refuse(&reader, "there is something behind its end");
    if (reader.why) {
        *ret_why = reader.why;
        replay_deinit(&replay);
        return REPLAY_BAD;
    }
    *ret = replay;
    return REPLAY_OK;
}
