/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/sealed/sealed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"

#define HEAD_BYTES 24
#define KEY_ID_BYTES 8
#define LINE_DIGITS 64
#define VERSION 1
#define AES_256_GCM 1
#define ENVIRONMENT "SENTINEL_HUB_CA_KEY"

static const char begin_line[] = "-----BEGIN SENTINEL SEALED KEY-----\n";
static const char end_line[] = "-----END SENTINEL SEALED KEY-----\n";
static const char key_label[] = "sentinel-sealing-key-1"; /* with its NUL */
static const char seal_label[] = "sentinel-sealed-1";     /* with its NUL */

_Static_assert(SEALED_KEY_BYTES == CRYPTO_SEAL_KEY_BYTES, "one key");

void sealed_key_deinit(struct sealed_key *key)
{
    crypto_wipe(key, sizeof(*key));
}

/* ---- finding the key ---- */

static int digit64(uint8_t c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int) (at - digits) : -1;
}

/* RFC 4648 section 4 of exactly 32 bytes: 43 digits and one `=`, no bits over. */
static bool parse_base64(struct span text, uint8_t ret[static SEALED_KEY_BYTES])
{
    enum { DIGITS = 43 };
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t n = 0;

    if (text.len != DIGITS + 1 || text.data[DIGITS] != '=')
        return false;
    for (size_t i = 0; i < DIGITS; i++) {
        int digit = digit64(text.data[i]);

        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t) digit;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            ret[n++] = (uint8_t) (bits >> n_bits);
        }
    }
    return n == SEALED_KEY_BYTES && (bits & ((1U << n_bits) - 1)) == 0;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int sealed_key_parse(struct span text, struct sealed_key *ret)
{
    char hex[2 * SEALED_KEY_BYTES + 1];
    bool is_good;

    if (text.len == SEALED_KEY_BYTES) { /* before space is cut: any byte may be the last */
        memcpy(ret->bytes, text.data, SEALED_KEY_BYTES);
        ret->is_there = true;
        return 0;
    }
    while (text.len > 0 && is_space(text.data[text.len - 1]))
        text.len--;
    while (text.len > 0 && is_space(text.data[0]))
        text = span_of(text.data + 1, text.len - 1);
    if (text.len == sizeof(hex) - 1) {
        memcpy(hex, text.data, text.len);
        hex[text.len] = 0;
        is_good = text_to_hex(hex, ret->bytes, SEALED_KEY_BYTES) == 0;
        crypto_wipe(hex, sizeof(hex));
    } else {
        is_good = parse_base64(text, ret->bytes);
    }
    if (!is_good) {
        crypto_wipe(ret->bytes, sizeof(ret->bytes));
        return SEALED_BAD;
    }
    ret->is_there = true;
    return 0;
}

static void wipe(struct buf *secret)
{
    crypto_wipe(secret->data, secret->capacity);
    buf_deinit(secret);
}

static int refuse_form(const char *source, struct tls_why *ret_why)
{
    snprintf(ret_why->text, sizeof(ret_why->text),
             "%.120s does not hold a key: 32 bytes, as they are, as 64 hex digits or as base64; "
             "make one with: openssl rand -hex 32, or head -c 32 /dev/urandom",
             source);
    return SEALED_BAD;
}

static int read_file(const char *path, struct sealed_key *ret, struct tls_why *ret_why)
{
    CLEANUP(wipe) struct buf text = { 0 };

    snprintf(ret->source, sizeof(ret->source), "the file %.118s", path);
    int r = tls_secret_load(path, &text, ret_why);
    if (r < 0)
        return pass(r);
    if (r != 0)
        return r == TLS_ABSENT ? SEALED_ABSENT : SEALED_BAD;
    r = sealed_key_parse(buf_span(&text), ret);
    return r != 0 ? refuse_form(path, ret_why) : 0;
}

int sealed_key_find(const char *file, struct sealed_key *ret, struct tls_why *ret_why)
{
    const char *text = getenv(ENVIRONMENT);
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    struct sealed_key key = { .is_there = false };
    char path[4096];
    int r = 0;

    if (file && file[0]) {
        r = read_file(file, &key, ret_why);
    } else if (text && text[0]) {
        snprintf(key.source, sizeof(key.source), ENVIRONMENT);
        /* As text alone: 32 characters of a password are no key. */
        r = strlen(text) == SEALED_KEY_BYTES ? SEALED_BAD
                                             : sealed_key_parse(span_of_text(text), &key);
        if (r != 0)
            r = refuse_form(ENVIRONMENT, ret_why);
    } else if (directory && directory[0]) {
        int len = snprintf(path, sizeof(path), "%s/ca-key", directory);

        if (len > 0 && (size_t) len < sizeof(path))
            r = read_file(path, &key, ret_why);
        if (r == SEALED_ABSENT) { /* other credentials lie there */
            key = (struct sealed_key){ .is_there = false };
            r = 0;
        }
    }
    if (r == 0)
        *ret = key;
    sealed_key_deinit(&key);
    return pass(r);
}

/* ---- the form ---- */

