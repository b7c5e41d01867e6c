#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to common/regex: RE2, which is C++, behind a C face. Built without exceptions.
 *
 * Thread: as regex.h says.
 */

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct regex_shim;

/* NULL: no memory. */
struct regex_shim *
regex_shim_new(const void *pattern, size_t len, long long memory_bytes, bool is_bytes);
void regex_shim_free(struct regex_shim *shim);
/* NULL: the pattern is good. */
const char *regex_shim_error(const struct regex_shim *shim);
/* Of a good pattern: instructions of its program. */
int regex_shim_steps(const struct regex_shim *shim);
bool regex_shim_matches(const struct regex_shim *shim, const void *text, size_t len);
/* The first match behind `from`: its first group that took part, or all of it where none did. */
bool regex_shim_find(const struct regex_shim *shim,
                     const void *text,
                     size_t len,
                     size_t from,
                     size_t ret_at[2]);

#ifdef __cplusplus
}
#endif
