/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/logblock/parts.h"

/* ---- attributes ---- */

uint8_t *parts_put_attributes(uint8_t *to, const struct logblock_attribute *attributes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to = parts_put(to, attributes[i].key.len);
        to = parts_put(to, attributes[i].value.len);
    }
    for (size_t i = 0; i < n; i++) {
        to = parts_put_bytes(to, attributes[i].key);
        to = parts_put_bytes(to, attributes[i].value);
    }
    return to;
}

bool parts_take_attributes(struct span *bytes, size_t n, struct logblock_attribute *ret)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t key, value;

        if (!parts_take(bytes, &key) || !parts_take(bytes, &value) || key > LOGBLOCK_RAW_MAX ||
            value > LOGBLOCK_RAW_MAX)
            return false;
        ret[i].key.len = (size_t) key;
        ret[i].value.len = (size_t) value;
    }
    for (size_t i = 0; i < n; i++)
        if (!parts_take_bytes(bytes, ret[i].key.len, &ret[i].key) ||
            !parts_take_bytes(bytes, ret[i].value.len, &ret[i].value))
            return false;
    return true;
}

bool parts_same_attributes(const struct logblock_record *a, const struct logblock_record *b)
{
    if (a->n_attributes != b->n_attributes)
        return false;
    if (a->attributes == b->attributes)
        return true;
    for (size_t i = 0; i < a->n_attributes; i++)
        if (!span_equal(a->attributes[i].key, b->attributes[i].key) ||
            !span_equal(a->attributes[i].value, b->attributes[i].value))
            return false;
    return true;
}

/* ---- writing ---- */

static uint64_t unit_us(unsigned unit)
{
    static const uint64_t units[] = { 1, 1000, 1000000 };

    return units[unit];
}

static uint8_t *put_times(uint8_t *to, const struct logblock_input *input, int64_t first_us)
{
    uint64_t last = (uint64_t) first_us;
    unsigned unit = 2;

    /* What is left of a step in the coarser unit. */
    for (size_t i = 0; i < input->n_records && unit > 0;) {
        uint64_t step = (uint64_t) input->records[i].time_us - (uint64_t) first_us;

        if (step % unit_us(unit) == 0)
            i++;
        else
            unit--;
    }
    *to++ = (uint8_t) unit;
    for (size_t i = 0; i < input->n_records; i++) {
        uint64_t time = (uint64_t) input->records[i].time_us;
        uint64_t scale = unit_us(unit);

        /* From the first one on no step is longer than that of the last. */
        to = parts_put_zigzag(to, (time - (uint64_t) first_us) / scale -
                                      (last - (uint64_t) first_us) / scale);
        last = time;
    }
    return to;
}

static uint8_t *put_observed(uint8_t *to, const struct logblock_input *input, int64_t first_us)
{
    uint64_t last = (uint64_t) first_us;

    for (size_t i = 0; i < input->n_records; i++) {
        uint64_t time = (uint64_t) input->records[i].observed_us;

        to = parts_put_zigzag(to, time - last);
        last = time;
    }
    return to;
}

static uint8_t kind_of(const struct logblock_record *record)
{
    return (uint8_t) (record->severity | (record->is_raw ? PARTS_RAW : 0) |
                      (record->has_trace_id ? PARTS_TRACE : 0) |
                      (record->has_span_id ? PARTS_SPAN : 0));
}

static uint8_t *put_kinds(uint8_t *to, const struct logblock_input *input)
{
    for (size_t i = 0, n; i < input->n_records; i += n) {
        uint8_t kind = kind_of(&input->records[i]);

        for (n = 1; i + n < input->n_records && kind_of(&input->records[i + n]) == kind;)
            n++;
        *to++ = kind;
        to = parts_put(to, n - 1);
    }
    return to;
}

/* What was before a record, of which its offset is expected. */
struct offsets {
    unsigned how;
    uint64_t last, step, last_len;
};

#define OFFSETS_HOW 3

static inline uint64_t offsets_expect(const struct offsets *offsets, size_t len)
{
    switch (offsets->how) {
    case 0:
        return offsets->last + offsets->step;
    case 1:
        return offsets->last + offsets->last_len + 1;
    default:
        return offsets->last + len + 1;
    }
}

