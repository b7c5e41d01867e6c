/* Targets: codec_decode_values, _times, _marks. SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte says what the rest is: 0 times, 15 marks, else values of that form. The next two
 * say of how many items, less one. What decodes is encoded again and has to come back.
 */

#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/codec/codec.h"

#define AS_TIMES 0
#define AS_MARKS 15

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ignore_fault(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

static void *room_for(size_t n, size_t size)
{
    void *room = calloc(n, size);

    ensure(room);
    return room;
}

static void read_times(struct span bytes, size_t n)
{
    CLEANUP(codec_work_deinit) struct codec_work work = { 0 };
    CLEANUP(buf_deinit) struct buf out = { 0 };
    int64_t *times = room_for(n, sizeof(*times)), *again = room_for(n, sizeof(*again));
    int r = codec_decode_times(bytes, n, times);

    ensure(r == CODEC_OK || r == CODEC_BAD);
    for (int effort = CODEC_FAST; r == CODEC_OK && effort <= CODEC_SMALL; effort++) {
        buf_clear(&out);
        ensure(codec_encode_times(&work, times, n, effort, &out) == 0);
        ensure(codec_decode_times(buf_span(&out), n, again) == CODEC_OK);
        ensure(memcmp(times, again, n * sizeof(*times)) == 0);
    }
    free(times);
    free(again);
}

static void read_marks(struct span bytes, size_t n)
{
    CLEANUP(buf_deinit) struct buf out = { 0 };
    size_t words = codec_mark_words(n);
    uint64_t *marks = room_for(words, sizeof(*marks)), *again = room_for(words, sizeof(*again));
    int r = codec_decode_marks(bytes, n, marks);

    ensure(r == CODEC_OK || r == CODEC_BAD);
    if (r == CODEC_OK) {
        ensure(codec_count_marks(marks, n) <= n);
        codec_encode_marks(marks, n, &out);
        ensure(codec_decode_marks(buf_span(&out), n, again) == CODEC_OK);
        ensure(memcmp(marks, again, words * sizeof(*marks)) == 0);
    }
    free(marks);
    free(again);
}

static void read_values(uint8_t form, struct span bytes, size_t n)
{
    CLEANUP(codec_work_deinit) struct codec_work work = { 0 };
    CLEANUP(buf_deinit) struct buf out = { 0 };
    double *values = room_for(n, sizeof(*values)), *again = room_for(n, sizeof(*again));
    int r = codec_decode_values(form, bytes, n, values);

    ensure(r == CODEC_OK || r == CODEC_BAD);
    for (int effort = CODEC_FAST; r == CODEC_OK && effort <= CODEC_SMALL; effort++) {
        buf_clear(&out);
        ensure(codec_encode_values(&work, values, n, effort, &out, &form) == 0);
        ensure(out.len <= n * sizeof(*values) + CODEC_SLACK);
        ensure(codec_decode_values(form, buf_span(&out), n, again) == CODEC_OK);
        ensure(memcmp(values, again, n * sizeof(*values)) == 0);
    }
    free(values);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct span bytes;
    size_t n;

    if (len < 3)
        return 0;
    fault_set_sink(ignore_fault);
    bytes = span_of(data + 3, len - 3);
    n = 1 + (data[1] | (size_t) data[2] << 8);
    if (data[0] == AS_TIMES)
        read_times(bytes, n);
    else if (data[0] == AS_MARKS)
        read_marks(bytes, n);
    else
        read_values(data[0], bytes, n);
    return 0;
}
