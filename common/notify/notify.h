#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Notify: what the service manager hears of a daemon (sd_notify(3)), as datagrams of our own: no
 * library.
 *
 * Without $NOTIFY_SOCKET all of it does nothing, so the daemons need not know who started them.
 * What cannot be delivered is counted and forgotten: a manager that is away is no reason to stop
 * working.
 *
 *     READY=1                        up: what was ordered after us may start
 *     RELOADING=1 ... READY=1        settings are being read again; with MONOTONIC_USEC
 *     STOPPING=1                     on the way out
 *     STATUS=words                   the line of `systemctl status`
 *     WATCHDOG=1                     the loop goes round; fed at half of $WATCHDOG_USEC
 *
 * Thread: the loop's. Does not block: a full socket drops the datagram.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/base/cleanup.h"
#include "common/loop/loop.h"

struct notify {
    int fd; /* -1: nobody listens */
    struct sockaddr_un address;
    socklen_t address_bytes;
    int64_t watchdog_us; /* the manager's limit; 0: it does not watch */
    uint64_t n_lost;
    struct loop *loop;
    struct loop_timer timer;
};

/*
 * Reads $NOTIFY_SOCKET (a path, or @name for an abstract one), $WATCHDOG_USEC and $WATCHDOG_PID,
 * and takes them out of the environment, so that no child of ours speaks for us. A value that makes
 * no sense is as none.
 */
void notify_open(struct notify *ret);
/* Also of one that is all zero. */
void notify_close(struct notify *notify);

bool notify_is_heard(const struct notify *notify);

/* "STATUS=" and "READY=1" in one. */
void notify_ready(struct notify *notify, const char *status);
/* Before a reload; notify_ready() ends it. */
void notify_reloading(struct notify *notify);
void notify_stopping(struct notify *notify, const char *status);
void notify_status(struct notify *notify, const char *status);

/*
 * Feeds the watchdog from this loop, at once and then at half of its limit, until notify_close().
 * Nothing to do where nobody watches.
 */
int notify_watch(struct notify *notify, struct loop *loop) MUST_USE;
