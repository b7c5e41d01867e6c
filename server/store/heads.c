/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/heads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"

void heads_deinit(struct heads *heads)
{
    for (size_t i = 0; i < heads->n_heads; i++)
        free(heads->heads[i].rows);
    free(heads->heads);
    *heads = (struct heads){ 0 };
}

struct head *heads_find(struct heads *heads, uint32_t layout)
{
    for (size_t i = heads->n_heads; i-- > 0;) {
        if (heads->heads[i].layout == layout)
            return &heads->heads[i];
    }
    return NULL;
}

static bool is_before(const struct head_row *a, const struct head_row *b)
{
    if (a->time_us != b->time_us)
        return a->time_us < b->time_us;
    if (a->chunk != b->chunk)
        return a->chunk < b->chunk;
    return a->offset < b->offset;
}

size_t head_seek(const struct head *head, const struct head_row *row, bool is_inclusive)
{
    size_t low = 0, high = head->n_rows;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct head_row *at = &head->rows[middle];

        if (is_before(at, row) || (!is_inclusive && !is_before(row, at)))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct head *head_make(struct heads *heads, uint32_t layout)
{
    struct head *grown = realloc(heads->heads, (heads->n_heads + 1) * sizeof(*grown));

    if (!grown)
        return NULL;
    heads->heads = grown;
    grown[heads->n_heads] = (struct head){ .layout = layout };
    return &grown[heads->n_heads++];
}

int heads_add(struct heads *heads, uint32_t layout, const struct head_row *row)
{
    struct head *head = heads_find(heads, layout);
    bool is_late;
    size_t at;

    if (!head)
        head = head_make(heads, layout);
    if (!head)
        return fault(-ENOMEM, "no memory for a head");
    is_late = head->n_rows > 0 && !is_before(&head->rows[head->n_rows - 1], row);
    if (head->n_rows == head->capacity) {
        size_t capacity = head->capacity + head->capacity / 4 + 16;
        struct head_row *rows = realloc(head->rows, capacity * sizeof(*rows));

        if (!rows)
            return fault(-ENOMEM, "no memory for the rows of a head");
        head->rows = rows;
        head->capacity = capacity;
    }
    at = head->n_rows;
    if (is_late) {
        at = head_seek(head, row, false);
        memmove(&head->rows[at + 1], &head->rows[at], (head->n_rows - at) * sizeof(*row));
    }
    head->rows[at] = *row;
    head->n_rows++;
    return 0;
}
