/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/convert.h"

#include <string.h>

#include "common/base/text.h"

int convert_pair(struct ctl *ctl,
                 const char *flag,
                 const char *text,
                 char **ret_key,
                 char **ret_value)
{
    const char *equals = strchr(text, '=');

    if (!equals || equals == text)
        return ctl_say(CTL_USAGE, "%s: `%s` is not KEY=VALUE", flag, text);
    *ret_key = arena_copy(&ctl->arena, span_of(text, (size_t) (equals - text)));
    *ret_value = arena_copy_text(&ctl->arena, equals + 1);
    return *ret_key && *ret_value ? CTL_OK : ctl_say(CTL_FAILED, "out of memory");
}

int convert_add_agent(struct ctl *ctl, const char *word, ctl_selector *to)
{
    char *item = arena_copy_text(&ctl->arena, word);

    if (!item)
        return ctl_say(CTL_FAILED, "out of memory");
    if (!strpbrk(item, "*?"))
        to->ids[to->n_ids++] = item;
    else if (*to->pattern)
        return ctl_say(CTL_USAGE, "one pattern of agents at most (`%s` and `%s`)", to->pattern,
                       item);
    else
        to->pattern = item;
    return CTL_OK;
}

int convert_selector(struct ctl *ctl, ctl_selector *ret)
{
    sentinel__query__v1__agent_selector__init(ret);
    /* One more: convert_add_agent(). */
    ret->ids = arena_alloc_array(&ctl->arena, ctl->agents.n_items + 1, sizeof(char *));
    ret->labels = arena_alloc_array(&ctl->arena, ctl->labels.n_items,
                                    sizeof(Sentinel__Query__V1__AgentSelector__LabelsEntry *));
    if (!ret->ids || !ret->labels)
        return ctl_say(CTL_FAILED, "out of memory");
    for (size_t i = 0; i < ctl->agents.n_items; i++) {
        int r = convert_add_agent(ctl, ctl->agents.items[i], ret);

        if (r)
            return r;
    }
    for (size_t i = 0; i < ctl->labels.n_items; i++) {
        Sentinel__Query__V1__AgentSelector__LabelsEntry *entry =
            arena_alloc(&ctl->arena, sizeof(*entry));
        int r;

        if (!entry)
            return ctl_say(CTL_FAILED, "out of memory");
        sentinel__query__v1__agent_selector__labels_entry__init(entry);
        r = convert_pair(ctl, "--label", ctl->labels.items[i], &entry->key, &entry->value);
        if (r)
            return r;
        ret->labels[ret->n_labels++] = entry;
    }
    return CTL_OK;
}

int convert_range(struct ctl *ctl, const char *from, Sentinel__Query__V1__TimeRange *ret)
{
    int64_t us;

    sentinel__query__v1__time_range__init(ret);
    if (ctl->range && (ctl->from || ctl->to))
        return ctl_say(CTL_USAGE, "--range or --from and --to, not both");
    if (ctl->range && (text_to_duration_us(ctl->range + (*ctl->range == '-'), &us) || us <= 0))
        return ctl_say(CTL_USAGE, "--range: `%s` is not a duration such as 30m, 12h or 7d",
                       ctl->range);
    ret->from = ctl->range
                    ? arena_printf(&ctl->arena, "%s%s", *ctl->range == '-' ? "" : "-", ctl->range)
                    : arena_copy_text(&ctl->arena, ctl->from ? ctl->from : from);
    ret->to = arena_copy_text(&ctl->arena, ctl->to ? ctl->to : "now");
    return ret->from && ret->to ? CTL_OK : ctl_say(CTL_FAILED, "out of memory");
}

/* A hub that says nonsense is shown at the end of time. */
static int64_t microseconds(int64_t seconds, int32_t nanos)
{
    int64_t us;

    if (__builtin_mul_overflow(seconds, INT64_C(1000000), &us) ||
        __builtin_add_overflow(us, (int64_t) nanos / 1000, &us))
        return seconds < 0 ? INT64_MIN / 4 : INT64_MAX / 4;
    return us;
}

int64_t convert_time_us(const Google__Protobuf__Timestamp *time)
{
    return time ? microseconds(time->seconds, time->nanos) : 0;
}

int64_t convert_duration_us(const Google__Protobuf__Duration *duration)
{
    return duration ? microseconds(duration->seconds, duration->nanos) : 0;
}
