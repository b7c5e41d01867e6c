#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Invariants: what the code itself promises. Never input, never the
 * environment. Checked in every build.
 */

#include <stdio.h>
#include <stdlib.h>

#define ensure(cond)                                                                            \
    do {                                                                                        \
        if (__builtin_expect(!(cond), 0)) {                                                     \
            fprintf(stderr, "%s:%d %s(): broken invariant: %s\n", __FILE__, __LINE__, __func__, \
                    #cond);                                                                     \
            abort();                                                                            \
        }                                                                                       \
    } while (0)
