/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/collect/collector.h"
#include "common/base/ensure.h"
#include "common/base/text.h"

/* What a hub takes by default (wire.md): a name of 255 bytes, 1024 of a value. */
#define MAX_NAME_BYTES 255
#define MAX_VALUE_BYTES 1023
#define MAX_UNIT_BYTES 63
/* 32 attributes of a metric that is somebody else's. */
#define MAX_KEY_BYTES 49152
#define MAX_ATTRIBUTES 32

void *collect_state(struct probe *probe, size_t bytes)
{
    if (!probe->state)
        probe->state = calloc(1, bytes);
    if (!probe->state)
        collect_count_error(probe);
    return probe->state;
}

void collect_count_error(struct probe *probe)
{
    probe->n_errors++;
}

/* Appends at most max_bytes of the text and a NUL; a byte that is no UTF-8 becomes '?'. */
static void append_clean(struct buf *to, const char *text, size_t max_bytes)
{
    size_t len = strnlen(text, max_bytes + 1);

    if (len <= max_bytes && text_is_utf8(text, len)) {
        buf_append(to, text, len + 1);
        return;
    }
    for (struct span rest = span_of(text, len > max_bytes ? max_bytes : len); rest.len > 0;) {
        uint32_t code;
        size_t n = text_utf8_next(rest, &code);

        if (n > 0)
            buf_append(to, rest.data, n);
        else
            buf_append(to, "?", 1);
        n = n ? n : 1;
        rest = span_of(rest.data + n, rest.len - n);
    }
    buf_append(to, "", 1);
}

struct probe_mark collect_mark(const struct probe *probe)
{
    return (struct probe_mark){ probe->tray.len, probe->n_samples };
}

void collect_rewind(struct probe *probe, struct probe_mark mark)
{
    ensure(mark.bytes <= probe->tray.len && mark.n_samples <= probe->n_samples);
    probe->tray.len = mark.bytes;
    probe->n_samples = mark.n_samples;
}

void collect_add(struct probe *probe,
                 const struct collect_metric *metric,
                 double value,
                 const struct spool_attribute *attributes)
{
    struct tray_sample said = { .value = value, .kind = metric->kind };
    struct probe_mark mark = collect_mark(probe);
    size_t n_attributes = 0;

    if (!isfinite(value))
        return;
    if (!collect_wants(probe, COLLECT_METRICS, metric->name))
        return;
    if (probe->n_samples >= probe->max_samples) {
        probe->n_refused++;
        return;
    }
    buf_append(&probe->tray, &said, sizeof(said));
    append_clean(&probe->tray, metric->unit, MAX_UNIT_BYTES);
    said.unit_bytes = (uint32_t) (probe->tray.len - mark.bytes - sizeof(said));
    append_clean(&probe->tray, metric->name, MAX_NAME_BYTES);
    for (; attributes && attributes->key; attributes++, n_attributes++) {
        append_clean(&probe->tray, attributes->key, MAX_NAME_BYTES);
        append_clean(&probe->tray, attributes->value, MAX_VALUE_BYTES);
    }
    said.key_bytes = (uint32_t) (probe->tray.len - mark.bytes - sizeof(said) - said.unit_bytes);
    if (buf_failed(&probe->tray) || n_attributes > MAX_ATTRIBUTES ||
        said.key_bytes > MAX_KEY_BYTES) {
        probe->tray.has_failed = false;
        collect_rewind(probe, mark);
        collect_count_error(probe);
        return;
    }
    memcpy(probe->tray.data + mark.bytes, &said, sizeof(said));
    probe->n_samples++;
}
