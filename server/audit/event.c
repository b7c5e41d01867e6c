/* SPDX-License-Identifier: Apache-2.0 */

/* The table of events. */

#include <string.h>

#include "common/base/ensure.h"
#include "server/audit/audit.h"
#include "server/audit/row.h"

enum severity { INFO, WARN };

static const struct {
    const char *name, *code, *help;
    enum severity severity;
} events[AUDIT_N_EVENTS] = {
#define AUDIT_EVENT(id, name, code, severity, help) [AUDIT_##id] = { name, code, help, severity },
#include "server/audit/events.tbl"
#undef AUDIT_EVENT
};

const char *audit_event_name(enum audit_event event)
{
    ensure(event < AUDIT_N_EVENTS);
    return events[event].name;
}

const char *audit_event_code(enum audit_event event)
{
    ensure(event < AUDIT_N_EVENTS);
    return events[event].code;
}

const char *audit_event_help(enum audit_event event)
{
    ensure(event < AUDIT_N_EVENTS);
    return events[event].help;
}

bool row_event_is_failure(enum audit_event event)
{
    ensure(event < AUDIT_N_EVENTS);
    return events[event].severity == WARN;
}

enum audit_event row_event_of(const char *code)
{
    for (int i = 0; i < AUDIT_N_EVENTS; i++)
        if (strcmp(events[i].code, code) == 0)
            return (enum audit_event) i;
    return AUDIT_N_EVENTS;
}
