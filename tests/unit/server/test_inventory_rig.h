#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the cases of inventories share: uploads that wait, and looks at what they left. */

#include <pthread.h>

#include "common/base/buf.h"
#include "common/crypto/crypto.h"
#include "test_store.h"

#define RIG_NOW_US (INT64_C(1780000000) * 1000000)
#define RIG_DAY_US (INT64_C(86400) * 1000000)

extern int64_t rig_now_us; /* what the clock says */

/* Fixture. */
void rig_begin(void);
void rig_finish(void);

struct rig_table {
    const char *name;
    uint32_t n_rows, variant;
};

/* n rows, of which `variant` tells some apart. */
void rig_make_table(struct buf *to, uint32_t n_rows, uint32_t variant);
void rig_sha_of(const struct rig_table *table, uint8_t *to);

struct rig_upload {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_done, is_missing[4];
    int r;
    uint64_t revision;
    uint32_t n_changed;
};

struct store_inventory_put *
rig_make_put(uint32_t agent, const struct rig_table *tables, size_t n, bool with_contents);
/* Waits for the answer. */
struct rig_upload rig_send(struct store *store,
                           uint32_t agent,
                           const struct rig_table *tables,
                           size_t n,
                           bool with_contents);
/* One table, whole. Returns the revision. */
uint64_t rig_put_one(struct store *store,
                     uint32_t agent,
                     const char *name,
                     uint32_t n_rows,
                     uint32_t variant);

/* Reads a content to its end and hashes what it has: 0, or what the store says. */
int rig_read_content(struct store *store, const uint8_t *sha256);
/* The contents of a revision are those of these tables. */
void rig_check_is(struct store *store,
                  const struct store_inventory *told,
                  const struct rig_table *tables,
                  size_t n);

/* The survey beside the running store; what is damaged in `damage`. */
struct store_found rig_survey(struct buf *damage);
struct store_found rig_survey_whole(void);
