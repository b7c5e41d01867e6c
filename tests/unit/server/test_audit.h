#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the suites of the audit share: a database of its own for each test, and a clock. */

#include <check.h>
#include <stdint.h>

#include "server/audit/audit.h"
#include "server/audit/inside.h"
#include "server/store/store.h"

#define SECOND_US INT64_C(1000000)
#define MINUTE_US (60 * SECOND_US)

extern char audit_state[64];      /* the directory of both */
extern char audit_directory[128]; /* of closed days */
extern struct store *store;
extern struct audit *audit;
extern int64_t now_us; /* of both clocks; begins at noon of a day */

void audit_setup(void);
void audit_teardown(void);

/* The store and the audit again, as another process would have them. */
struct store *open_store(void);
/* NULL: those of an offline command. */
void open_audit(const struct audit_options *options);
void reopen(void);

/* One entry; the object may be NULL. */
void put(enum audit_event event, const char *actor, const char *object);
void put_many(unsigned n);
void note(enum audit_event event, const char *actor, const char *source);

/* Every row of the table, entries first; in static memory that the next call takes. */
struct seen {
    uint8_t key[STORE_KEY_BYTES];
    size_t key_len;
    uint8_t *value;
    size_t value_len;
};
struct seen *all_rows(size_t *ret_n);
/* The entries among them, read. Static too. */
const struct audit_record *all_entries(size_t *ret_n);
/* The field's value, or "". */
const char *field_of(const struct audit_record *record, const char *key);

/* A key of the test's: HMAC under it is the signature of anchors. */
int fake_sign(void *ctx, struct span data, struct buf *to);
bool fake_check(void *ctx, struct span data, struct span signature);
/* Closes and opens it with a signer. */
void open_signing(const struct audit_limits *limits);
void tick(void);

/* As audit_verify() with fake_check(). */
int verify_with(const struct audit_anchor *anchors, size_t n);
extern struct audit_verdict verdict;
/* It is broken at this entry, and the reason has this text. */
void verify_says(uint64_t entry, const char *text);
void verify_is_good(void);

TCase *case_chain(void);
TCase *case_notes(void);
TCase *case_days(void);
TCase *case_find(void);
TCase *case_tampering(void);
