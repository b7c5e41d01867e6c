/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "server/hub_inside.h"

static void on_wanted(struct loop_wakeup *wakeup)
{
    struct hub *hub = wakeup->ctx;
    struct front_reload done = { "" };
    bool is_wanted;

    pthread_mutex_lock(&hub->reload.lock);
    is_wanted = hub->reload.is_wanted && !hub->reload.is_done;
    pthread_mutex_unlock(&hub->reload.lock);
    if (!is_wanted)
        return;
    if (hub->is_draining)
        snprintf(done.why, sizeof(done.why), "the hub is stopping");
    else
        hub_reload(hub, &done);
    pthread_mutex_lock(&hub->reload.lock);
    hub->reload.result = done;
    hub->reload.is_done = true;
    pthread_cond_broadcast(&hub->reload.changed);
    pthread_mutex_unlock(&hub->reload.lock);
}

int hub_reload_begin(struct hub *hub)
{
    hub->reload.wakeup = (struct loop_wakeup){ .fn = on_wanted, .ctx = hub };
    return loop_wakeup_add(hub->loop, &hub->reload.wakeup);
}

void hub_reload_ask(void *ctx, struct front_reload *ret)
{
    struct hub *hub = ctx;

    pthread_mutex_lock(&hub->reload.lock);
    while (hub->reload.is_wanted && !hub->reload.is_ended) /* one after the other */
        pthread_cond_wait(&hub->reload.changed, &hub->reload.lock);
    if (!hub->reload.is_ended) {
        hub->reload.is_wanted = true;
        hub->reload.is_done = false;
        loop_wakeup_fire(&hub->reload.wakeup);
        while (!hub->reload.is_done && !hub->reload.is_ended)
            pthread_cond_wait(&hub->reload.changed, &hub->reload.lock);
    }
    if (hub->reload.is_done)
        *ret = hub->reload.result;
    else
        snprintf(ret->why, sizeof(ret->why), "the hub is stopping");
    hub->reload.is_wanted = hub->reload.is_done = false;
    pthread_cond_broadcast(&hub->reload.changed);
    pthread_mutex_unlock(&hub->reload.lock);
}

void hub_reload_end(struct hub *hub)
{
    pthread_mutex_lock(&hub->reload.lock);
    hub->reload.is_ended = true;
    pthread_cond_broadcast(&hub->reload.changed);
    pthread_mutex_unlock(&hub->reload.lock);
}
