/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/logs/heads.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "server/store/days/days.h"

void log_heads_deinit(struct log_heads *heads)
{
    free(heads->packs);
    *heads = (struct log_heads){ 0 };
}

int log_heads_add(struct log_heads *heads, const struct log_pack *pack)
{
    if (heads->n_packs == heads->capacity) {
        size_t capacity = heads->capacity + heads->capacity / 4 + 16;
        struct log_pack *packs = reallocarray(heads->packs, capacity, sizeof(*packs));

        if (!packs)
            return fault(-ENOMEM, "no memory for the packs of an agent");
        heads->packs = packs;
        heads->capacity = capacity;
    }
    if (heads->n_packs == 0)
        heads->since_us = clock_mono().us;
    heads->packs[heads->n_packs++] = *pack;
    heads->n_raw_bytes += pack->n_raw_bytes;
    return 0;
}

static bool is_behind(const struct log_pack *pack, const struct log_pack *up_to)
{
    return pack->chunk != up_to->chunk ? pack->chunk > up_to->chunk : pack->offset > up_to->offset;
}

static void shrink(struct log_heads *heads)
{
    struct log_pack *packs;

    if (heads->capacity < 64 || heads->n_packs > heads->capacity / 4)
        return;
    packs = reallocarray(heads->packs, heads->n_packs + 16, sizeof(*packs));
    if (!packs)
        return;
    heads->packs = packs;
    heads->capacity = heads->n_packs + 16;
}

void log_heads_drop(struct log_heads *heads,
                    int32_t day,
                    const struct log_pack *up_to,
                    void (*dropped)(void *ctx, const struct log_pack *pack),
                    void *ctx)
{
    size_t n_kept = 0, i = 0;

    for (; i < heads->n_packs && !is_behind(&heads->packs[i], up_to); i++) {
        const struct log_pack *pack = &heads->packs[i];

        if (day_of(pack->first_us) == day) {
            heads->n_raw_bytes -= pack->n_raw_bytes;
            dropped(ctx, pack);
        } else {
            heads->packs[n_kept++] = *pack;
        }
    }
    if (n_kept == i)
        return;
    memmove(&heads->packs[n_kept], &heads->packs[i], (heads->n_packs - i) * sizeof(*heads->packs));
    /* What is left came after what went, but for packs of other days that are not sealed yet. */
    if (n_kept == 0)
        heads->since_us = heads->n_packs == i ? 0 : clock_mono().us;
    heads->n_packs -= i - n_kept;
    shrink(heads);
}

void log_heads_drop_all(struct log_heads *heads,
                        void (*dropped)(void *ctx, const struct log_pack *pack),
                        void *ctx)
{
    for (size_t i = 0; i < heads->n_packs; i++)
        dropped(ctx, &heads->packs[i]);
    heads->n_packs = 0;
    heads->n_raw_bytes = 0;
    heads->since_us = 0;
    shrink(heads);
}
