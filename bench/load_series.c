/* SPDX-License-Identifier: Apache-2.0 */

/* Which series there are: groups, and declarations as protobuf-c packs them. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/load.h"
#include "bench/load_private.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/map.h"
#include "common/wire/wire.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#define ARENA_BYTES (64u << 20) /* for the groups of LOAD_MAX_SERIES; as much for declarations */

/* ---- groups ---- */

static struct load_group group_of(const struct load *load, uint32_t series)
{
    static const char *const names[LOAD_N_KINDS] = {
        [LOAD_CONSTANT] = "bench.constant",
        [LOAD_COUNTER] = "bench.counter",
        [LOAD_GAUGE] = "bench.gauge",
    };
    const struct replay_series *recorded;

    if (!load->replay)
        return (struct load_group){ .name = names[series % LOAD_N_KINDS],
                                    .unit = "1",
                                    .is_counter = series % LOAD_N_KINDS == LOAD_COUNTER,
                                    .is_integer = series % LOAD_N_KINDS != LOAD_GAUGE };
    recorded = &load->replay->series[series % load->replay->n_series];
    return (struct load_group){ .name = recorded->name,
                                .unit = recorded->unit,
                                .is_counter = recorded->is_counter,
                                .is_integer = tracks_is_integer(load->tracks, series) };
}

/* Counts the members; fills group_of. */
static int find_groups(struct load *load)
{
    struct map by_name = { 0 };
    int r = 0;

    for (uint32_t i = 0; i < load->n_series && r == 0; i++) {
        const struct load_group wanted = group_of(load, i);
        struct load_group *group = map_get(&by_name, span_of_text(wanted.name));

        if (!group) {
            group = &load->groups[load->n_groups++];
            *group = wanted;
            r = map_put(&by_name, span_of_text(group->name), group);
        }
        group->is_integer = group->is_integer && wanted.is_integer;
        group->n_series++;
        load->group_of[i] = (uint32_t) (group - load->groups);
    }
    map_deinit(&by_name);
    return pass(r);
}

static int make_groups(struct load *load)
{
    uint32_t *members = arena_alloc_array(&load->arena, load->n_series, sizeof(*members));
    uint32_t at = 0;
    int r;

    load->n_groups = 0;
    load->groups = arena_alloc_array(&load->arena, load->n_series, sizeof(*load->groups));
    load->group_of = arena_alloc_array(&load->arena, load->n_series, sizeof(*load->group_of));
    if (!members || !load->groups || !load->group_of)
        return fault(-ENOMEM, "no memory for %" PRIu32 " series", load->n_series);
    r = find_groups(load);
    for (uint32_t i = 0; i < load->n_groups; i++) {
        load->groups[i].series = members + at;
        at += load->groups[i].n_series;
        load->groups[i].n_series = 0;
    }
    for (uint32_t i = 0; i < load->n_series && r == 0; i++) {
        struct load_group *group = &load->groups[load->group_of[i]];

        group->series[group->n_series++] = i;
    }
    return pass(r);
}

/* ---- declarations ---- */

static int add_attribute(Sentinel__Telemetry__V1__Series *to,
                         struct arena *arena,
                         const char *key,
                         const char *value)
{
    Sentinel__Telemetry__V1__Attribute *attribute = arena_alloc(arena, sizeof(*attribute));

    if (!attribute)
        return fault(-ENOMEM, "no memory for an attribute");
    sentinel__telemetry__v1__attribute__init(attribute);
    attribute->key = (char *) (uintptr_t) key;
    attribute->value = (char *) (uintptr_t) value;
    to->attributes[to->n_attributes++] = attribute;
    return 0;
}

static int declare(const struct load *load,
                   uint32_t series,
                   struct arena *arena,
                   Sentinel__Telemetry__V1__Series *to)
{
    const struct load_group group = group_of(load, series);
    const struct replay_series *recorded =
        load->replay ? &load->replay->series[series % load->replay->n_series] : NULL;
    const uint32_t n_recorded = recorded ? recorded->n_attributes : 0;
    const char *item = arena_printf(arena, "%" PRIu32, series);
    int r;

    sentinel__telemetry__v1__series__init(to);
    to->attributes = arena_alloc_array(arena, n_recorded + 2, sizeof(*to->attributes));
    if (!item || !to->attributes)
        return fault(-ENOMEM, "no memory for a series");
    to->id = series + 1;
    to->name = (char *) (uintptr_t) group.name;
    to->unit = (char *) (uintptr_t) group.unit;
    to->kind = group.is_counter ? SENTINEL__TELEMETRY__V1__KIND__KIND_COUNTER
                                : SENTINEL__TELEMETRY__V1__KIND__KIND_GAUGE;
    r = add_attribute(to, arena, "item", item);
    if (r == 0)
        r = add_attribute(to, arena, "run", load->run);
    for (uint32_t i = 0; i < n_recorded && r == 0; i++)
        r = add_attribute(to, arena, recorded->attributes[i].key, recorded->attributes[i].value);
    return pass(r);
}

static int pack_declarations(struct load *load, struct arena *arena)
{
    Sentinel__Telemetry__V1__Series *rows = arena_alloc_array(arena, load->n_series, sizeof(*rows));
    Sentinel__Telemetry__V1__Series **series =
        arena_alloc_array(arena, load->n_series, sizeof(*series));
    uint32_t *ids = arena_alloc_array(arena, load->n_series, sizeof(*ids));
    Sentinel__Telemetry__V1__MetricBatch batch;
    Sentinel__Telemetry__V1__Layout layout, *layouts[1] = { &layout };
    int r = 0;

    if (!rows || !series || !ids)
        return fault(-ENOMEM, "no memory for %" PRIu32 " series", load->n_series);
    sentinel__telemetry__v1__metric_batch__init(&batch);
    sentinel__telemetry__v1__layout__init(&layout);
    for (uint32_t i = 0; i < load->n_series && r == 0; i++) {
        r = declare(load, i, arena, &rows[i]);
        series[i] = &rows[i];
        ids[i] = i + 1;
    }
    layout.id = LAYOUT_ID;
    layout.series_ids = ids;
    layout.n_series_ids = load->n_series;
    batch.series = series;
    batch.n_series = load->n_series;
    batch.layouts = layouts;
    batch.n_layouts = 1;
    return r < 0 ? pass(r) : pass(wire_pack(&batch.base, &load->declarations));
}

int load_init(struct load *load)
{
    CLEANUP(arena_deinit) struct arena arena;
    int r;

    ensure(load->n_agents > 0 && load->n_series > 0 && load->n_series <= LOAD_MAX_SERIES);
    ensure((uint64_t) load->batch_scrapes * load->n_series <= LOAD_MAX_SAMPLES);
    ensure(load->first_us % load->interval_us == 0);
    ensure(!load->replay == !load->tracks);
    load->declarations = (struct buf){ 0 };
    arena_init(&load->arena, ARENA_BYTES);
    arena_init(&arena, ARENA_BYTES);
    r = make_groups(load);
    return r < 0 ? pass(r) : pass(pack_declarations(load, &arena));
}

void load_deinit(struct load *load)
{
    buf_deinit(&load->declarations);
    arena_deinit(&load->arena);
}
