/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/text.h"

#include <stdio.h>

#include "common/base/ensure.h"

/* Longer names are not compared: nobody mistypes that much. */
#define NEAREST_BYTES_MAX 64

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads digits from the front; false without any, or when they do not fit. */
static bool scan_u64(const char **at, uint64_t *ret)
{
    const char *p = *at;
    uint64_t value = 0;

    if (!is_digit(*p))
        return false;
    for (; is_digit(*p); p++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t) (*p - '0'), &value))
            return false;
    }
    *at = p;
    *ret = value;
    return true;
}

size_t text_utf8_next(struct span text, uint32_t *ret)
{
    const uint8_t *p = text.data;

    if (text.len == 0)
        return 0;
    if (p[0] < 0x80) {
        *ret = p[0];
        return 1;
    }

    /* RFC 3629 section 4: what the first byte allows the second to be is what keeps out overlong
     * forms and surrogates. */
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    size_t len;
    uint32_t code;

    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        len = 2;
        code = p[0] & 0x1f;
    } else if ((p[0] & 0xf0) == 0xe0) {
        len = 3;
        code = p[0] & 0x0f;
        if (p[0] == 0xe0)
            low = 0xa0;
        if (p[0] == 0xed)
            high = 0x9f;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        len = 4;
        code = p[0] & 0x07;
        if (p[0] == 0xf0)
            low = 0x90;
        if (p[0] == 0xf4)
            high = 0x8f;
    } else {
        return 0;
    }

    if (text.len < len || p[1] < low || p[1] > high)
        return 0;
    code = code << 6 | (p[1] & 0x3f);
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3f);
    }
    *ret = code;
    return len;
}

bool text_is_utf8(const void *data, size_t len)
{
    struct span left = span_of(data, len);

    while (left.len > 0) {
        /* Nearly everything is ASCII: 32 bytes at a time while it is, then eight. */
        while (left.len >= 32) {
            uint64_t words[4];

            memcpy(words, left.data, sizeof(words));
            if ((words[0] | words[1] | words[2] | words[3]) & 0x8080808080808080u)
                break;
            left.data += sizeof(words);
            left.len -= sizeof(words);
        }
        while (left.len >= 8) {
            uint64_t word;

            memcpy(&word, left.data, 8);
            if (word & 0x8080808080808080u)
                break;
            left.data += 8;
            left.len -= 8;
        }
        if (left.len < 8) {
            uint64_t word = 0;

            memcpy(&word, left.data, left.len);
            if (!(word & 0x8080808080808080u))
                break;
        }

        uint32_t code;
        size_t n = text_utf8_next(left, &code);

        if (n == 0)
            return false;
        left.data += n;
        left.len -= n;
    }
    return true;
}

bool text_is_printable(uint32_t code)
{
    if (code < 0x20 || (code >= 0x7f && code <= 0x9f))
        return false;
    /* Line and paragraph separators, and what turns the direction of the text behind it. */
    if ((code >= 0x2028 && code <= 0x202e) || code == 0x200e || code == 0x200f || code == 0x061c)
        return false;
    /* Tags: letters that nobody sees. */
    if (code >= 0xe0000 && code <= 0xe007f)
        return false;
    return code < 0x2066 || code > 0x2069;
}

int text_to_u64(const char *text, uint64_t *ret)
{
    uint64_t value;

    if (!scan_u64(&text, &value) || *text)
        return TEXT_BAD;
    *ret = value;
    return TEXT_OK;
}

static const struct {
    const char *name;
    int64_t us;
} duration_units[] = {
    { "d", (int64_t) 86400 * 1000000 },
    { "h", (int64_t) 3600 * 1000000 },
    { "m", (int64_t) 60 * 1000000 },
    { "s", 1000000 },
    { "ms", 1000 },
    { "us", 1 },
};
#define N_DURATION_UNITS (sizeof(duration_units) / sizeof(duration_units[0]))

int text_to_duration_us(const char *text, int64_t *ret_us)
{
    int64_t sum = 0;

    if (strcmp(text, "0") == 0) {
        *ret_us = 0;
        return TEXT_OK;
    }

    /* Each unit at most once, the large ones first: 5s5s and 30m1h are mistakes. */
    size_t unit = 0;

    do {
        uint64_t n;
        int64_t part;

        if (!scan_u64(&text, &n))
            return TEXT_BAD;

        size_t len = 0;

        while (text[len] >= 'a' && text[len] <= 'z')
            len++;
        while (unit < N_DURATION_UNITS && (strlen(duration_units[unit].name) != len ||
                                           memcmp(duration_units[unit].name, text, len) != 0))
            unit++;
        if (unit == N_DURATION_UNITS)
            return TEXT_BAD;
        if (__builtin_mul_overflow(n, duration_units[unit].us, &part) ||
            __builtin_add_overflow(sum, part, &sum))
            return TEXT_BAD;
        text += len;
        unit++;
    } while (*text);

    *ret_us = sum;
    return TEXT_OK;
}

