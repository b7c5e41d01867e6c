/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/logs/export.h"

#include <string.h>

/* ---- the journal ---- */

#define MAX_NAME_BYTES 256
#define MAX_VALUE_BYTES (UINT64_C(1) << 30) /* journald takes 768 MiB */

static uint64_t get64(const uint8_t *p)
{
    uint64_t value = 0;

    for (size_t i = 8; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

/* One field at *at; EXPORT_ENTRY: it is there, and *at behind it. EXPORT_BAD: too long, and *at is
 * where the skip begins; or, with a skip that is not active, not of this form. */
static enum export_result
take_field(struct span bytes, size_t *at, struct export_field *ret, struct export_skip *skip)
{
    const uint8_t *begin = bytes.data + *at;
    const size_t left = bytes.len - *at;
    const uint8_t *newline = memchr(begin, '\n', left);
    const uint8_t *equals;
    uint64_t len;
    size_t head;

    if (!newline)
        return EXPORT_MORE;
    head = (size_t) (newline - begin);
    equals = memchr(begin, '=', head);
    if (equals) {
        *ret = (struct export_field){ span_of(begin, (size_t) (equals - begin)),
                                      span_of(equals + 1, (size_t) (newline - equals - 1)) };
        *at += head + 1;
        skip->is_active = ret->name.len > MAX_NAME_BYTES;
        return skip->is_active ? EXPORT_BAD : EXPORT_ENTRY;
    }
    if (head > MAX_NAME_BYTES)
        return EXPORT_BAD;
    if (left < head + 1 + 8)
        return EXPORT_MORE;
    len = get64(newline + 1);
    if (len > MAX_VALUE_BYTES)
        return EXPORT_BAD;
    if (len > EXPORT_MAX_BYTES) {
        *at += head + 1 + 8;
        *skip = (struct export_skip){ .bytes = len + 1, .is_active = true };
        return EXPORT_BAD;
    }
    if (left < head + 1 + 8 + len + 1)
        return EXPORT_MORE;
    if (newline[9 + len] != '\n')
        return EXPORT_BAD;
    *ret = (struct export_field){ span_of(begin, head), span_of(newline + 9, (size_t) len) };
    *at += head + 1 + 8 + (size_t) len + 1;
    return EXPORT_ENTRY;
}

/* To the next empty line, which may end the entry that is broken. */
static size_t behind_broken(struct span bytes, size_t at)
{
    const uint8_t *end = memmem(bytes.data + at, bytes.len - at, "\n\n", 2);

    return end ? (size_t) (end - bytes.data) + 2 : bytes.len;
}

enum export_result
export_next(struct span bytes, struct export_entry *ret, struct export_skip *ret_skip)
{
    size_t at = 0;

    ret->n_fields = 0;
    ret->n_consumed = 0;
    *ret_skip = (struct export_skip){ 0 };
    while (at < bytes.len && bytes.data[at] == '\n')
        at++; /* between entries */
    for (;;) {
        struct export_field field;
        enum export_result result;

        if (at == bytes.len && at <= EXPORT_MAX_BYTES)
            return EXPORT_MORE;
        if (at < bytes.len && bytes.data[at] == '\n') {
            ret->n_consumed = at + 1;
            return EXPORT_ENTRY;
        }
        result = take_field(bytes, &at, &field, ret_skip);
        if (result == EXPORT_MORE && bytes.len <= EXPORT_MAX_BYTES)
            return EXPORT_MORE;
        if (result == EXPORT_MORE || at > EXPORT_MAX_BYTES)
            ret_skip->is_active = true;
        if (result != EXPORT_ENTRY || at > EXPORT_MAX_BYTES) {
            ret->n_consumed = ret_skip->is_active ? at : behind_broken(bytes, at);
            return EXPORT_BAD;
        }
        if (ret->n_fields < EXPORT_MAX_FIELDS)
            ret->fields[ret->n_fields++] = field;
    }
}

/* A field of the rest at *at: passes it over, as far as it is there. false: more is needed. */
static bool pass_field(struct span bytes, size_t *at, struct export_skip *skip)
{
    const uint8_t *begin = bytes.data + *at;
    const size_t left = bytes.len - *at;
    const uint8_t *newline = memchr(begin, '\n', left);
    const size_t head = newline ? (size_t) (newline - begin) : left;
    uint64_t len;

    if (memchr(begin, '=', head) || head > MAX_NAME_BYTES) {
        skip->is_in_line = !newline;
        *at += newline ? head + 1 : head;
        return true;
    }
    if (!newline || left < head + 1 + 8)
        return false;
    len = get64(newline + 1);
    *at += head + 1;
    if (len <= MAX_VALUE_BYTES) {
        *at += 8;
        skip->bytes = len + 1;
    }
    return true;
}

size_t export_pass(struct span bytes, struct export_skip *skip)
{
    size_t at = 0;

    while (at < bytes.len) {
        if (skip->bytes > 0) {
            const size_t n = skip->bytes < bytes.len - at ? (size_t) skip->bytes : bytes.len - at;

            skip->bytes -= n;
            at += n;
        } else if (skip->is_in_line) {
            const uint8_t *newline = memchr(bytes.data + at, '\n', bytes.len - at);

            skip->is_in_line = !newline;
            at = newline ? (size_t) (newline - bytes.data) + 1 : bytes.len;
        } else if (bytes.data[at] == '\n') {
            skip->is_active = false;
            return at + 1;
        } else if (!pass_field(bytes, &at, skip)) {
            return at;
        }
    }
    return at;
}

struct span export_field(const struct export_entry *entry, const char *name)
{
    for (size_t i = 0; i < entry->n_fields; i++)
        if (span_equal(entry->fields[i].name, span_of_text(name)))
            return entry->fields[i].value;
    return (struct span){ 0 };
}

/* ---- the kernel ---- */

static bool take_number(char **at, const char *end, char stop, uint64_t *ret)
{
    uint64_t value = 0;
    const char *begin = *at;

    for (; *at < end && (unsigned) (**at - '0') <= 9; (*at)++)
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t) (**at - '0'), &value))
            return false;
    if (*at == begin || *at == end || **at != stop)
        return false;
    (*at)++;
    *ret = value;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static size_t undo_escapes(char *text, size_t len)
{
    size_t to = 0;

    for (size_t from = 0; from < len; from++) {
        if (text[from] == '\\' && from + 3 < len && text[from + 1] == 'x' &&
            hex_digit(text[from + 2]) >= 0 && hex_digit(text[from + 3]) >= 0) {
            text[to++] = (char) (hex_digit(text[from + 2]) << 4 | hex_digit(text[from + 3]));
            from += 3;
        } else {
            text[to++] = text[from];
        }
    }
    return to;
}

bool kmsg_parse(char *text, size_t len, struct kmsg_record *ret)
{
    char *at = text, *end = text + len, *semicolon, *newline;
    uint64_t priority, sequence, boot_us;

    if (!take_number(&at, end, ',', &priority) || priority > UINT32_MAX ||
        !take_number(&at, end, ',', &sequence) || !take_number(&at, end, ',', &boot_us) ||
        boot_us > INT64_MAX)
        return false;
    semicolon = memchr(at, ';', (size_t) (end - at));
    if (!semicolon)
        return false;
    *ret = (struct kmsg_record){
        .priority = (unsigned) priority,
        .sequence = sequence,
        .boot_us = (int64_t) boot_us,
        .is_continued = *at == 'c',
    };
    semicolon++;
    newline = memchr(semicolon, '\n', (size_t) (end - semicolon));
    ret->message.data = (const uint8_t *) semicolon;
    ret->message.len = undo_escapes(semicolon, (size_t) ((newline ? newline : end) - semicolon));
    return true;
}
