/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/folder.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "agent/folder_pass.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/log/log.h"

#define SOON_US INT64_C(100000) /* files come in bunches */
#define RETRY_US INT64_C(60000000)
#define END_LOOKS 20
#define END_LOOK_US INT64_C(50000)

/* One pass, in its thread. Shared with it until `is_done`. */
struct worker {
    struct pass *pass;
    _Atomic bool is_done;
    struct loop_wakeup *wakeup;
    pthread_t thread;
};

struct folder {
    struct folder_options options;
    char hub[256]; /* empty: none is connected */
    struct loop_timer timer;
    struct loop_wakeup wakeup;
    struct loop_file watch; /* inotify; fd -1: none */
    bool has_news;          /* while a pass is under way */
    struct worker *worker;  /* under way */
    struct pass_deferred deferred[PASS_MAX_DEFERRED];
    size_t n_deferred;
    struct folder_status status;
};

/* ---- planning ---- */

static bool is_on(const struct folder *folder)
{
    return folder->options.settings->upload_folder[0] != '\0';
}

static void plan(struct folder *folder, int64_t delay_us)
{
    if (is_on(folder) && folder->hub[0])
        ensure(loop_timer_arm_in(folder->options.loop, &folder->timer, delay_us) == 0);
    else
        loop_timer_disarm(folder->options.loop, &folder->timer);
}

static void on_watch(struct loop_file *file, uint32_t events)
{
    struct folder *folder = file->ctx;
    char room[4096];

    (void) events;
    while (read(file->fd, room, sizeof(room)) > 0)
        folder->has_news = true;
    if (folder->has_news && !folder->worker)
        plan(folder, SOON_US);
}

static void unwatch(struct folder *folder)
{
    if (folder->watch.fd >= 0)
        loop_file_remove(folder->options.loop, &folder->watch);
    fd_closep(&folder->watch.fd);
}

/* Without it files are seen at the next look. */
static void watch(struct folder *folder)
{
    unwatch(folder);
    if (!is_on(folder))
        return;
    folder->watch.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (folder->watch.fd < 0 ||
        inotify_add_watch(folder->watch.fd, folder->options.settings->upload_folder,
                          IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR) < 0 ||
        loop_file_add(folder->options.loop, &folder->watch) != 0)
        fd_closep(&folder->watch.fd);
}

/* ---- passes ---- */

static void *worker_main(void *arg)
{
    struct worker *worker = arg;

    pass_run(worker->pass);
    atomic_store(&worker->is_done, true);
    loop_wakeup_fire(worker->wakeup);
    return NULL;
}

static struct worker *worker_free(struct worker *worker)
{
    if (worker)
        (void) pass_free(worker->pass);
    free(worker);
    return NULL;
}
DEFINE_CLEANUP(struct worker *, worker_free);

static int start_pass(struct folder *folder)
{
    CLEANUP(worker_freep) struct worker *worker = calloc(1, sizeof(*worker));
    int r;

    if (worker)
        worker->pass = pass_new(folder->options.settings, folder->hub, folder->options.insecure_id);
    if (!worker || !worker->pass)
        return fault(-ENOMEM, "no memory for a pass through the upload folder");
    memcpy(worker->pass->deferred, folder->deferred, sizeof(folder->deferred));
    worker->pass->n_deferred = folder->n_deferred;
    worker->wakeup = &folder->wakeup;
    r = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (r)
        return fault(-r, "cannot start a thread for the upload folder");
    folder->has_news = false;
    folder->worker = take(worker);
    return 0;
}

static void take_over(struct folder *folder, const struct pass *pass)
{
    struct folder_status *status = &folder->status;

    memcpy(folder->deferred, pass->deferred, sizeof(folder->deferred));
    folder->n_deferred = pass->n_deferred;
    status->n_done += pass->n_done;
    status->n_failed += pass->n_failed;
    status->n_bytes += pass->n_bytes;
    status->n_waiting = pass->n_waiting;
    if (pass->n_done > 0)
        status->last_done = clock_wall();
    if (pass->error[0] && strcmp(pass->error, status->error) != 0)
        log_event(LOG_WARN, "upload_folder", LOG_S("error", pass->error));
    if (pass->error[0] || pass->n_done > 0)
        memcpy(status->error, pass->error, sizeof(status->error));
}

static void on_wakeup(struct loop_wakeup *wakeup)
{
    struct folder *folder = wakeup->ctx;
    struct worker *worker = folder->worker;
    const struct pass *pass;

    if (!worker || !atomic_load(&worker->is_done))
        return;
    folder->worker = NULL;
    (void) pthread_join(worker->thread, NULL);
    pass = worker->pass;
    take_over(folder, pass);
    plan(folder, pass->is_cut                         ? RETRY_US
                 : pass->has_more || folder->has_news ? SOON_US
                                                      : folder->options.settings->upload_scan);
    (void) worker_free(worker);
    if (folder->watch.fd < 0)
        watch(folder); /* the folder may be there by now */
}

static void on_timer(struct loop_timer *timer)
{
    struct folder *folder = timer->ctx;

    if (folder->worker || !is_on(folder) || !folder->hub[0])
        return;
    if (start_pass(folder) != 0)
        plan(folder, RETRY_US);
}

/* ---- life ---- */

int folder_new(struct folder **ret, const struct folder_options *options)
{
    struct folder *folder = calloc(1, sizeof(*folder));
    int r;

    if (!folder)
        return fault(-ENOMEM, "no memory for the upload folder");
    folder->options = *options;
    folder->timer = (struct loop_timer){ .fn = on_timer, .ctx = folder };
    folder->wakeup = (struct loop_wakeup){ .fn = on_wakeup, .ctx = folder };
    folder->watch =
        (struct loop_file){ .fd = -1, .events = EPOLLIN, .fn = on_watch, .ctx = folder };
    r = loop_wakeup_add(options->loop, &folder->wakeup);
    if (r) {
        free(folder);
        return pass(r);
    }
    watch(folder);
    *ret = folder;
    return 0;
}

/* true: it is over and joined. */
static bool end_pass(struct worker *worker)
{
    atomic_store(&worker->pass->is_unwanted, true);
    for (int i = 0; i < END_LOOKS && !atomic_load(&worker->is_done); i++) {
        const struct timespec look = { .tv_nsec = END_LOOK_US * 1000 };

        (void) nanosleep(&look, NULL);
    }
    if (!atomic_load(&worker->is_done))
        return false;
    (void) pthread_join(worker->thread, NULL);
    return true;
}

struct folder *folder_free(struct folder *folder)
{
    if (!folder)
        return NULL;
    unwatch(folder);
    loop_timer_disarm(folder->options.loop, &folder->timer);
    if (folder->worker && !end_pass(folder->worker)) {
        /* The thread may still fire the wakeup: both stay to the end of the process. */
        (void) pthread_detach(folder->worker->thread);
        return NULL;
    }
    (void) worker_free(folder->worker);
    loop_wakeup_remove(folder->options.loop, &folder->wakeup);
    free(folder);
    return NULL;
}

void folder_configure(struct folder *folder, const struct settings *settings)
{
    folder->options.settings = settings;
    watch(folder);
    if (folder->worker)
        folder->has_news = true; /* the next pass has the new settings */
    else
        plan(folder, SOON_US);
}

void folder_set_hub(struct folder *folder, const char *hub)
{
    snprintf(folder->hub, sizeof(folder->hub), "%s", hub ? hub : "");
    if (!folder->worker)
        plan(folder, SOON_US);
}

void folder_get_status(const struct folder *folder, struct folder_status *ret)
{
    *ret = folder->status;
}