const char *text_of_duration_us(int64_t us, char to[static TEXT_DURATION_BYTES])
{
    /* The lowest value has no positive twin. */
    uint64_t left = us < 0 ? 0 - (uint64_t) us : (uint64_t) us;
    size_t len = 0;

    if (us == 0) {
        memcpy(to, "0s", 3);
        return to;
    }
    if (us < 0)
        to[len++] = '-';
    for (size_t i = 0; i < N_DURATION_UNITS; i++) {
        uint64_t n = left / (uint64_t) duration_units[i].us;

        if (n == 0)
            continue;
        left %= (uint64_t) duration_units[i].us;

        int r = snprintf(to + len, TEXT_DURATION_BYTES - len, "%llu%s", (unsigned long long) n,
                         duration_units[i].name);

        ensure(r > 0 && (size_t) r < TEXT_DURATION_BYTES - len);
        len += (size_t) r;
    }
    return to;
}

int text_to_size(const char *text, uint64_t *ret_bytes)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {
        { "", 1 },
        { "B", 1 },
        { "KiB", (uint64_t) 1 << 10 },
        { "MiB", (uint64_t) 1 << 20 },
        { "GiB", (uint64_t) 1 << 30 },
        { "TiB", (uint64_t) 1 << 40 },
        { "KB", 1000 },
        { "MB", 1000000 },
        { "GB", 1000000000 },
        { "TB", 1000000000000 },
    };
    uint64_t n;

    if (!scan_u64(&text, &n))
        return TEXT_BAD;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(text, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(n, units[i].bytes, &n))
            return TEXT_BAD;
        *ret_bytes = n;
        return TEXT_OK;
    }
    return TEXT_BAD;
}

const char *text_of_size(uint64_t bytes, char to[static TEXT_SIZE_BYTES])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    unsigned unit = 0;

    while (unit < 6 && bytes >> (10 * unit) >= 1024)
        unit++;

    uint64_t one = (uint64_t) 1 << (10 * unit);
    uint64_t whole = bytes / one;
    uint64_t tenths = (bytes % one * 10 + one / 2) / one;

    if (tenths == 10) {
        tenths = 0;
        whole++;
    }
    /* 1023.96 KiB has become 1024. */
    if (whole == 1024 && unit < 6) {
        whole = 1;
        unit++;
    }
    if (tenths == 0)
        snprintf(to, TEXT_SIZE_BYTES, "%llu %s", (unsigned long long) whole, units[unit]);
    else
        snprintf(to, TEXT_SIZE_BYTES, "%llu.%u %s", (unsigned long long) whole, (unsigned) tenths,
                 units[unit]);
    return to;
}

const char *text_of_hex(const void *data, size_t len, char *to)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++) {
        to[2 * i] = digits[p[i] >> 4];
        to[2 * i + 1] = digits[p[i] & 15];
    }
    to[2 * len] = 0;
    return to;
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int text_to_hex(const char *text, void *ret, size_t len)
{
    uint8_t *to = ret;

    for (size_t i = 0; i < 2 * len; i++) {
        if (hex_digit(text[i]) < 0)
            return TEXT_BAD;
    }
    if (text[2 * len])
        return TEXT_BAD;

    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t) (hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
    return TEXT_OK;
}

bool text_matches(const char *pattern, const char *text)
{
    const char *star = NULL;
    const char *retry = NULL;

    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            retry = text;
        } else if (*pattern && (*pattern == '?' || *pattern == *text)) {
            pattern++;
            text++;
        } else if (star) {
            /* Only the last star has to give way: what an earlier one took was the shortest that
             * fits. */
            pattern = star + 1;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

/* Edit distance, where swapping two neighbours is one edit. Both texts are at most
 * NEAREST_BYTES_MAX long. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][NEAREST_BYTES_MAX + 1];
    size_t *before = rows[0];
    size_t *above = rows[1];
    size_t *row = rows[2];

    for (size_t j = 0; j <= b_len; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);

            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }

        size_t *oldest = before;

        before = above;
        above = row;
        row = oldest;
    }
    return above[b_len];
}

const char *text_nearest(const char *name, const char *const *names)
{
    size_t len = strlen(name);
    const char *nearest = NULL;

    if (len > NEAREST_BYTES_MAX)
        return NULL;

    /* A third of the name may be wrong, but never all of a short one. */
    size_t limit = len < 3 ? 1 : len / 3 + 1;

    if (limit > 4)
        limit = 4;
    for (; *names; names++) {
        size_t other_len = strlen(*names);

        if (other_len > NEAREST_BYTES_MAX)
            continue;

        size_t d = distance(name, len, *names, other_len);

        if (d <= limit && d < other_len && d < len) {
            nearest = *names;
            limit = d ? d - 1 : 0;
            if (d == 0)
                break;
        }
    }
    return nearest;
}

void text_append_printable(struct buf *to, struct span text)
{
    while (text.len > 0) {
        uint32_t code = 0;
        size_t len = text_utf8_next(text, &code);

        if (len > 0 && text_is_printable(code)) {
            buf_append(to, text.data, len);
        } else if (len == 1 && code == '\n') {
            buf_append_text(to, "\\n");
        } else {
            if (len == 0)
                len = 1;
            for (size_t i = 0; i < len; i++)
                buf_printf(to, "\\x%02x", text.data[i]);
        }
        text.data += len;
        text.len -= len;
    }
}
