#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fault points: places where a test may kill the process, to see what survives. Only builds set up
 * with -DSENTINEL_FAULT_POINTS have them; in others the macro is nothing and no name is in the
 * program (a test looks).
 *
 * SENTINEL_FAULT=name[:n] in the environment kills the process (SIGKILL to itself) at the n-th pass
 * (1 by default) of the point.
 *
 * Thread: any.
 */

#ifdef SENTINEL_FAULT_POINTS
void faultpoint_pass(const char *name);
#define faultpoint(name) faultpoint_pass("faultpoint:" name)
#else
#define faultpoint(name) ((void) 0)
#endif
