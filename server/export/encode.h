#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Encode: prometheus.WriteRequest (remote_write 1.0) as protobuf, by hand: labels are encoded once
 * and copied from then on. Pure. Private to server/export.
 *
 *   WriteRequest  { repeated TimeSeries timeseries = 1; }
 *   TimeSeries    { repeated Label labels = 1; repeated Sample samples = 2; }
 *   Label         { string name = 1; string value = 2; }
 *   Sample        { double value = 1; int64 timestamp = 2; }     milliseconds since 1970
 */

#include "common/base/buf.h"
#include "server/prom/prom.h"

/* Values as they lie in memory: a NaN keeps its payload. */
struct encode_sample {
    uint64_t bits;
    int64_t time_ms;
};

/* Appends one label of a TimeSeries. */
void encode_label(struct buf *to, const char *name, const char *value);
/*
 * Appends all but `agent`, where labels stand in the order of their names: what comes before it,
 * and what comes behind. `more` goes in where `labels` has none of that name. Both ascending. A
 * label without a value is no label.
 */
void encode_labels(struct buf *before,
                   struct buf *behind,
                   const char *name,
                   const struct prom_label *labels,
                   size_t n_labels,
                   const struct prom_label *more,
                   size_t n_more);

/* Labels in parts, each encoded. */
struct encode_series {
    struct span before, agent, behind;
};
/* Appends a TimeSeries to a WriteRequest. A stale marker becomes another NaN. */
void encode_series(struct buf *to,
                   const struct encode_series *series,
                   const struct encode_sample *samples,
                   size_t n_samples);

/* Rounds down. */
int64_t encode_ms(int64_t time_us);
