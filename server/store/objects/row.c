/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/text.h"
#include "server/store/objects/objects.h"

/*
 * An upload, little-endian:
 *
 *   0        1      2          3       4        8         16     24         32
 *   | form 1 | kind | complete | flags | agent  | content | size | received |
 *   32           40          48             56     60         64
 *   | begun i64  | used i64  | modified i64 | mode | n labels |
 *   64          80            112        216
 *   | key 16    | SHA-256 32  | hash 104 | texts: name, type, then key and value of each label,
 *   each u16 length, the bytes, NUL | CRC32C of all before |
 *
 * flags: 1 the size is known, 2 the SHA-256 is.
 *
 * A content:
 *
 *   0      8          9      12           44
 *   | size | complete | zero | SHA-256 32 | CRC32C of all before |
 */

#define ROW_FORM 1
#define ROW_BYTES 216
#define ROW_HAS_SIZE 1
#define ROW_HAS_SHA256 2

static_assert(OBJECT_CONTENT_BYTES == 48, "the picture above");

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t n;

    memcpy(&n, from, sizeof(n));
    return n;
}

static uint32_t get_u32(const uint8_t *from)
{
    uint32_t n;

    memcpy(&n, from, sizeof(n));
    return n;
}

static bool has_crc32c(struct span value)
{
    return value.len > 4 &&
           crc32c(0, value.data, value.len - 4) == get_u32(value.data + value.len - 4);
}

/* A text that ends before `end`; NULL: it does not. */
static const char *next_text(const uint8_t **at, const uint8_t *end, size_t max)
{
    const char *text;
    uint16_t len;

    if (end - *at < 3)
        return NULL;
    memcpy(&len, *at, sizeof(len));
    text = (const char *) *at + 2;
    if (len > max || end - *at - 3 < len || text[len] != 0 || memchr(text, 0, len) ||
        !text_is_utf8(text, len))
        return NULL;
    *at += 2 + (size_t) len + 1;
    return text;
}

static bool read_texts(const uint8_t *at, const uint8_t *end, struct object_row *row)
{
    struct store_object *object = &row->object;

    object->name = next_text(&at, end, STORE_OBJECT_NAME_BYTES);
    object->type = object->name ? next_text(&at, end, STORE_OBJECT_TYPE_BYTES) : NULL;
    if (!object->type)
        return false;
    for (size_t i = 0; i < object->n_labels; i++) {
        row->labels[i].key = next_text(&at, end, STORE_OBJECT_LABEL_BYTES);
        row->labels[i].value =
            row->labels[i].key ? next_text(&at, end, STORE_OBJECT_LABEL_BYTES) : NULL;
        if (!row->labels[i].value)
            return false;
    }
    object->labels = row->labels;
    return at == end;
}

bool object_row_read(uint64_t number, struct span value, struct object_row *ret)
{
    const uint8_t *from = value.data;
    struct store_object *object = &ret->object;

    if (value.len < ROW_BYTES + 4 || !has_crc32c(value) || from[0] != ROW_FORM || from[2] > 1 ||
        from[3] > (ROW_HAS_SIZE | ROW_HAS_SHA256) ||
        (from[1] != STORE_BULK && from[1] != STORE_FILE))
        return false;
    *object = (struct store_object){
        .number = number,
        .kind = (enum store_object_kind) from[1],
        .is_complete = from[2] != 0,
        .has_size = (from[3] & ROW_HAS_SIZE) != 0,
        .has_sha256 = (from[3] & ROW_HAS_SHA256) != 0,
        .agent = get_u32(from + 4),
        .size = get_u64(from + 16),
        .received = get_u64(from + 24),
        .begun = { (int64_t) get_u64(from + 32) },
        .used = { (int64_t) get_u64(from + 40) },
        .modified = { (int64_t) get_u64(from + 48) },
        .mode = get_u32(from + 56),
        .n_labels = get_u32(from + 60),
    };
    ret->content = get_u64(from + 8);
    memcpy(object->key, from + 64, sizeof(object->key));
    memcpy(object->sha256, from + 80, sizeof(object->sha256));
    memcpy(ret->hash, from + 112, sizeof(ret->hash));
    if (object->n_labels > STORE_OBJECT_LABELS || object->agent == 0 ||
        object->size > STORE_OBJECT_MAX_BYTES || object->received > STORE_OBJECT_MAX_BYTES ||
        (object->has_size && object->received > object->size))
        return false;
    if (object->is_complete ? !object->has_size || !object->has_sha256 || ret->content == 0 ||
                                  object->received != object->size
                            : (ret->content == 0) != (object->received == 0))
        return false;
    return read_texts(from + ROW_BYTES, value.data + value.len - 4, ret);
}

