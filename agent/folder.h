#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Folder: what is put into a directory goes to the hub. Private to the agent's composition root.
 *
 *     NAME          being written, or waiting
 *     done/NAME     the hub has it; removed after upload.keep_done
 *     failed/NAME   it never will as it is; failed/NAME.reason says why
 *
 * A file is taken when nobody has it open for writing (a lease tells, on file systems that have
 * them and for files of our own), else when it has not changed for upload.settle. What was cut goes
 * on where it was, also in a later process: a file lies here until the hub has acknowledged all of
 * it, and the hub knows it by what it is. A file that changes while it is sent is sent again.
 *
 * All that may hang (the directory may be on another machine) is done by a thread, one pass at a
 * time, and only while there is a connection to a hub.
 *
 * Thread: the loop's.
 */

#include "agent/settings.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/loop/loop.h"

struct folder;

struct folder_options {
    struct loop *loop;
    const struct settings *settings; /* until folder_configure() */
    const char *insecure_id;         /* plaintext, under this id; NULL: mutual TLS */
};
int folder_new(struct folder **ret, const struct folder_options *options) MUST_USE;
/* Waits shortly for a pass under way; one that hangs is left to the end of the process. */
struct folder *folder_free(struct folder *folder);
DEFINE_CLEANUP(struct folder *, folder_free);
void folder_configure(struct folder *folder, const struct settings *settings);
/* HOST:PORT of the hub that is connected, or NULL when none is. */
void folder_set_hub(struct folder *folder, const char *hub);

struct folder_status {
    uint64_t n_done, n_failed, n_bytes; /* since the start */
    uint64_t n_waiting;                 /* at the last look: written, deferred, or not looked at */
    wall_us last_done;                  /* 0: none */
    char error[400];                    /* the last thing that went wrong; empty: nothing since */
};
void folder_get_status(const struct folder *folder, struct folder_status *ret);