static inline void offsets_next(struct offsets *offsets, uint64_t offset, size_t len)
{
    offsets->step = offset - offsets->last;
    offsets->last = offset;
    offsets->last_len = len;
}

static size_t count_expected(const struct logblock_input *input, unsigned how)
{
    struct offsets offsets = { .how = how };
    size_t n = 0;

    for (size_t i = 0; i < input->n_records; i++) {
        const struct logblock_record *record = &input->records[i];

        n += offsets_expect(&offsets, record->body.len) == record->source_offset;
        offsets_next(&offsets, record->source_offset, record->body.len);
    }
    return n;
}

static uint8_t *put_offsets(uint8_t *to, const struct logblock_input *input)
{
    struct offsets offsets = { .how = 0 };
    size_t best = count_expected(input, 0);

    for (unsigned how = 1; how < OFFSETS_HOW && best + 2 < input->n_records; how++) {
        size_t n = count_expected(input, how);

        if (n > best) {
            offsets.how = how;
            best = n;
        }
    }
    *to++ = (uint8_t) offsets.how;
    for (size_t i = 0; i < input->n_records; i++) {
        const struct logblock_record *record = &input->records[i];
        uint64_t expected = offsets_expect(&offsets, record->body.len);

        to = parts_put_zigzag(to, record->source_offset - expected);
        offsets_next(&offsets, record->source_offset, record->body.len);
    }
    return to;
}

static uint8_t *put_places(uint8_t *to, const struct logblock_input *input)
{
    uint64_t chunk = input->records[0].place.chunk, offset = input->records[0].place.offset;

    if (input->is_pack || input->is_sent) {
        memset(to, 0, 3); /* the first place, of which the head says what it is */
        return parts_put(to + 3, input->n_records - 1);
    }
    for (size_t i = 0, n; i < input->n_records; i += n) {
        const struct logblock_place *place = &input->records[i].place, *next;

        for (n = 1; i + n < input->n_records; n++) {
            next = &input->records[i + n].place;
            if (next->chunk != place->chunk || next->offset != place->offset ||
                next->index != place->index + n)
                break;
        }
        to = parts_put_zigzag(to, place->chunk - chunk);
        to = parts_put_zigzag(to, place->offset - offset);
        to = parts_put(to, place->index);
        to = parts_put(to, n - 1);
        chunk = place->chunk;
        offset = place->offset;
    }
    return to;
}

static uint8_t *put_ids(uint8_t *to, const struct logblock_input *input)
{
    for (size_t i = 0; i < input->n_records; i++)
        if (input->records[i].has_trace_id)
            to = parts_put_bytes(to, span_of(input->records[i].trace_id, 16));
    for (size_t i = 0; i < input->n_records; i++)
        if (input->records[i].has_span_id)
            to = parts_put_bytes(to, span_of(input->records[i].span_id, 8));
    return to;
}

/* ---- sets of attributes, of which most records have one that was there ---- */

static int begin_sets(struct parts_sets *sets, size_t n_records)
{
    size_t size = 16;

    while (size < 2 * n_records)
        size *= 2;
    if (size > sets->capacity) {
        free(sets->table);
        free(sets->sets);
        sets->capacity = 0;
        sets->table = malloc(size * sizeof(*sets->table));
        sets->sets = malloc(size / 2 * sizeof(*sets->sets));
        if (!sets->table || !sets->sets)
            return fault(-ENOMEM, "no memory for attributes of %zu records", n_records);
        sets->capacity = size;
    }
    sets->size = size;
    memset(sets->table, 0, size * sizeof(*sets->table));
    return 0;
}

void parts_sets_deinit(struct parts_sets *sets)
{
    free(sets->table);
    free(sets->sets);
    *sets = (struct parts_sets){ 0 };
}

