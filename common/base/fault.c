/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"

static void sink_stderr(int code, struct fault_site site, const char *reason)
{
    if (reason)
        fprintf(stderr, "fault %s:%d %s(): %s: %s\n", site.file, site.line, site.func, reason,
                strerror(-code));
    else
        fprintf(stderr, "      %s:%d %s()\n", site.file, site.line, site.func);
}

static fault_sink_fn *fault_sink = sink_stderr;

void fault_set_sink(fault_sink_fn *sink)
{
    fault_sink = sink ? sink : sink_stderr;
}

int fault_raise(int code, struct fault_site site, const char *fmt, ...)
{
    char reason[256];
    va_list args;

    ensure(code < 0);

    va_start(args, fmt);
    vsnprintf(reason, sizeof(reason), fmt, args);
    va_end(args);

    fault_sink(code, site, reason);
    return code;
}

int fault_pass(int r, struct fault_site site)
{
    if (r < 0)
        fault_sink(r, site, NULL);
    return r;
}

int fault_fold(int r, struct fault_site site)
{
    if (r > 0)
        return fault_raise(-ENOTRECOVERABLE, site, "unexpected outcome %d", r);
    return fault_pass(r, site);
}
