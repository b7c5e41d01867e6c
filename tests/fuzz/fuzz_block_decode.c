/* Targets: block_open, block_next, block_times, block_column, block_bounds.
 * SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte says what the rest is: even a block as it is, odd a block whose checksum is made
 * good first.
 */

#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/block/block.h"

/* Rows and columns may be claimed by the thousand; not all are read, or one input takes minutes. */
#define COLUMNS_READ 64
#define VALUES_READ 1000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ignore_fault(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

/* Together they say what each says alone. */
static void read_together(const struct block_part *part, uint32_t n, double *alone)
{
    uint32_t columns[COLUMNS_READ];
    double *values = malloc(n * part->n_rows * sizeof(*values));
    int r;

    ensure(values);
    for (uint32_t i = 0; i < n; i++)
        columns[i] = i;
    r = block_columns(part, columns, n, part->n_rows, values, NULL);
    ensure(r == BLOCK_OK || r == BLOCK_BAD);
    for (uint32_t i = 0; r == BLOCK_OK && i < n; i++) {
        ensure(block_column(part, i, alone, NULL) == BLOCK_OK);
        ensure(memcmp(alone, values + i * part->n_rows, part->n_rows * sizeof(*values)) == 0);
    }
    free(values);
}

static void read_part(const struct block *block, const struct block_part *part)
{
    size_t n_rows = part->n_rows, n_values = 0;
    int64_t *times = malloc(n_rows * sizeof(*times));
    double *values = malloc(n_rows * sizeof(*values));
    uint64_t *absent = malloc(codec_mark_words(n_rows) * sizeof(*absent));
    double low, high;
    uint32_t i;

    ensure(times && values && absent);
    ensure(n_rows <= block->n_rows);
    ensure(block_times(part, times) >= 0);
    for (i = 0; i < part->n_columns && i < COLUMNS_READ && n_values < VALUES_READ; i++) {
        int r = block_column(part, i, values, absent);

        ensure(r == BLOCK_OK || r == BLOCK_BAD);
        ensure(r == BLOCK_BAD || codec_count_marks(absent, n_rows) <= n_rows);
        (void) block_bounds(part, i, &low, &high);
        n_values += n_rows;
    }
    read_together(part, i, values);
    free(times);
    free(values);
    free(absent);
}

static void read_block(struct span bytes)
{
    CLEANUP(buf_deinit) struct buf room = { 0 };
    struct block_cursor cursor = { 0 };
    struct block_part part;
    struct block block;
    int r = block_open(bytes, &room, &block);

    ensure(r == BLOCK_OK || r == BLOCK_BAD);
    if (r != BLOCK_OK)
        return;
    for (size_t i = 0; i < 16 && block_next(&block, &cursor, &part); i++)
        read_part(&block, &part);
}

static void read_mended(struct span bytes)
{
    uint8_t *copy;
    uint32_t crc;

    if (bytes.len < 8)
        return;
    copy = malloc(bytes.len);
    ensure(copy);
    memcpy(copy, bytes.data, bytes.len);
    crc = crc32c(0, copy + 8, bytes.len - 8);
    for (size_t i = 0; i < 4; i++)
        copy[4 + i] = (uint8_t) (crc >> 8 * i);
    read_block(span_of(copy, bytes.len));
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    fault_set_sink(ignore_fault);
    if (data[0] % 2)
        read_mended(span_of(data + 1, len - 1));
    else
        read_block(span_of(data + 1, len - 1));
    return 0;
}
