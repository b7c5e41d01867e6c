/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/journal/heads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
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

static struct head *head_make(struct heads *heads, uint32_t layout, uint32_t n_values)
{
    struct head *grown = realloc(heads->heads, (heads->n_heads + 1) * sizeof(*grown));

    if (!grown)
        return NULL;
    heads->heads = grown;
    grown[heads->n_heads] = (struct head){ .layout = layout, .n_values = n_values };
    return &grown[heads->n_heads++];
}

int heads_add(struct heads *heads, uint32_t layout, uint32_t n_values, const struct head_row *row)
{
    struct head *head = heads_find(heads, layout);
    bool is_late;
    size_t at;

    if (!head)
        head = head_make(heads, layout, n_values);
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
    if (heads->n_rows++ == 0)
        heads->since_us = clock_mono().us;
    heads->n_values += head->n_values;
    return 0;
}

static bool is_at_or_below(const struct head_row *row, const struct head_row *up_to)
{
    return row->chunk != up_to->chunk ? row->chunk < up_to->chunk : row->offset <= up_to->offset;
}

static bool has_at_or_below(const struct heads *heads, const struct head_row *up_to)
{
    for (size_t i = 0; i < heads->n_heads; i++) {
        for (size_t k = 0; k < heads->heads[i].n_rows; k++) {
            if (is_at_or_below(&heads->heads[i].rows[k], up_to))
                return true;
        }
    }
    return false;
}

static void head_shrink(struct head *head)
{
    struct head_row *rows;

    if (head->capacity < 64 || head->n_rows > head->capacity / 4)
        return;
    rows = realloc(head->rows, (head->n_rows + 16) * sizeof(*rows));
    if (!rows)
        return;
    head->rows = rows;
    head->capacity = head->n_rows + 16;
}

void heads_drop(struct heads *heads,
                int64_t from_us,
                int64_t to_us,
                const struct head_row *up_to,
                void (*dropped)(void *ctx, const struct head_row *row),
                void *ctx)
{
    for (size_t i = 0; i < heads->n_heads; i++) {
        struct head *head = &heads->heads[i];
        const struct head_row first = { .time_us = from_us }, behind = { .time_us = to_us };
        size_t begin = head_seek(head, &first, true), end = head_seek(head, &behind, true);
        size_t kept = begin;

        for (size_t k = begin; k < end; k++) {
            if (is_at_or_below(&head->rows[k], up_to))
                dropped(ctx, &head->rows[k]);
            else
                head->rows[kept++] = head->rows[k];
        }
        memmove(&head->rows[kept], &head->rows[end], (head->n_rows - end) * sizeof(*head->rows));
        head->n_rows -= end - kept;
        heads->n_rows -= end - kept;
        heads->n_values -= (end - kept) * head->n_values;
        head_shrink(head);
    }
    /* What is left came after what went, but for rows of other days that are not sealed yet. */
    if (heads->n_rows == 0)
        heads->since_us = 0;
    else if (!has_at_or_below(heads, up_to))
        heads->since_us = clock_mono().us;
}
