/* SPDX-License-Identifier: Apache-2.0 */

/* What is not a column of values: times, marks, varints. */

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/codec/form.h"

void codec_put_varint(struct buf *out, uint64_t number)
{
    uint8_t bytes[10];
    size_t n = 0;

    for (; number >= 0x80; number >>= 7)
        bytes[n++] = (uint8_t) (number | 0x80);
    bytes[n++] = (uint8_t) number;
    buf_append(out, bytes, n);
}

bool codec_get_varint(struct span *bytes, uint64_t *ret_number)
{
    uint64_t number = 0;
    size_t most = bytes->len < 10 ? bytes->len : 10;

    for (size_t i = 0; i < most; i++) {
        uint8_t byte = bytes->data[i];

        number |= (uint64_t) (byte & 0x7f) << 7 * i;
        if (byte & 0x80)
            continue;
        if (i == 9 && byte > 1)
            return false;
        bytes->data += i + 1;
        bytes->len -= i + 1;
        *ret_number = number;
        return true;
    }
    return false;
}

/* ---- times ---- */

static void put_runs(const int64_t *times_us, size_t n, size_t limit, struct buf *out)
{
    static const uint8_t head = FORM_RUNS;
    size_t start = out->len;
    uint64_t step = 0;

    buf_append(out, &head, 1);
    codec_put_varint(out, codec_zigzag((uint64_t) times_us[0]));
    for (size_t i = 1; i < n && out->len - start < limit;) {
        uint64_t next = (uint64_t) times_us[i] - (uint64_t) times_us[i - 1];
        uint64_t n_more = 0;

        codec_put_varint(out, codec_zigzag(next - step));
        step = next;
        for (i++; i < n && (uint64_t) times_us[i] - (uint64_t) times_us[i - 1] == step; i++)
            n_more++;
        codec_put_varint(out, n_more);
    }
}

int codec_encode_times(struct codec_work *work,
                       const int64_t *times_us,
                       size_t n,
                       enum codec_effort effort,
                       struct buf *out)
{
    size_t start = out->len, middle;
    int r;

    ensure(n >= 1 && n <= CODEC_ITEMS_MAX);
    r = codec_reserve(work, 2 * n);
    if (r < 0)
        return pass(r);
    for (size_t i = 0; i < n; i++)
        work->words[i] = (uint64_t) times_us[i];
    ints_encode(work->words, n, effort, work->words + n, out);
    middle = out->len;
    put_runs(times_us, n, middle - start, out);
    if (buf_failed(out))
        return fault(-ENOMEM, "no memory for %zu times", n);
    /* As long as the other it may be unfinished. */
    if (out->len - middle < middle - start) {
        memmove(out->data + start, out->data + middle, out->len - middle);
        out->len -= middle - start;
    } else {
        out->len = middle;
    }
    return 0;
}

static int decode_runs(struct span bytes, size_t n, int64_t *ret)
{
    uint64_t time, step = 0;
    size_t i = 0;

    if (!codec_get_varint(&bytes, &time))
        return CODEC_BAD;
    time = codec_unzigzag(time);
    ret[i++] = (int64_t) time;
    while (i < n) {
        uint64_t change, n_more;

        if (!codec_get_varint(&bytes, &change) || !codec_get_varint(&bytes, &n_more) ||
            n_more >= n - i)
            return CODEC_BAD;
        step += codec_unzigzag(change);
        for (uint64_t k = 0; k <= n_more; k++)
            ret[i++] = (int64_t) (time += step);
    }
    return CODEC_OK;
}

int codec_decode_times(struct span bytes, size_t n, int64_t *ret_times_us)
{
    struct ints_decoder decoder;
    uint64_t words[FORM_FRAME];

    ensure(n >= 1 && n <= CODEC_ITEMS_MAX);
    if (bytes.len > 0 && bytes.data[0] == FORM_RUNS)
        return decode_runs(span_of(bytes.data + 1, bytes.len - 1), n, ret_times_us);
    if (!ints_open(&decoder, bytes, n))
        return CODEC_BAD;
    for (size_t i = 0; i < n;) {
        size_t n_now = ints_decode(&decoder, words);

        if (n_now == 0)
            return CODEC_BAD;
        for (size_t k = 0; k < n_now; k++)
            ret_times_us[i++] = (int64_t) words[k];
    }
    return CODEC_OK;
}

/* ---- marks ---- */

size_t codec_count_marks(const uint64_t *marks, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < codec_mark_words(n); i++)
        count += (size_t) __builtin_popcountll(marks[i]);
    return count;
}

void codec_encode_marks(const uint64_t *marks, size_t n, struct buf *out)
{
    uint8_t runs[CODEC_ITEMS_MAX / 8 + 16];
    size_t plain_len = (n + 7) / 8;
    struct buf whole = { .data = runs, .capacity = sizeof(runs) };
    bool is_marked = false;

    ensure(n >= 1 && n <= CODEC_ITEMS_MAX);
    for (size_t i = 0; i < n && whole.len < plain_len; is_marked = !is_marked) {
        size_t from = i;

        while (i < n && codec_marked(marks, i) == is_marked)
            i++;
        codec_put_varint(&whole, i - from);
    }
    /* A run list is never empty, so that 0 is free to say "as it is". */
    if (whole.len < plain_len) {
        codec_put_varint(out, whole.len);
        buf_append(out, whole.data, whole.len);
        return;
    }
    codec_put_varint(out, 0);
    for (size_t i = 0; i < plain_len; i++) {
        uint8_t byte = (uint8_t) (marks[i / 8] >> i % 8 * 8);

        buf_append(out, &byte, 1);
    }
}

static int decode_plain_marks(struct span bytes, size_t n, uint64_t *ret)
{
    if (bytes.len != (n + 7) / 8)
        return CODEC_BAD;
    if (n % 8 && bytes.data[bytes.len - 1] >> n % 8)
        return CODEC_BAD;
    for (size_t i = 0; i < bytes.len; i++)
        ret[i / 8] |= (uint64_t) bytes.data[i] << i % 8 * 8;
    return CODEC_OK;
}

int codec_decode_marks(struct span bytes, size_t n, uint64_t *ret_marks)
{
    bool is_marked = false;
    uint64_t len, run;

    ensure(n >= 1 && n <= CODEC_ITEMS_MAX);
    memset(ret_marks, 0, codec_mark_words(n) * sizeof(*ret_marks));
    if (!codec_get_varint(&bytes, &len))
        return CODEC_BAD;
    if (len == 0)
        return decode_plain_marks(bytes, n, ret_marks);
    if (len != bytes.len)
        return CODEC_BAD;
    for (size_t i = 0; i < n; is_marked = !is_marked) {
        if (!codec_get_varint(&bytes, &run) || run > n - i)
            return CODEC_BAD;
        for (uint64_t k = 0; k < run; k++, i++)
            ret_marks[i / 64] |= (uint64_t) is_marked << i % 64;
    }
    return bytes.len == 0 ? CODEC_OK : CODEC_BAD;
}

size_t codec_gather(const double *values, const uint64_t *marks, size_t n, double *ret_dense)
{
    size_t n_dense = 0;

    for (size_t i = 0; i < n; i++) {
        ret_dense[n_dense] = values[i];
        n_dense += !codec_marked(marks, i);
    }
    return n_dense;
}

void codec_spread(double *values, const uint64_t *marks, size_t n)
{
    size_t from = n - codec_count_marks(marks, n);

    for (size_t i = n; i-- > 0;)
        values[i] = codec_marked(marks, i) ? __builtin_nan("") : values[--from];
}
