/* SPDX-License-Identifier: Apache-2.0 */
#include "common/notify/notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"

static bool set_address(struct notify *notify, const char *path)
{
    const size_t len = strlen(path);

    if (len < 2 || len >= sizeof(notify->address.sun_path) || (path[0] != '/' && path[0] != '@'))
        return false;
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, path, len);
    if (path[0] == '@')
        notify->address.sun_path[0] =
            '\0'; /* unix(7): an abstract name has no end but its length */
    notify->address_bytes =
        (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '/'));
    return true;
}

/* sd_watchdog_enabled(3): the limit is for the process of $WATCHDOG_PID, where that is said. */
static int64_t read_watchdog(void)
{
    const char *limit = getenv("WATCHDOG_USEC"), *whose = getenv("WATCHDOG_PID");
    uint64_t limit_us = 0, pid = 0;

    if (!limit || text_to_u64(limit, &limit_us) || limit_us > INT64_MAX)
        return 0;
    if (whose && (text_to_u64(whose, &pid) || pid != (uint64_t) getpid()))
        return 0;
    return (int64_t) limit_us;
}

static void say(struct notify *notify, const struct buf *text)
{
    if (notify->fd < 0)
        return;
    if (buf_failed(text) || sendto(notify->fd, text->data, text->len, MSG_NOSIGNAL | MSG_DONTWAIT,
                                   (const struct sockaddr *) &notify->address,
                                   notify->address_bytes) != (ssize_t) text->len)
        notify->n_lost++;
}

/* A line break would begin another assignment. */
static void append_status(struct buf *text, const char *status)
{
    buf_append_text(text, "STATUS=");
    text_append_printable(text, span_of_text(status));
    buf_append_text(text, "\n");
}

void notify_open(struct notify *ret)
{
    const char *path = getenv("NOTIFY_SOCKET");

    *ret = (struct notify){ .fd = -1 };
    if (path && set_address(ret, path))
        ret->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ret->fd >= 0)
        ret->watchdog_us = read_watchdog();
    (void) unsetenv("NOTIFY_SOCKET");
    (void) unsetenv("WATCHDOG_USEC");
    (void) unsetenv("WATCHDOG_PID");
}

void notify_close(struct notify *notify)
{
    if (notify->loop)
        loop_timer_disarm(notify->loop, &notify->timer);
    notify->loop = NULL;
    if (notify->address_bytes > 0)
        fd_closep(&notify->fd);
    notify->fd = -1;
}

bool notify_is_heard(const struct notify *notify)
{
    return notify->fd >= 0;
}

void notify_ready(struct notify *notify, const char *status)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    buf_append_text(&text, "READY=1\n");
    append_status(&text, status);
    say(notify, &text);
}

void notify_reloading(struct notify *notify)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct timespec now;

    /* The manager compares it with its own clock: the kernel's, not a test's. */
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    buf_printf(&text, "RELOADING=1\nMONOTONIC_USEC=%lld\n",
               (long long) now.tv_sec * 1000000 + now.tv_nsec / 1000);
    say(notify, &text);
}

void notify_stopping(struct notify *notify, const char *status)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    buf_append_text(&text, "STOPPING=1\n");
    append_status(&text, status);
    say(notify, &text);
}

void notify_status(struct notify *notify, const char *status)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    append_status(&text, status);
    say(notify, &text);
}

/* ---- watchdog ---- */

static void on_timer(struct loop_timer *timer)
{
    struct notify *notify = timer->ctx;
    CLEANUP(buf_deinit) struct buf text = { 0 };

    buf_append_text(&text, "WATCHDOG=1\n");
    say(notify, &text);
    ensure(loop_timer_arm_in(notify->loop, timer, notify->watchdog_us / 2) == 0);
}

int notify_watch(struct notify *notify, struct loop *loop)
{
    ensure(!notify->loop);
    if (notify->fd < 0 || notify->watchdog_us < 2)
        return 0;
    notify->loop = loop;
    notify->timer = (struct loop_timer){ .fn = on_timer, .ctx = notify };
    return pass(loop_timer_arm_in(loop, &notify->timer, 0));
}
