/* Targets: object_row_read, object_content_read.
 * SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte says what the rest is: its lowest bit an upload or a content, the next one whether
 * the checksum is made good first. What is read is written again, and is then the same.
 */

#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "server/store/objects/objects.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void read_row(struct span value)
{
    struct object_row row;
    struct buf again = { 0 };

    if (!object_row_read(7, value, &row))
        return;
    ensure(strlen(row.object.name) <= STORE_OBJECT_NAME_BYTES);
    ensure(strlen(row.object.type) <= STORE_OBJECT_TYPE_BYTES);
    ensure(row.object.n_labels <= STORE_OBJECT_LABELS);
    for (size_t i = 0; i < row.object.n_labels; i++)
        ensure(strlen(row.object.labels[i].key) + strlen(row.object.labels[i].value) <=
               2 * STORE_OBJECT_LABEL_BYTES);
    object_row_write(&row, &again);
    ensure(span_equal(buf_span(&again), value));
    buf_deinit(&again);
}

static void read_content(struct span value)
{
    struct object_content content;
    uint8_t again[OBJECT_CONTENT_BYTES];

    if (!object_content_read(value, &content))
        return;
    object_content_write(&content, again);
    ensure(span_equal(span_of(again, sizeof(again)), value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t *copy;
    uint32_t crc;

    if (len < 1)
        return 0;
    copy = malloc(len);
    ensure(copy);
    memcpy(copy, data + 1, len - 1);
    if (data[0] & 2 && len > 4) {
        crc = crc32c(0, copy, len - 5);
        memcpy(copy + len - 5, &crc, sizeof(crc));
    }
    if (data[0] & 1)
        read_content(span_of(copy, len - 1));
    else
        read_row(span_of(copy, len - 1));
    free(copy);
    return 0;
}
