#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Batch: rows of the journal, copied, then handed out as WriteRequests. Rows of one agent and
 * layout that come after each other share the labels of their series.
 *
 * What a definition's labels and an agent's label look like is kept, in tables of a fixed size.
 *
 * Private to server/export. Thread: the export's.
 */

#include "common/base/buf.h"
#include "server/prom/prom.h"
#include "server/store/store.h"

#define BATCH_REQUEST_BYTES (4U << 20) /* a request ends with the series that crosses this */

struct batch;

/* `labels` as of export_options, borrowed. */
int batch_new(struct batch **ret,
              struct store *store,
              const struct prom_label *labels,
              size_t n_labels) MUST_USE;
struct batch *batch_free(struct batch *batch);
DEFINE_CLEANUP(struct batch *, batch_free);

void batch_clear(struct batch *batch);
/* False: it is full (over max_values; one row always fits), or there is no memory; the row is not
 * in it. */
bool batch_add(struct batch *batch, const struct store_followed *row, uint32_t max_values);
bool batch_is_empty(const struct batch *batch);
/* There was no memory: it lacks rows, and is good for batch_clear() alone. */
bool batch_has_failed(const struct batch *batch);
/* Rows that do not fit their layout, since batch_new(). */
uint64_t batch_n_unreadable(const struct batch *batch);

/*
 * Appends the next request, of at most max_samples (one series always fits).
 *   ret_n_samples   0: there is no further one.
 * Faults: no memory, and what the store says; the batch can be read on from batch_rewind().
 */
int batch_put_request(struct batch *batch,
                      uint32_t max_samples,
                      struct buf *to,
                      size_t *ret_n_samples) MUST_USE;
void batch_rewind(struct batch *batch);
