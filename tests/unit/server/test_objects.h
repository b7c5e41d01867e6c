#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the suite of objects shares: a database for each test, and jobs that wait. */

#include <check.h>

#include "common/crypto/crypto.h"
#include "server/store/store.h"

extern char path[256];
extern struct store *store;
extern struct store_object_limits limits;
extern uint32_t agent, other;
extern int64_t now_us;

struct sent {
    struct store_object header;
    struct store_object_job begun;
    struct crypto_hash *hash;
    uint64_t next;
};

void open_it(void);
void close_it(void);
void reopen(void);
void set_up(void);
void tear_down(void);
int run(struct store_object_job *job);
struct store_object header_of(uint32_t of, uint8_t key, const char *name);
int begin_with(struct sent *sent, const struct store_object *header);
int begin(struct sent *sent, uint32_t of, uint8_t key, const char *name);
int append(struct sent *sent, const void *data, size_t len);
int finish(struct sent *sent);
int leave(struct sent *sent);
uint8_t *noise(size_t len, uint64_t seed);
uint64_t put(uint32_t of, uint8_t key, const char *name, const uint8_t *data, size_t len);
void check_content(uint64_t number, const uint8_t *data, size_t len);
size_t n_files(uint64_t *ret_bytes);
void sweep_now(void);
void set_limits(void); /* `limits`, and what must go has gone */
struct store_object_stats stats_now(void);

/* test_objects_limits.c */
TCase *objects_limits(void);
