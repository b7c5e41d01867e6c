/* SPDX-License-Identifier: Apache-2.0 */

/* Certificates that end soon and that nobody has renewed are said, once an hour. */

#include <stdio.h>
#include <string.h>

#include "common/base/text.h"
#include "common/log/log.h"
#include "server/hub_inside.h"

#define NAMED 5
#define LOOKS_A_WARNING 60 /* a look each minute */
/* Of an authority: a rotation waits until every agent has renewed. */
#define CA_LEFT_US (INT64_C(90) * 24 * 3600 * 1000000)

static void warn_of_leaves(const struct pki_expiring *rows, size_t n, size_t n_all)
{
    CLEANUP(buf_deinit) struct buf names = { 0 };
    char first[TEXT_TIME_BYTES];

    for (size_t i = 0; i < n; i++)
        buf_printf(&names, "%s%s/%s", i ? " " : "",
                   rows[i].kind == PKI_AGENT ? "agent" : "operator", rows[i].name);
    if (n_all > n)
        buf_printf(&names, " and %zu more", n_all - n);
    log_event(LOG_WARN, "certificates_expire_soon", LOG_U("certificates", n_all),
              LOG_S("first", text_of_time(rows[0].not_after, first)), LOG_S("of", buf_text(&names)),
              LOG_S("remedy", "agents renew by themselves: see what keeps these (`sentinel-agent "
                              "status` there); operators: `sentinelctl certs renew`"));
}

static void warn_of_authority(const char *name, wall_us not_after, wall_us now)
{
    char end[TEXT_TIME_BYTES];

    if (not_after.us == 0 || not_after.us - now.us > CA_LEFT_US)
        return;
    log_event(LOG_WARN, "authority_expires_soon", LOG_S("authority", name),
              LOG_S("expires", text_of_time(not_after, end)),
              LOG_S("remedy", "begin a rotation: sentinelctl certs rotate-ca prepare"));
}

void hub_look_at_expiry(struct hub *hub)
{
    struct pki_expiring rows[NAMED];
    struct pki_ca_status authority;
    const wall_us now = clock_wall();
    const bool is_due = hub->n_expiry_looks++ % LOOKS_A_WARNING == 0;
    size_t n, n_all;

    /* A fault is in the log; the next minute looks again. */
    if (pki_list_expiring(hub->pki, now, rows, NAMED, &n, &n_all) != 0)
        return;
    pthread_mutex_lock(&hub->shared.lock);
    hub->shared.status.certificates_expiring = n_all;
    pthread_mutex_unlock(&hub->shared.lock);
    if (!is_due)
        return;
    if (n_all > 0)
        warn_of_leaves(rows, n, n_all);
    if (pki_ca_get_status(hub->pki, &authority) != 0)
        return;
    warn_of_authority("root", authority.root_not_after, now);
    warn_of_authority("agents", authority.agents_ca_not_after, now);
    warn_of_authority("hubs", authority.hubs_ca_not_after, now);
}
