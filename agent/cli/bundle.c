/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cli/bundle.h"

#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"

#define BLOCK_BYTES 512u
#define STORED_BYTES 65535u

/*
 * ustar:   0 name[100]   100 mode[8]   108 uid[8]   116 gid[8]   124 size[12]   136 mtime[12]
 *        148 checksum[8]   156 type   157 link[100]   257 "ustar\0" "00"   265 user[32]
 *        297 group[32]   329 major[8]   337 minor[8]   345 prefix[155]
 *
 * The checksum is the sum of all bytes, with blanks in its own place.
 */
static void put_head(struct bundle *bundle, const char *name, size_t len)
{
    char head[BLOCK_BYTES] = { 0 };
    unsigned sum = 0;

    snprintf(head, BUNDLE_NAME_BYTES, "%s", name);
    snprintf(head + 100, 8, "%07o", 0600u);
    snprintf(head + 108, 8, "%07o", 0u);
    snprintf(head + 116, 8, "%07o", 0u);
    snprintf(head + 124, 12, "%011zo", len);
    snprintf(head + 136, 12, "%011llo", (unsigned long long) (bundle->time.us / 1000000));
    memset(head + 148, ' ', 8);
    head[156] = '0';
    snprintf(head + 257, 6, "ustar");
    head[263] = head[264] = '0';
    snprintf(head + 265, 32, "root");
    snprintf(head + 297, 32, "root");
    for (size_t i = 0; i < sizeof(head); i++)
        sum += (unsigned char) head[i];
    snprintf(head + 148, 8, "%06o", sum & 0777777u);
    buf_append(&bundle->tar, head, sizeof(head));
}

void bundle_add(struct bundle *bundle, const char *name, struct span content)
{
    static const uint8_t zeros[BLOCK_BYTES];

    ensure(strlen(name) < BUNDLE_NAME_BYTES && content.len < (1u << 30));
    put_head(bundle, name, content.len);
    buf_append_span(&bundle->tar, content);
    buf_append(&bundle->tar, zeros, (BLOCK_BYTES - content.len % BLOCK_BYTES) % BLOCK_BYTES);
}

/* RFC 1952, 8: the polynomial 0xedb88320, bit by bit. */
static uint32_t crc32_of(struct span bytes)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < bytes.len; i++) {
        crc ^= bytes.data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void put_u32(struct buf *to, uint32_t value)
{
    const uint8_t bytes[] = { (uint8_t) value, (uint8_t) (value >> 8), (uint8_t) (value >> 16),
                              (uint8_t) (value >> 24) };

    buf_append(to, bytes, sizeof(bytes));
}

void bundle_finish(struct bundle *bundle, struct buf *to)
{
    static const uint8_t end[2 * BLOCK_BYTES];
    /* deflate, no flags; mtime comes next; no extra flags, made on Unix */
    static const uint8_t head[] = { 0x1f, 0x8b, 8, 0 }, system[] = { 0, 3 };
    size_t at = 0;

    buf_append(&bundle->tar, end, sizeof(end));
    buf_append(to, head, sizeof(head));
    put_u32(to, (uint32_t) (bundle->time.us / 1000000));
    buf_append(to, system, sizeof(system));
    while (at < bundle->tar.len) {
        const size_t left = bundle->tar.len - at, len = left < STORED_BYTES ? left : STORED_BYTES;
        /* is it the last, type 00, and padding to a byte; the length and its complement */
        const uint8_t block[] = { len == left, (uint8_t) len, (uint8_t) (len >> 8), (uint8_t) ~len,
                                  (uint8_t) (~len >> 8) };

        buf_append(to, block, sizeof(block));
        buf_append(to, bundle->tar.data + at, len);
        at += len;
    }
    put_u32(to, crc32_of(buf_span(&bundle->tar)));
    put_u32(to, (uint32_t) bundle->tar.len);
    if (buf_failed(&bundle->tar))
        to->has_failed = true;
}
