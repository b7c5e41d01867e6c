#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to the daemon: what its files share.
 *
 *   hub.c        the life of it: signals, timers, reload, drain, end
 *   hub_make.c   every module made and wired, in the order of server/README.md
 *   hub_expiry.c certificates that end soon are said
 *   hub_reload.c reloads that are asked for through AdminService
 *   hub_audit.c  the audit and the limits: made, and what the daemon says of itself there
 *   hub_door.c   which addresses may connect
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/loop/loop.h"
#include "common/notify/notify.h"
#include "server/audit/audit.h"
#include "server/certificate.h"
#include "server/export/export.h"
#include "server/front/front.h"
#include "server/hub.h"
#include "server/ingest/ingest.h"
#include "server/pki/pki.h"
#include "server/query/query.h"
#include "server/quota/quota.h"
#include "server/store/store.h"
#include "server/upload/upload.h"
#include "server/web/web.h"

struct hub {
    /* Made in this order, freed in the other. */
    struct loop *loop;
    struct store *store;
    struct audit *audit;
    struct quota *quota;
    struct pki *pki; /* NULL: insecure */
    struct ingest *ingest;
    struct uploads *uploads;
    struct query query;
    struct query_pool *pool;
    struct front *front;
    bool is_rpc_up;
    struct certificate certificate; /* without credentials: insecure */
    struct rpc_server *server;
    struct web *web;       /* NULL: listen.https is off */
    struct export *export; /* NULL: there is no remote_write.url */

    const struct settings_sources *sources;
    struct settings at_start; /* what needs a restart is taken from here */
    struct settings settings; /* as of the last reload */
    char state[4096];
    char database[4200];

    struct notify notify; /* the service manager */
    struct loop_signals signals;
    struct loop_timer registry_timer, certificate_timer, drain_timer;
    struct loop_wakeup store_wakeup;
    uint64_t generation; /* of the registry that front was told last */
    uint64_t ca_version; /* that the listeners' certificates and roots are of */
    mono_us drain_due;   /* when what is open is cut */
    bool is_draining;
    unsigned n_expiry_looks;
    bool has_said_started; /* in the audit */
    int outcome;

    /* Set by the store's writers, read by the loop. */
    atomic_bool has_store_failed, is_store_full;

    /* AdminService.Reload: a reader asks, the loop does it. */
    struct {
        struct loop_wakeup wakeup;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool is_wanted, is_done, is_ended; /* under lock, and `result` */
        struct front_reload result;
    } reload;

    struct {
        pthread_mutex_t lock;
        struct front_status status;
        struct rpc_server *server; /* while there is one to ask */
    } shared;
};

/* ---- hub_make.c ---- */

/*
 * In the order of server/README.md; each leaves what it made to the end, also when it fails.
 * Outcomes: of enum hub_outcome; the log has the reason.
 */
int hub_make_modules(struct hub *hub) MUST_USE;
int hub_make_listeners(struct hub *hub) MUST_USE;
/* The line that scripts wait for, and the log's. */
void hub_say_ready(const struct hub *hub);
/* Logs why the hub does not start; returns `outcome`. */
int hub_refuse(int outcome, const char *reason);
/* Enrolment strings have it: public_address, else the hub's first name with its port. */
void hub_set_address(struct hub *hub);
/* The certificate in use goes to who shows it. */
void hub_show_certificate(struct hub *hub);

/* ---- hub_door.c ---- */

struct rpc_door hub_door(struct hub *hub);

/* ---- hub.c ---- */

/* Settings and certificates are read again. On the loop. */
void hub_reload(struct hub *hub, struct front_reload *ret);

/* ---- hub_expiry.c ---- */

/* Each minute; warns once an hour. */
void hub_look_at_expiry(struct hub *hub);

/* ---- hub_reload.c ---- */

int hub_reload_begin(struct hub *hub) MUST_USE;
/* Blocks until the loop has reloaded; `ctx` is the hub. On a reader. */
void hub_reload_ask(void *ctx, struct front_reload *ret);
/* Who waits is told that the hub stops. */
void hub_reload_end(struct hub *hub);

/* ---- hub_audit.c ---- */

/* Both before pki, which writes there. */
int hub_make_audit(struct hub *hub) MUST_USE;
/* The daemon's own entries: it serves, settings were loaded (how: "reload", ...), it stops. */
void hub_say_started(struct hub *hub);
void hub_say_settings(struct hub *hub);
void hub_say_stopped(struct hub *hub);