static uint32_t hash_text(uint32_t hash, struct span text)
{
    uint64_t x = hash ^ (text.len * UINT64_C(0x9e3779b97f4a7c15));

    for (size_t i = 0; i < text.len; i += 8) {
        uint8_t word[8] = { 0 };

        memcpy(word, text.data + i, text.len - i < 8 ? text.len - i : 8);
        x = (x ^ parts_load64(word)) * UINT64_C(0xc2b2ae3d27d4eb4f);
        x ^= x >> 31;
    }
    return (uint32_t) (x ^ x >> 32);
}

static uint32_t hash_attributes(const struct logblock_record *record)
{
    uint32_t hash = (uint32_t) record->n_attributes;

    for (size_t i = 0; i < record->n_attributes; i++)
        hash = hash_text(hash_text(hash, record->attributes[i].key), record->attributes[i].value);
    return hash;
}

/* The record that first had these attributes, which is this one if it is new. */
static size_t find_set(struct parts_sets *sets, const struct logblock_record *records, size_t i)
{
    size_t mask = sets->size - 1, at = hash_attributes(&records[i]) & mask;

    for (; sets->table[at]; at = (at + 1) & mask)
        if (parts_same_attributes(&records[sets->table[at] - 1], &records[i]))
            return sets->table[at] - 1;
    sets->table[at] = (uint32_t) i + 1;
    return i;
}

static uint8_t *
put_sets(uint8_t *to, const struct logblock_input *input, struct parts_sets *sets, size_t *ret_n)
{
    const struct logblock_record *records = input->records;
    uint32_t n_sets = 0;

    for (size_t i = 0; i < input->n_records; i++) {
        const struct logblock_record *record = &records[i];
        size_t first;

        if (i > 0 && parts_same_attributes(record, record - 1)) {
            sets->sets[i] = sets->sets[i - 1];
            continue;
        }
        first = find_set(sets, records, i);
        sets->sets[i] = first == i ? n_sets++ : sets->sets[first];
        if (first != i)
            continue;
        to = parts_put(to, record->n_attributes);
        to = parts_put_attributes(to, record->attributes, record->n_attributes);
    }
    *ret_n = n_sets;
    return to;
}

static int put_all_attributes(uint8_t *to,
                              const struct logblock_input *input,
                              struct parts_sets *sets,
                              uint8_t **ret_end)
{
    uint8_t *start = to + 3; /* a count of up to LOGBLOCK_RECORDS_MAX */
    size_t n_sets = 0, n_bytes;
    int r = begin_sets(sets, input->n_records);

    if (r < 0)
        return pass(r);
    n_bytes = (size_t) (put_sets(start, input, sets, &n_sets) - start);
    to = parts_put(to, n_sets);
    memmove(to, start, n_bytes);
    to += n_bytes;
    for (size_t i = 0, n; i < input->n_records; i += n) {
        for (n = 1; i + n < input->n_records && sets->sets[i + n] == sets->sets[i];)
            n++;
        to = parts_put(to, sets->sets[i]);
        to = parts_put(to, n - 1);
    }
    *ret_end = to;
    return 0;
}

size_t parts_columns_room(const struct logblock_input *input)
{
    size_t room = PARTS_COLUMNS_RECORD;

    for (size_t i = 0; i < input->n_records; i++) {
        const struct logblock_record *record = &input->records[i];

        ensure(record->n_attributes <= LOGBLOCK_ATTRIBUTES_MAX);
        room += PARTS_COLUMNS_RECORD + PARTS_COLUMNS_ATTRIBUTE * record->n_attributes +
                logblock_raw_bytes(record) - record->body.len;
    }
    return room;
}

int parts_columns_encode(const struct logblock_input *input,
                         int64_t first_us,
                         struct parts_sets *sets,
                         uint8_t *to,
                         uint8_t **ret_end)
{
    int r;

    to = put_times(to, input, first_us);
    to = put_kinds(to, input);
    to = put_observed(to, input, first_us);
    to = put_offsets(to, input);
    r = put_all_attributes(to, input, sets, &to);
    if (r < 0)
        return pass(r);
    to = put_places(to, input);
    *ret_end = put_ids(to, input);
    return 0;
}

/* ---- reading ---- */

