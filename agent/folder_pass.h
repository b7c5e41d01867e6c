#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* One pass through an upload folder: in a thread, with everything of its own. Private to folder.c.
 */

#include <stdatomic.h>
#include <sys/types.h>

#include "agent/folder.h"
#include "common/send/send.h"

#define PASS_MAX_DEFERRED 64

/* A file that the hub does not take now. */
struct pass_deferred {
    ino_t inode;
    int64_t until_us; /* of the monotonic clock */
};

struct pass {
    /* In; strings are its own. */
    char *folder, *hub, *server_name, *identity, *insecure_id;
    struct send_label labels[SEND_LABELS];
    size_t n_labels;
    bool is_tls13_only;
    uint64_t max_bytes, max_files, bytes_per_s;
    int64_t settle_us, keep_us, keepalive_us;
    _Atomic bool is_unwanted;
    /* In and out. */
    struct pass_deferred deferred[PASS_MAX_DEFERRED];
    size_t n_deferred;
    /* Out. */
    uint64_t n_done, n_failed, n_bytes, n_waiting;
    bool has_more; /* files that were not looked at */
    bool is_cut;   /* the hub could not be had */
    char error[400];
};

/* NULL: no memory. */
struct pass *pass_new(const struct settings *settings, const char *hub, const char *insecure_id);
struct pass *pass_free(struct pass *pass);
void pass_run(struct pass *pass);
