#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Prom: our metrics in Prometheus' words: names, labels, and the text format 0.0.4. Pure.
 *
 * Names follow OpenTelemetry's rules for Prometheus: everything but letters, digits, `_` and `:`
 * becomes `_`, runs of it one; the unit becomes a suffix in words (`By` -> `_bytes`, `s` ->
 * `_seconds`, `1` -> `_ratio` of gauges, `By/s` -> `_bytes_per_second`, `{packet}` -> none) unless
 * the name has it already; counters end in `_total`.
 *
 *     system.cpu.time, s, counter           -> system_cpu_time_seconds_total
 *     system.memory.utilization, 1, gauge   -> system_memory_utilization_ratio
 *
 * Keys of attributes become names of labels the same way. The label `agent` is ours, the
 * certificate's word: an attribute that calls itself so comes as `attribute_agent`.
 *
 * Thread: any.
 */

#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "server/store/store.h"

struct prom_label {
    const char *name, *value;
};

enum prom_type { PROM_UNTYPED, PROM_GAUGE, PROM_COUNTER };

/* Appends. */
void prom_put_name(struct buf *to, const char *name, const char *unit, enum store_kind kind);
/* Appends the name of a label. */
void prom_put_label_name(struct buf *to, const char *key);

/*
 * The labels of attributes, in the arena: ascending by name, each name once (values of keys that
 * become the same name are joined by `;`). Faults: arena exhausted.
 */
int prom_labels(const struct store_attribute *attributes,
                size_t n_attributes,
                struct arena *arena,
                struct prom_label **ret,
                size_t *ret_n) MUST_USE;

/* ---- text ---- */

/* `# HELP` and `# TYPE` of a family. */
void prom_put_family(struct buf *to, const char *name, enum prom_type type, const char *help);
/* name="value", escaped. */
void prom_put_label(struct buf *to, const char *name, const char *value);
/* As Go's ParseFloat reads it: the fewest digits, NaN, +Inf, -Inf. */
void prom_put_value(struct buf *to, double value);
