/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/pki/enrol/lineage.h"

/*
 * What call threads saw becomes durable on a thread of its own. It is started by the first job:
 * commands offline have none. A certificate, a fork, an adoption is queued once, when memory
 * changes, so the queue is never longer than the registry. A crash loses what is queued: then the
 * certificate is still unconfirmed, and is presented again.
 */

#define FULL_AGAIN_S 5 /* the disk is full */

static struct pki_job *next_job(struct pki_worker *worker)
{
    struct pki_job *job;

    pthread_mutex_lock(&worker->lock);
    while (!worker->first && !worker->is_stopping)
        pthread_cond_wait(&worker->wake, &worker->lock);
    job = worker->first;
    if (job) {
        worker->first = job->next;
        if (!worker->first)
            worker->last = NULL;
    }
    pthread_mutex_unlock(&worker->lock);
    return job;
}

/* Until there is room, or the end. */
static bool wait_for_room(struct pki_worker *worker)
{
    struct timespec until;
    bool is_stopping;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += FULL_AGAIN_S;
    pthread_mutex_lock(&worker->lock);
    while (rc == 0 && !worker->is_stopping)
        rc = pthread_cond_timedwait(&worker->wake, &worker->lock, &until);
    is_stopping = worker->is_stopping;
    pthread_mutex_unlock(&worker->lock);
    return !is_stopping;
}

static void *worker_main(void *arg)
{
    struct pki *pki = arg;
    struct pki_job *job;

    while ((job = next_job(&pki->worker)) != NULL) {
        int r = pki_work_do(pki, job);
        while (r == PKI_FULL && job->work != PKI_WORK_TICK && wait_for_room(&pki->worker))
            r = pki_work_do(pki, job);
        /* A fault is in the log. */
        if (r == PKI_FULL)
            log_event(
                LOG_WARN, "registry_behind_memory", LOG_S("agent", job->row.identity.name),
                LOG_S("reason", "the disk is full; it is written when the agent comes again"));
        free(job);
    }
    return NULL;
}

void pki_work_queue(struct pki *pki, const struct pki_job *given)
{
    struct pki_worker *worker = &pki->worker;
    struct pki_job *job = malloc(sizeof(*job));

    if (!job) {
        (void) fault(-ENOMEM, "no memory for a note of the registry");
        return;
    }
    *job = *given;
    job->next = NULL;
    pthread_mutex_lock(&worker->lock);
    ensure(!worker->is_stopping);
    if (!worker->has_thread)
        worker->has_thread = pthread_create(&worker->thread, NULL, worker_main, pki) == 0;
    if (worker->last)
        worker->last->next = job;
    else
        worker->first = job;
    worker->last = job;
    pthread_cond_broadcast(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
}

void pki_work_stop(struct pki *pki)
{
    struct pki_worker *worker = &pki->worker;
    bool has_thread;

    pthread_mutex_lock(&worker->lock);
    worker->is_stopping = true;
    has_thread = worker->has_thread;
    pthread_cond_broadcast(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
    if (has_thread)
        pthread_join(worker->thread, NULL);
    while (worker->first) { /* no thread could be had */
        struct pki_job *job = worker->first;
        worker->first = job->next;
        if (pki_work_do(pki, job) != 0)
            log_event(LOG_WARN, "registry_behind_memory", LOG_S("agent", job->row.identity.name));
        free(job);
    }
}
