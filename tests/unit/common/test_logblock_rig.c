/* SPDX-License-Identifier: Apache-2.0 */
#include "test_logblock_rig.h"

#include <stdlib.h>
#include <string.h>

static struct rand rng;
struct logblock_work *rig_work;
struct logblock_room *rig_room;
struct buf rig_out, rig_texts;
struct logblock_record rig_records[RIG_RECORDS_MAX];
struct logblock_attribute rig_attributes[RIG_SETS][RIG_ATTRIBUTES_MAX];
struct logblock_source rig_source;
size_t rig_n_records;

void rig_start(void)
{
    rand_init(&rng, 5);
    rig_work = logblock_work_new();
    rig_room = logblock_room_new();
    ck_assert(rig_work && rig_room);
}

void rig_stop(void)
{
    rig_work = logblock_work_free(rig_work);
    rig_room = logblock_room_free(rig_room);
    buf_deinit(&rig_out);
    buf_deinit(&rig_texts);
}

uint64_t rig_below(uint64_t bound)
{
    return rand_below(&rng, bound);
}

/* ---- input ---- */

/* Of everything that may be in a body. */
static size_t random_text(uint8_t *to, size_t max)
{
    static const char *const pieces[] = {
        "error",      "GET",
        "a",          "10.0.31.7",
        "41d4",       "1.2.3.4.5",
        "2026-11-27", "_x_",
        "\n",         "\xff",
        "\xc3\xa4",   "0",
        "deadbeef",   "12345",
        "..",         "=\"",
        "/var/log",   "E29B",
        "0.123",      "999.1.2.3",
        "1000.2.3.4", "averyveryverylongwordindeed",
        " ",          " ",
        " ",          " ",
        ":",          ".",
        ".",
    };
    size_t len = 0, goal = rig_below(max + 1);

    while (len < goal) {
        struct span piece = span_of_text(pieces[rig_below(sizeof(pieces) / sizeof(*pieces))]);
        size_t n = piece.len;

        if (rig_below(20) == 0) {
            to[len++] = (uint8_t) rig_below(256);
            continue;
        }
        n = n < goal - len ? n : goal - len;
        memcpy(to + len, piece.data, n);
        len += n;
    }
    return len;
}

static int64_t random_time(unsigned how, int64_t before)
{
    switch (how) {
    case 0:
        return (int64_t) ((uint64_t) before + rig_below(3000000) - 1000000); /* it may fall */
    case 1:
        return (int64_t) ((uint64_t) before + rig_below(5) * 1000000);
    case 2:
        return (int64_t) ((uint64_t) before + rig_below(50) * 1000);
    default:
        return (int64_t[]){ INT64_MIN, INT64_MAX, 0, -1, (int64_t) rand_u64(&rng) }[rig_below(5)];
    }
}

static void random_attributes(size_t max_len)
{
    for (size_t set = 0; set < RIG_SETS; set++)
        for (size_t i = 0; i < RIG_ATTRIBUTES_MAX; i++) {
            uint8_t *text = rig_texts.data + rig_texts.len;
            size_t key = random_text(text, max_len), value = random_text(text + key, max_len);

            rig_attributes[set][i].key = span_of(text, key);
            rig_attributes[set][i].value = span_of(text + key, value);
            rig_texts.len += key + value;
        }
}

static void random_record(struct logblock_record *record, unsigned how, size_t max_len)
{
    static struct logblock_place place;
    static int64_t time_us;
    size_t set = rig_below(4) ? 0 : rig_below(RIG_SETS);

    if (rig_below(10) == 0)
        place = (struct logblock_place){ place.chunk + rig_below(3), (uint32_t) rig_below(1u << 31),
                                         (uint32_t) rig_below(9) };
    time_us = random_time(how, time_us);
    *record = (struct logblock_record){
        .time_us = time_us,
        .observed_us = rig_below(3) ? random_time(how, time_us) : time_us,
        .source_offset = rig_below(4) ? rig_texts.len : rand_u64(&rng),
        .severity = rig_below(3) ? 9 : (uint32_t) rig_below(LOGBLOCK_SEVERITY_MAX + 1),
        .is_raw = rig_below(9) == 0,
        .has_trace_id = rig_below(5) == 0,
        .has_span_id = rig_below(5) == 0,
        .attributes = rig_attributes[set],
        .n_attributes = rig_below(3) ? 3 : rig_below(RIG_ATTRIBUTES_MAX + 1),
        .place = place,
    };
    place.index++;
    for (size_t i = 0; record->has_trace_id && i < 16; i++)
        record->trace_id[i] = (uint8_t) rig_below(256);
    for (size_t i = 0; record->has_span_id && i < 8; i++)
        record->span_id[i] = (uint8_t) rig_below(256);
    record->body.data = rig_texts.data + rig_texts.len;
    record->body.len = random_text(rig_texts.data + rig_texts.len, rig_below(5) ? max_len : 0);
    rig_texts.len += record->body.len;
}

