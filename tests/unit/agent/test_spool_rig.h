#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A spool in a directory of its own, batches that can be told apart, and a hub that stores what a
 * reader hands out by the rules of the real one.
 */

#include <check.h>

#include "agent/spool/spool.h"

struct rig {
    char directory[64];
    struct spool_options options;
    struct spool *spool;
    struct spool_series *series[16];
    struct spool_layout *layout;
    unsigned n_rooms; /* calls of on_room */
};

void rig_start(struct rig *rig);
void rig_stop(struct rig *rig);
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
/* What a kill leaves: the files as they are now, under a new directory; then opened. */
void rig_kill(struct rig *rig);
/* "metrics/<the n-th segment by name>"; fails when there is none. */
void rig_segment(const struct rig *rig, enum spool_signal signal, unsigned n, char to[static 256]);
unsigned rig_count(const struct rig *rig, const char *directory, const char *end);
/* Turns a byte of it. */
void rig_damage(const char *path, long offset);

/* A scrape of `n_series` samples, the last one absent, whose first value is `value`. */
void rig_put(struct rig *rig, double value);
/* A batch of n records with bodies "<first>", "<first + 1>", ... and the offset "tail" = first + n.
 * Returns the outcome. */
int rig_put_logs(struct rig *rig, uint64_t first, size_t n);
uint64_t rig_offset(struct rig *rig);
struct spool_ledger rig_ledger(struct rig *rig, enum spool_signal signal);

#define RIG_SAMPLES 9
#define RIG_MAX 200000

/* The hub: how often each value or body came, and the runs it knows. */
struct rig_hub {
    uint8_t *seen; /* RIG_MAX counts */
    uint64_t skipped[SPOOL_REASONS], n_skips, n_doubles;
    struct {
        uint8_t id[SPOOL_ID_BYTES];
        uint64_t last;
        uint32_t crc32c;
    } runs[512];
    size_t n_runs;
    uint64_t refused; /* a body or value that it refuses; 0: none */
};
void rig_hub_start(struct rig_hub *hub);
void rig_hub_stop(struct rig_hub *hub);
/*
 * A stream: hello, resume, at most max batches, of which the acknowledgements reach the agent up to
 * the n-th. Returns whether there was anything.
 */
bool rig_stream(struct rig *rig,
                struct rig_hub *hub,
                enum spool_signal signal,
                enum spool_lane lane,
                unsigned max,
                unsigned n_acked);
/* Streams of both lanes until there is nothing. */
void rig_drain(struct rig *rig, struct rig_hub *hub, enum spool_signal signal);

/* Numbers from .. to - 1. */
void rig_put_many(struct rig *rig, uint64_t from, uint64_t to);
/* Each of from .. to - 1 came once. */
void rig_expect_seen(const struct rig_hub *hub, uint64_t from, uint64_t to);
void rig_set_limit(struct rig *rig,
                   enum spool_signal signal,
                   uint64_t bytes,
                   enum spool_policy policy);

/* For spool_drop_old(): whether all numbers of a batch are below the double that ctx points to. */
bool rig_is_below(void *ctx, const struct spool_item *item);

/* ---- test_spool_old.c ---- */
TCase *case_spool_old(void);