static bool
take_times(struct span *bytes, const struct logblock *block, struct logblock_record *records)
{
    uint64_t sum = 0, span_us = (uint64_t) block->last_us - (uint64_t) block->first_us;
    struct span unit;
    uint64_t scale, step;

    if (!parts_take_bytes(bytes, 1, &unit) || unit.data[0] > 2)
        return false;
    scale = unit_us(unit.data[0]);
    for (size_t i = 0; i < block->n_records; i++) {
        if (!parts_take_zigzag(bytes, &step))
            return false;
        sum += step;
        if (sum > span_us / scale)
            return false;
        records[i].time_us = (int64_t) ((uint64_t) block->first_us + sum * scale);
    }
    return true;
}

static bool take_run(struct span *bytes, size_t n_left, size_t *ret_n)
{
    uint64_t n;

    if (!parts_take(bytes, &n) || n >= n_left)
        return false;
    *ret_n = (size_t) n + 1;
    return true;
}

static bool
take_kinds(struct span *bytes, const struct logblock *block, struct logblock_record *records)
{
    for (size_t i = 0, n; i < block->n_records;) {
        struct span kind;
        uint32_t severity;

        if (!parts_take_bytes(bytes, 1, &kind) || !take_run(bytes, block->n_records - i, &n))
            return false;
        severity = kind.data[0] & PARTS_SEVERITY_MASK;
        if (!(block->severities >> severity & 1))
            return false;
        for (; n > 0; n--, i++) {
            records[i].severity = severity;
            records[i].is_raw = kind.data[0] & PARTS_RAW;
            records[i].has_trace_id = kind.data[0] & PARTS_TRACE;
            records[i].has_span_id = kind.data[0] & PARTS_SPAN;
        }
    }
    return true;
}

int parts_columns_begin(const struct logblock *block,
                        struct span *columns,
                        struct logblock_record *records)
{
    return take_times(columns, block, records) && take_kinds(columns, block, records)
               ? LOGBLOCK_OK
               : LOGBLOCK_BAD;
}

static bool
take_observed(struct span *bytes, const struct logblock *block, struct logblock_record *records)
{
    uint64_t time = (uint64_t) block->first_us, step;

    for (size_t i = 0; i < block->n_records; i++) {
        if (!parts_take_zigzag(bytes, &step))
            return false;
        time += step;
        records[i].observed_us = (int64_t) time;
    }
    return true;
}

static bool take_offsets(struct span *bytes, size_t n_records, struct logblock_record *records)
{
    struct offsets offsets = { .how = 0 };
    uint64_t rest;
    struct span how;

    if (!parts_take_bytes(bytes, 1, &how) || how.data[0] >= OFFSETS_HOW)
        return false;
    offsets.how = how.data[0];
    for (size_t i = 0; i < n_records; i++) {
        size_t len = records[i].body.len;

        if (!parts_take_zigzag(bytes, &rest))
            return false;
        records[i].source_offset = offsets_expect(&offsets, len) + rest;
        offsets_next(&offsets, records[i].source_offset, len);
    }
    return true;
}

static bool
take_places(struct span *bytes, const struct logblock *block, struct logblock_record *records)
{
    struct logblock_place place = { 0 };

    if (block->version > 1)
        place = block->first;
    for (size_t i = 0, n; i < block->n_records;) {
        uint64_t chunk, offset, index;

        if (!parts_take_zigzag(bytes, &chunk) || !parts_take_zigzag(bytes, &offset) ||
            !parts_take(bytes, &index) || !take_run(bytes, block->n_records - i, &n) ||
            index > UINT32_MAX || n - 1 > UINT32_MAX - index)
            return false;
        place.chunk += chunk;
        place.offset += (uint32_t) offset;
        place.index = (uint32_t) index;
        for (; n > 0; n--, i++, place.index++)
            records[i].place = place;
    }
    return memcmp(&records[0].place, &block->first, sizeof(place)) == 0 &&
           memcmp(&records[block->n_records - 1].place, &block->last, sizeof(place)) == 0;
}

