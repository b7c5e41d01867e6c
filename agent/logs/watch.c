/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agent/logs/inside.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"

#define MAX_DIRECTORIES 256 /* those behind are looked at by the clock alone */
#define EVENTS_BYTES 16384
#define NAMES (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE)
#define ALL (NAMES | IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

static void on_event(struct loop_file *file, uint32_t events)
{
    struct logs *logs = file->ctx;

    (void) events;
    /* A busy directory wakes once a turn, not once a line: what came is taken at the next look. */
    ensure(loop_file_change(logs->loop, file, 0) == 0);
    logs_wake(logs);
}

int watch_open(struct watch *watch, struct logs *logs)
{
    *watch = (struct watch){ .fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), .needs_scan = true };
    watch->file = (struct loop_file){ .fd = watch->fd, .fn = on_event, .ctx = logs };
    watch->ids = calloc(MAX_DIRECTORIES, sizeof(*watch->ids));
    watch->paths = calloc(MAX_DIRECTORIES, sizeof(*watch->paths));
    if (!watch->ids || !watch->paths)
        return fault(-ENOMEM, "no memory to watch directories");
    if (watch->fd < 0)
        return 0; /* none left for this user: the clock does it */
    watch->file.events = EPOLLIN;
    return pass(loop_file_add(logs->loop, &watch->file));
}

void watch_close(struct watch *watch, struct loop *loop)
{
    if (watch->file.is_added)
        loop_file_remove(loop, &watch->file);
    if (watch->fd >= 0)
        close(watch->fd);
    for (size_t i = 0; i < watch->n; i++)
        free(watch->paths[i]);
    free(watch->paths);
    free(watch->ids);
    *watch = (struct watch){ .fd = -1 };
}

void watch_directory(struct watch *watch, const char *path)
{
    int id;

    if (watch->fd < 0 || watch->n == MAX_DIRECTORIES)
        return;
    for (size_t i = 0; i < watch->n; i++)
        if (strcmp(watch->paths[i], path) == 0)
            return;
    id = inotify_add_watch(watch->fd, path, ALL);
    if (id < 0)
        return;
    watch->paths[watch->n] = strdup(path);
    if (!watch->paths[watch->n]) {
        (void) inotify_rm_watch(watch->fd, id);
        return;
    }
    watch->ids[watch->n++] = id;
}

/* A directory that is gone may come again under its name. */
static void forget(struct watch *watch, int id)
{
    for (size_t i = 0; i < watch->n; i++) {
        if (watch->ids[i] != id)
            continue;
        free(watch->paths[i]);
        watch->n--;
        watch->ids[i] = watch->ids[watch->n];
        watch->paths[i] = watch->paths[watch->n];
        return;
    }
}

bool watch_drain(struct watch *watch)
{
    _Alignas(struct inotify_event) char bytes[EVENTS_BYTES];
    bool has_events = false;
    ssize_t n;

    while (watch->fd >= 0 && (n = read(watch->fd, bytes, sizeof(bytes))) > 0) {
        has_events = true;
        for (char *at = bytes; at < bytes + n;) {
            const struct inotify_event *event = (const void *) at;

            if (event->mask & (NAMES | IN_Q_OVERFLOW | IN_IGNORED | IN_MOVE_SELF))
                watch->needs_scan = true;
            if (event->mask & IN_MOVE_SELF)
                (void) inotify_rm_watch(watch->fd, event->wd);
            if (event->mask & IN_IGNORED)
                forget(watch, event->wd);
            at += sizeof(*event) + event->len;
        }
    }
    return has_events;
}
