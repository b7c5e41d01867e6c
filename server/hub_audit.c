/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/hub_inside.h"
#include "server/limits.h"

/* On the audit's thread, which audit_start() makes when pki is there; until audit_stop(), which
 * comes before pki goes. */
static int on_sign(void *ctx, struct span data, struct buf *to)
{
    struct hub *hub = ctx;

    return pki_hub_sign(hub->pki, data, to);
}

int hub_make_audit(struct hub *hub)
{
    char directory[sizeof(hub->state) + 16];
    const struct audit_options options = {
        .store = hub->store,
        .directory = directory,
        .limits = limits_of_audit(&hub->settings),
        .sign = hub->settings.security == SETTINGS_INSECURE ? NULL : on_sign,
        .ctx = hub,
    };
    const struct conf_list *exempt = &hub->settings.limits_exempt;
    const struct conf_list *proxies = &hub->settings.listen_trusted_proxies;
    const char *networks[64 + 64 + 1] = { NULL }; /* the rows' limits */
    size_t n = 0;

    snprintf(directory, sizeof(directory), "%s/audit", hub->state);
    for (size_t i = 0; i < exempt->n_items && i < 64; i++)
        networks[n++] = exempt->items[i];
    for (size_t i = 0; i < proxies->n_items && i < 64; i++)
        networks[n++] = proxies->items[i];
    int r = audit_open(&hub->audit, &options);
    if (r == 0)
        r = quota_open(&hub->quota, hub->store, networks);
    return fold(r);
}

/* The daemon starts and stops also while the disk is full: then the entry waits for room. */
static void say(struct hub *hub, const struct audit_entry *entry)
{
    if (audit_put(hub->audit, entry) != 0)
        audit_note(hub->audit, entry);
}

void hub_say_started(struct hub *hub)
{
    const struct audit_field fields[] = {
        { "version", SENTINEL_VERSION },
        { "security", settings_security_names[hub->at_start.security] },
        { "settings_sha256", hub->shared.status.settings_sha256 },
    };
    const struct audit_entry entry = {
        .event = AUDIT_HUB_STARTED,
        .actor = "hub",
        .fields = fields,
        .n_fields = sizeof(fields) / sizeof(fields[0]),
    };

    say(hub, &entry);
    hub->has_said_started = true;
}

void hub_say_settings(struct hub *hub)
{
    const struct audit_field field = { "settings_sha256", hub->shared.status.settings_sha256 };
    const struct audit_entry entry = {
        .event = AUDIT_SETTINGS, .actor = "hub", .fields = &field, .n_fields = 1
    };

    say(hub, &entry);
}

void hub_say_stopped(struct hub *hub)
{
    const struct audit_field field = { "reason", hub->outcome == HUB_OK ? "asked to"
                                                                        : "failed: see its log" };
    const struct audit_entry entry = {
        .event = AUDIT_HUB_STOPPED, .actor = "hub", .fields = &field, .n_fields = 1
    };

    if (hub->has_said_started)
        say(hub, &entry);
    audit_stop(hub->audit);
}
