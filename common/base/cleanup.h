#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Scope-bound ownership.
 *
 * A local that owns something says so in its declaration, and gives it up by
 * name:
 *
 *     CLEANUP(store_closep) struct store *store = NULL;
 *     ...
 *     *ret = take(store);
 *     return 0;
 */

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Defines fn##p(), the form CLEANUP() wants, from a free-like function. */
#define DEFINE_CLEANUP(type, fn)      \
    static inline void fn##p(type *p) \
    {                                 \
        if (*p)                       \
            (void) fn(*p);            \
    }                                 \
    struct cleanup_semicolon_

/* Moves a pointer out of a variable and leaves NULL behind. */
#define take(p)                        \
    __extension__({                    \
        __typeof__(p) *take_ = &(p);   \
        __typeof__(p) taken_ = *take_; \
        *take_ = NULL;                 \
        taken_;                        \
    })
