/* SPDX-License-Identifier: Apache-2.0 */

/* Batches: made and filled on the call's thread, in the form the journal keeps, so that the writer
 * only copies. */

#include "server/store/journal/batch.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"

static_assert(sizeof(struct store_batch) % 8 == 0, "the payload behind is aligned");

int store_batch_new(struct store_batch **ret, size_t payload_bytes)
{
    struct store_batch *batch = malloc(sizeof(*batch) + payload_bytes);

    if (!batch)
        return fault(-ENOMEM, "no memory for a batch of %zu bytes", payload_bytes);
    *batch = (struct store_batch){ .capacity = payload_bytes };
    *ret = batch;
    return 0;
}

struct store_batch *store_batch_free(struct store_batch *batch)
{
    free(batch);
    return NULL;
}

size_t store_row_bytes(uint32_t n_values, uint32_t n_absent)
{
    return sizeof(struct format_row) + 8 * (size_t) n_values +
           ((4 * (size_t) n_absent + 7) & ~(size_t) 7);
}

static bool is_in(const uint32_t *ascending, uint32_t n, uint32_t what)
{
    uint32_t low = 0, high = n;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (ascending[middle] < what)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && ascending[low] == what;
}

/* Values in the layout's order; absent places of the row's order become columns of the layout's. */
static void put_in_order(uint8_t *to, const struct store_row *row, const uint32_t *order)
{
    uint8_t *absent = to + 8 * (size_t) row->n_values;
    uint32_t n_found = 0;

    for (uint32_t i = 0; i < row->n_values; i++) {
        ensure(order[i] < row->n_values);
        memcpy(to + 8 * (size_t) i, &row->values[order[i]], 8);
    }
    for (uint32_t i = 0; i < row->n_values && n_found < row->n_absent; i++) {
        if (is_in(row->absent, row->n_absent, order[i])) {
            memset(to + 8 * (size_t) i, 0, 8);
            memcpy(absent + 4 * (size_t) n_found++, &i, 4);
        }
    }
    ensure(n_found == row->n_absent);
}

static void put_as_is(uint8_t *to, const struct store_row *row)
{
    if (row->n_values)
        memcpy(to, row->values, 8 * (size_t) row->n_values);
    if (row->n_absent)
        memcpy(to + 8 * (size_t) row->n_values, row->absent, 4 * (size_t) row->n_absent);
    for (uint32_t i = 0; i < row->n_absent; i++) {
        ensure(row->absent[i] < row->n_values && (i == 0 || row->absent[i - 1] < row->absent[i]));
        memset(to + 8 * (size_t) row->absent[i], 0, 8);
    }
}

void store_batch_add(struct store_batch *batch, const struct store_row *row, const uint32_t *order)
{
    size_t n_bytes = store_row_bytes(row->n_values, row->n_absent);
    uint8_t *to = batch_payload(batch) + batch->n_bytes;
    struct format_row head = {
        .head = { .type = FORMAT_ROW, .signal = STORE_METRICS, .n_bytes = (uint32_t) n_bytes },
        .time_us = row->time_us,
        .layout = row->layout,
        .n_values = row->n_values,
        .n_absent = row->n_absent,
    };

    ensure(n_bytes <= batch->capacity - batch->n_bytes && n_bytes <= UINT32_MAX);
    ensure(row->n_absent <= row->n_values);
    memcpy(to, &head, sizeof(head));
    memset(to + n_bytes - 8, 0, 8); /* the padding, which may be there */
    if (order)
        put_in_order(to + sizeof(head), row, order);
    else
        put_as_is(to + sizeof(head), row);
    batch->n_bytes += n_bytes;
    batch->n_rows++;
    batch->n_samples += row->n_values - row->n_absent;
}

void batch_seal(struct store_batch *batch)
{
    uint8_t *at = batch_payload(batch), *end = at + batch->n_bytes;

    while (at < end) {
        struct format_record head;

        memcpy(&head, at, sizeof(head));
        head.agent = batch->agent;
        memcpy(at, &head, sizeof(head));
        head.crc32c = crc32c(0, at + FORMAT_CRC_FROM, head.n_bytes - FORMAT_CRC_FROM);
        memcpy(at, &head, sizeof(head));
        at += head.n_bytes;
    }
    ensure(at == end);
}
