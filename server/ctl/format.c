/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"
#include "server/ctl/ctl.h"

/* What is shown when the arena has no room: the run is at its end then anyway. */
static const char *or_empty(const char *text)
{
    return text ? text : "";
}

const char *format_ago(struct ctl *ctl, int64_t time_us, int64_t now_us)
{
    int64_t s = (now_us - time_us) / 1000000, size = llabs(s);
    const char *unit = "s";

    if (time_us == 0)
        return "never";
    if (size >= INT64_C(2) * 86400) {
        size /= 86400;
        unit = "d";
    } else if (size >= INT64_C(2) * 3600) {
        size /= 3600;
        unit = "h";
    } else if (size >= 120) {
        size /= 60;
        unit = "min";
    }
    return or_empty(s >= 0 ? arena_printf(&ctl->arena, "%lld %s ago", (long long) size, unit)
                           : arena_printf(&ctl->arena, "in %lld %s", (long long) size, unit));
}

const char *format_time(struct ctl *ctl, int64_t time_us)
{
    char text[TEXT_TIME_BYTES];

    if (time_us == 0)
        return "never";
    return or_empty(arena_copy_text(&ctl->arena, text_of_time((wall_us){ time_us }, text)));
}

const char *format_printable(struct ctl *ctl, const char *text)
{
    CLEANUP(buf_deinit) struct buf shown = { 0 };

    text_append_printable(&shown, span_of_text(or_empty(text)));
    return or_empty(arena_copy_text(&ctl->arena, buf_text(&shown)));
}

const char *format_number(struct ctl *ctl, double value)
{
    static const char *const prefixes[] = { "", "k", "M", "G", "T", "P" };
    double size = fabs(value);
    size_t i = 0;

    if (!isfinite(value) || size < 10000)
        return or_empty(arena_printf(&ctl->arena, "%.4g", value));
    while (size >= 1000 && i + 1 < sizeof(prefixes) / sizeof(prefixes[0])) {
        size /= 1000;
        value /= 1000;
        i++;
    }
    return or_empty(arena_printf(&ctl->arena, "%.4g%s", value, prefixes[i]));
}

const char *format_value(struct ctl *ctl, double value, const char *unit)
{
    bool is_rate = strlen(unit) > 2 && strcmp(unit + strlen(unit) - 2, "/s") == 0;
    char text[TEXT_SIZE_BYTES];

    if ((strcmp(unit, "By") == 0 || strcmp(unit, "By/s") == 0) && isfinite(value) && value >= 0 &&
        value < 1e18)
        return or_empty(arena_printf(&ctl->arena, "%s%s", text_of_size((uint64_t) value, text),
                                     is_rate ? "/s" : ""));
    if (strcmp(unit, "1") == 0 || !*unit)
        return or_empty(arena_printf(&ctl->arena, "%.6g", value));
    return or_empty(arena_printf(&ctl->arena, "%.6g %s", value, unit));
}
