#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Faults and outcomes.
 *
 * Every fallible function returns int:
 *
 *    0   success.
 *   < 0  a fault, as -errno: the process or its environment is broken. Nobody
 *        but main() and the RPC edge acts on which one it is; everybody else
 *        passes it on.
 *   > 0  an outcome: an expected answer from that one function's enum, listed
 *        in its header. The direct caller handles it and never passes it on.
 *
 * A fault is reported exactly once, where it is raised, with the reason in
 * words. Each frame it then crosses adds its location, so the log shows the
 * path. Outcomes are never logged by the code that returns them.
 */

#include <errno.h>

#include "common/base/cleanup.h"

struct fault_site {
    const char *file;
    const char *func;
    int line;
};

#define FAULT_HERE ((struct fault_site){ __FILE__, __func__, __LINE__ })

/*
 * Raise: report `code` (negative) with a reason, and return it. These three are macros so that the
 * compiler, too, sees that a raised code is what comes back.
 */
#define fault(code, ...)                                   \
    __extension__({                                        \
        int fault_code_ = (code);                          \
        fault_raise(fault_code_, FAULT_HERE, __VA_ARGS__); \
        fault_code_;                                       \
    })

/* Pass on a result of the same contract. Only faults leave a trace. */
#define pass(r)                                \
    __extension__({                            \
        int fault_r_ = (r);                    \
        if (__builtin_expect(fault_r_ < 0, 0)) \
            fault_pass(fault_r_, FAULT_HERE);  \
        fault_r_;                              \
    })

/* Pass on a result whose outcomes cannot happen here: those become faults. */
#define fold(r)                                                    \
    __extension__({                                                \
        int fault_r_ = (r);                                        \
        if (__builtin_expect(fault_r_ != 0, 0)) {                  \
            fault_fold(fault_r_, FAULT_HERE);                      \
            fault_r_ = fault_r_ < 0 ? fault_r_ : -ENOTRECOVERABLE; \
        }                                                          \
        fault_r_;                                                  \
    })

int fault_raise(int code, struct fault_site site, const char *fmt, ...) PRINTF_LIKE(3, 4);
int fault_pass(int r, struct fault_site site);
int fault_fold(int r, struct fault_site site);

/* Where reports go: the process log, or a recorder in tests. */
typedef void fault_sink_fn(int code, struct fault_site site, const char *reason);
void fault_set_sink(fault_sink_fn *sink);