static bool take_ids(struct span *bytes, size_t n_records, struct logblock_record *records)
{
    struct span id;

    for (size_t i = 0; i < n_records; i++) {
        if (!records[i].has_trace_id)
            continue;
        if (!parts_take_bytes(bytes, sizeof(records[i].trace_id), &id))
            return false;
        memcpy(records[i].trace_id, id.data, id.len);
    }
    for (size_t i = 0; i < n_records; i++) {
        if (!records[i].has_span_id)
            continue;
        if (!parts_take_bytes(bytes, sizeof(records[i].span_id), &id))
            return false;
        memcpy(records[i].span_id, id.data, id.len);
    }
    return true;
}

/* A set: where its attributes are, once they have a place. */
struct set {
    size_t first, n;
};

/* Reads the lengths of n_sets; where the attributes go is not known before they are counted. */
static bool skip_sets(struct span bytes, size_t n_sets, struct set *sets, size_t *ret_n)
{
    size_t n_attributes = 0;

    for (size_t i = 0; i < n_sets; i++) {
        uint64_t n, sum = 0;
        struct span skipped;

        if (!parts_take(&bytes, &n) || n > LOGBLOCK_ATTRIBUTES_MAX)
            return false;
        for (size_t k = 0; k < 2 * n; k++) {
            uint64_t len;

            if (!parts_take(&bytes, &len) || len > LOGBLOCK_RAW_MAX)
                return false;
            sum += len;
        }
        if (!parts_take_bytes(&bytes, sum, &skipped))
            return false;
        sets[i] = (struct set){ n_attributes, (size_t) n };
        n_attributes += (size_t) n;
    }
    *ret_n = n_attributes;
    return true;
}

static bool take_sets(struct span *bytes,
                      struct set *sets,
                      size_t n_sets,
                      struct logblock_attribute *attributes)
{
    for (size_t i = 0; i < n_sets; i++) {
        uint64_t n;

        if (!parts_take(bytes, &n) || n != sets[i].n ||
            !parts_take_attributes(bytes, sets[i].n, attributes + sets[i].first))
            return false;
    }
    return true;
}

static int take_all_attributes(struct span *bytes,
                               struct logblock_room *room,
                               size_t n_records,
                               struct logblock_record *records)
{
    struct logblock_attribute *attributes;
    size_t n_attributes;
    uint64_t n_sets, set, n_seen = 0; /* each is used, in the order of the first time */
    struct set *sets;
    int r;

    if (!parts_take(bytes, &n_sets) || n_sets < 1 || n_sets > n_records)
        return LOGBLOCK_BAD;
    r = parts_reserve(&room->sets, (size_t) n_sets * sizeof(*sets));
    if (r < 0)
        return pass(r);
    sets = (void *) room->sets.data;
    if (!skip_sets(*bytes, (size_t) n_sets, sets, &n_attributes))
        return LOGBLOCK_BAD;
    r = parts_reserve(&room->attributes, n_attributes * sizeof(*attributes));
    if (r < 0)
        return pass(r);
    attributes = (void *) room->attributes.data;
    if (!take_sets(bytes, sets, (size_t) n_sets, attributes))
        return LOGBLOCK_BAD;
    for (size_t i = 0, n; i < n_records;) {
        if (!parts_take(bytes, &set) || set >= n_sets || set > n_seen ||
            !take_run(bytes, n_records - i, &n))
            return LOGBLOCK_BAD;
        n_seen += set == n_seen;
        for (; n > 0; n--, i++) {
            records[i].attributes = attributes + sets[set].first;
            records[i].n_attributes = sets[set].n;
        }
    }
    return n_seen == n_sets ? LOGBLOCK_OK : LOGBLOCK_BAD;
}

int parts_columns_rest(const struct logblock *block,
                       struct span columns,
                       struct logblock_room *room,
                       struct logblock_record *records)
{
    size_t n = block->n_records;
    int r;

    if (!take_observed(&columns, block, records) || !take_offsets(&columns, n, records))
        return LOGBLOCK_BAD;
    r = take_all_attributes(&columns, room, n, records);
    if (r < 0)
        return pass(r);
    if (r > 0)
        return LOGBLOCK_BAD;
    return take_places(&columns, block, records) && take_ids(&columns, n, records) &&
                   columns.len == 0
               ? LOGBLOCK_OK
               : LOGBLOCK_BAD;
}