static void key_id(const struct sealed_key *key, uint8_t ret[static KEY_ID_BYTES])
{
    uint8_t bytes[sizeof(key_label) + SEALED_KEY_BYTES], digest[CRYPTO_SHA256_BYTES];

    memcpy(bytes, key_label, sizeof(key_label));
    memcpy(bytes + sizeof(key_label), key->bytes, SEALED_KEY_BYTES);
    crypto_sha256(span_of(bytes, sizeof(bytes)), digest);
    memcpy(ret, digest, KEY_ID_BYTES);
    crypto_wipe(bytes, sizeof(bytes));
}

/* What the tag is over besides. */
static void put_extra(const char *name, const uint8_t head[static HEAD_BYTES], struct buf *to)
{
    buf_append(to, seal_label, sizeof(seal_label));
    buf_append(to, name, strlen(name) + 1);
    buf_append(to, head, HEAD_BYTES);
    ensure(!buf_failed(to)); /* a hundred bytes */
}

bool sealed_is(struct span text)
{
    const size_t len = sizeof(begin_line) - 1;

    return text.len >= len && memcmp(text.data, begin_line, len) == 0;
}

void sealed_close(const struct sealed_key *key,
                  const char *name,
                  struct span secret,
                  struct buf *to)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 }, extra = { 0 };
    uint8_t head[HEAD_BYTES] = { VERSION, AES_256_GCM };
    char hex[LINE_DIGITS + 1];

    ensure(key->is_there && secret.len <= SEALED_SECRET_BYTES);
    key_id(key, head + 4);
    crypto_random(head + 4 + KEY_ID_BYTES, CRYPTO_SEAL_NONCE_BYTES);
    put_extra(name, head, &extra);
    buf_append(&bytes, head, sizeof(head));
    uint8_t *sealed = buf_extend(&bytes, secret.len + CRYPTO_SEAL_TAG_BYTES);
    ensure(sealed);
    crypto_seal(key->bytes, head + 4 + KEY_ID_BYTES, secret, buf_span(&extra), sealed);
    buf_append_text(to, begin_line);
    for (size_t at = 0; at < bytes.len; at += LINE_DIGITS / 2) {
        size_t n = bytes.len - at < LINE_DIGITS / 2 ? bytes.len - at : LINE_DIGITS / 2;

        buf_append_text(to, text_of_hex(bytes.data + at, n, hex));
        buf_append_text(to, "\n");
    }
    buf_append_text(to, end_line);
}

static int nibble(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One way to write it: full lines but for the last, lower case, nothing behind. */
static bool read_armour(struct span text, struct buf *to)
{
    const size_t end_len = sizeof(end_line) - 1;
    size_t column = 0;

    if (!sealed_is(text))
        return false;
    text = span_of(text.data + sizeof(begin_line) - 1, text.len - (sizeof(begin_line) - 1));
    if (text.len < end_len || memcmp(text.data + text.len - end_len, end_line, end_len) != 0)
        return false;
    text.len -= end_len;
    while (text.len > 0) {
        if (column > 0 && text.data[0] == '\n') {
            if (column != LINE_DIGITS && text.len > 1)
                return false;
            column = 0;
            text = span_of(text.data + 1, text.len - 1);
            continue;
        }
        int high = text.len >= 2 ? nibble(text.data[0]) : -1;
        int low = text.len >= 2 ? nibble(text.data[1]) : -1;
        if (high < 0 || low < 0 || column == LINE_DIGITS)
            return false;
        const uint8_t byte = (uint8_t) (high << 4 | low);
        buf_append(to, &byte, 1);
        column += 2;
        text = span_of(text.data + 2, text.len - 2);
    }
    return column == 0 && !buf_failed(to);
}

int sealed_open(const struct sealed_key *key, const char *name, struct span text, struct buf *ret)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 }, extra = { 0 };
    const size_t least = HEAD_BYTES + CRYPTO_SEAL_TAG_BYTES;
    uint8_t id[KEY_ID_BYTES];

    if (text.len > (size_t) 4 * SEALED_SECRET_BYTES || !read_armour(text, &bytes) ||
        bytes.len < least || bytes.len > least + SEALED_SECRET_BYTES || bytes.data[0] != VERSION ||
        bytes.data[1] != AES_256_GCM || bytes.data[2] != 0 || bytes.data[3] != 0)
        return SEALED_BAD;
    if (!key->is_there)
        return SEALED_OTHER_KEY;
    key_id(key, id);
    if (memcmp(id, bytes.data + 4, sizeof(id)) != 0)
        return SEALED_OTHER_KEY;
    put_extra(name, bytes.data, &extra);
    const size_t before = ret->len, len = bytes.len - least;
    uint8_t *secret = buf_extend(ret, len + 1); /* never empty */
    if (!secret)
        return fault(-ENOMEM, "no memory for a secret");
    bool is_open = crypto_open(key->bytes, bytes.data + 4 + KEY_ID_BYTES,
                               span_of(bytes.data + HEAD_BYTES, bytes.len - HEAD_BYTES),
                               buf_span(&extra), secret);
    ret->len = before + (is_open ? len : 0);
    return is_open ? 0 : SEALED_CHANGED;
}
