#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Records for the suites of logblock: random ones of everything that may be in them, and lines as
 * programs write them. One test at a time. */

#include "suite.h"

#include "common/base/rand.h"
#include "common/logblock/parts.h"
#include "lines.h"

#define RIG_RECORDS_MAX 400
#define RIG_ATTRIBUTES_MAX 64
#define RIG_SETS 6

extern struct logblock_work *rig_work;
extern struct logblock_room *rig_room;
extern struct buf rig_out, rig_texts;
extern struct logblock_record rig_records[RIG_RECORDS_MAX];
extern struct logblock_attribute rig_attributes[RIG_SETS][RIG_ATTRIBUTES_MAX];
extern struct logblock_source rig_source;
extern size_t rig_n_records;

void rig_start(void);
void rig_stop(void);
uint64_t rig_below(uint64_t bound);

/* Fills records and source with n of them. */
void rig_random_records(size_t n, size_t max_len);
/* With RIG_RECORDS_MAX of them. */
void rig_made_records(enum lines_style style, uint64_t seed);

/* A block of them, until the next one. */
struct span rig_encode(enum logblock_effort effort);
struct logblock rig_open(struct span bytes);

void rig_assert_source(const struct logblock_source *a, const struct logblock_source *b);
void rig_assert_record(const struct logblock_record *a, const struct logblock_record *b);

TCase *logblock_words_case(void);
TCase *logblock_find_case(void);
TCase *logblock_sent_case(void);