/* Fills rig_records and rig_source with n of them. */
void rig_random_records(size_t n, size_t max_len)
{
    unsigned how = (unsigned) rig_below(4);

    buf_clear(&rig_texts);
    ck_assert_ptr_nonnull(
        buf_extend(&rig_texts, (size_t) 2 * RIG_SETS * RIG_ATTRIBUTES_MAX * 20 + n * max_len));
    rig_texts.len = 0;
    random_attributes(20);
    rig_source = (struct logblock_source){ span_of_text("file"), span_of_text("/var/log/x\n"),
                                           rig_attributes[1], rig_below(5) };
    rig_n_records = n;
    for (size_t i = 0; i < n; i++)
        random_record(&rig_records[i], how, max_len);
}

static void assert_span(struct span a, struct span b)
{
    ck_assert(span_equal(a, b));
}

static void assert_attributes(const struct logblock_attribute *a,
                              size_t n_a,
                              const struct logblock_attribute *b,
                              size_t n_b)
{
    ck_assert_uint_eq(n_a, n_b);
    for (size_t i = 0; i < n_a; i++) {
        assert_span(a[i].key, b[i].key);
        assert_span(a[i].value, b[i].value);
    }
}

void rig_assert_record(const struct logblock_record *a, const struct logblock_record *b)
{
    ck_assert_int_eq(a->time_us, b->time_us);
    ck_assert_int_eq(a->observed_us, b->observed_us);
    ck_assert_uint_eq(a->source_offset, b->source_offset);
    ck_assert_uint_eq(a->severity, b->severity);
    ck_assert(a->is_raw == b->is_raw);
    ck_assert(a->has_trace_id == b->has_trace_id && a->has_span_id == b->has_span_id);
    ck_assert_mem_eq(a->trace_id, b->trace_id, sizeof(a->trace_id));
    ck_assert_mem_eq(a->span_id, b->span_id, sizeof(a->span_id));
    assert_span(a->body, b->body);
    assert_attributes(a->attributes, a->n_attributes, b->attributes, b->n_attributes);
    ck_assert_mem_eq(&a->place, &b->place, sizeof(a->place));
}

void rig_assert_source(const struct logblock_source *a, const struct logblock_source *b)
{
    assert_span(a->type, b->type);
    assert_span(a->name, b->name);
    assert_attributes(a->attributes, a->n_attributes, b->attributes, b->n_attributes);
}

/* Lines as programs write them. */
void rig_made_records(enum lines_style style, uint64_t seed)
{
    static struct lines_line line;
    struct lines lines;

    buf_clear(&rig_texts);
    ck_assert_ptr_nonnull(buf_extend(&rig_texts, (size_t) RIG_RECORDS_MAX * LINES_MAX));
    rig_texts.len = 0;
    lines_init(&lines, style, seed, INT64_C(1750000000000000));
    rig_n_records = RIG_RECORDS_MAX;
    rig_source = (struct logblock_source){ span_of_text("file"), span_of_text("x"), NULL, 0 };
    for (size_t i = 0; i < RIG_RECORDS_MAX; i++) {
        lines_next(&lines, &line);
        memcpy(rig_texts.data + rig_texts.len, line.text, line.len);
        rig_records[i] =
            (struct logblock_record){ .time_us = line.time_us,
                                      .severity = line.severity,
                                      .place.index = (uint32_t) i,
                                      .body = span_of(rig_texts.data + rig_texts.len, line.len) };
        rig_texts.len += line.len;
    }
}

struct span rig_encode(enum logblock_effort effort)
{
    struct logblock_input input = { &rig_source, rig_records, rig_n_records, effort };

    buf_clear(&rig_out);
    ck_assert_int_eq(logblock_encode(rig_work, &input, &rig_out), 0);
    return buf_span(&rig_out);
}

struct logblock rig_open(struct span bytes)
{
    struct logblock block;

    ck_assert_int_eq(logblock_open(bytes, rig_room, &block), LOGBLOCK_OK);
    return block;
}