static void put_text(struct buf *to, const char *text)
{
    uint16_t len = (uint16_t) strlen(text);

    buf_append(to, &len, sizeof(len));
    buf_append(to, text, (size_t) len + 1);
}

void object_row_write(const struct object_row *row, struct buf *to)
{
    const struct store_object *object = &row->object;
    const uint8_t head[4] = {
        ROW_FORM,
        (uint8_t) object->kind,
        object->is_complete,
        (uint8_t) ((object->has_size ? ROW_HAS_SIZE : 0) |
                   (object->has_sha256 ? ROW_HAS_SHA256 : 0)),
    };
    uint32_t n_labels = (uint32_t) object->n_labels, crc;
    size_t begin = to->len;

    ensure(n_labels <= STORE_OBJECT_LABELS && strlen(object->name) <= STORE_OBJECT_NAME_BYTES &&
           strlen(object->type) <= STORE_OBJECT_TYPE_BYTES);
    buf_append(to, head, sizeof(head));
    buf_append(to, &object->agent, 4);
    buf_append(to, &row->content, 8);
    buf_append(to, &object->size, 8);
    buf_append(to, &object->received, 8);
    buf_append(to, &object->begun.us, 8);
    buf_append(to, &object->used.us, 8);
    buf_append(to, &object->modified.us, 8);
    buf_append(to, &object->mode, 4);
    buf_append(to, &n_labels, 4);
    buf_append(to, object->key, sizeof(object->key));
    buf_append(to, object->sha256, sizeof(object->sha256));
    buf_append(to, row->hash, sizeof(row->hash));
    put_text(to, object->name);
    put_text(to, object->type);
    for (size_t i = 0; i < object->n_labels; i++) {
        put_text(to, object->labels[i].key);
        put_text(to, object->labels[i].value);
    }
    if (buf_failed(to))
        return;
    crc = crc32c(0, to->data + begin, to->len - begin);
    buf_append(to, &crc, sizeof(crc));
}

bool object_content_read(struct span value, struct object_content *ret)
{
    if (value.len != OBJECT_CONTENT_BYTES || !has_crc32c(value) || value.data[8] > 1 ||
        value.data[9] || value.data[10] || value.data[11])
        return false;
    ret->size = get_u64(value.data);
    if (ret->size > STORE_OBJECT_MAX_BYTES)
        return false;
    ret->is_complete = value.data[8] != 0;
    memcpy(ret->sha256, value.data + 12, sizeof(ret->sha256));
    return true;
}

void object_content_write(const struct object_content *content,
                          uint8_t to[static OBJECT_CONTENT_BYTES])
{
    uint32_t crc;

    memset(to, 0, OBJECT_CONTENT_BYTES);
    memcpy(to, &content->size, 8);
    to[8] = content->is_complete;
    memcpy(to + 12, content->sha256, sizeof(content->sha256));
    crc = crc32c(0, to, OBJECT_CONTENT_BYTES - 4);
    memcpy(to + OBJECT_CONTENT_BYTES - 4, &crc, sizeof(crc));
}

struct object_key object_key_of(const struct store_object *object)
{
    struct object_key key = { .len = 4 + 1 + STORE_OBJECT_KEY_BYTES };

    db_key_u32(key.bytes, object->agent);
    key.bytes[4] = (uint8_t) object->kind;
    memcpy(key.bytes + 5, object->key, STORE_OBJECT_KEY_BYTES);
    return key;
}

struct object_key object_digest_key(const uint8_t sha256[static STORE_OBJECT_SHA256_BYTES],
                                    uint64_t size)
{
    struct object_key key = { .len = STORE_OBJECT_SHA256_BYTES + 8 };

    memcpy(key.bytes, sha256, STORE_OBJECT_SHA256_BYTES);
    db_key_u64(key.bytes + STORE_OBJECT_SHA256_BYTES, size);
    return key;
}

struct object_key object_block_key(uint64_t content, uint32_t block)
{
    struct object_key key = { .len = 12 };

    db_key_u64(key.bytes, content);
    db_key_u32(key.bytes + 8, block);
    return key;
}

struct object_key object_holder_key(uint64_t content, uint64_t number)
{
    struct object_key key = { .len = 16 };

    db_key_u64(key.bytes, content);
    db_key_u64(key.bytes + 8, number);
    return key;
}
