/* SPDX-License-Identifier: Apache-2.0 */
#include "common/regex/regex.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/fault.h"
#include "common/regex/shim.h"

struct regex {
    struct regex_shim *shim;
};

static int
make(struct regex **ret, struct span pattern, bool is_bytes, char ret_error[REGEX_ERROR_BYTES])
{
    CLEANUP(regex_freep) struct regex *regex = calloc(1, sizeof(*regex));
    const char *error;

    if (regex)
        regex->shim = regex_shim_new(pattern.data, pattern.len, REGEX_MEMORY_BYTES, is_bytes);
    if (!regex || !regex->shim)
        return fault(-ENOMEM, "no memory for a regular expression");
    error = regex_shim_error(regex->shim);
    if (error) {
        (void) snprintf(ret_error, REGEX_ERROR_BYTES, "%s", error);
        return REGEX_BAD;
    }
    if (regex_shim_steps(regex->shim) > REGEX_STEPS_MAX) {
        (void) snprintf(ret_error, REGEX_ERROR_BYTES,
                        "it takes %d steps, at most %d are run; repeat less, such as {1,50} for "
                        "{1,1000}",
                        regex_shim_steps(regex->shim), REGEX_STEPS_MAX);
        return REGEX_BAD;
    }
    *ret = take(regex);
    return 0;
}

int regex_new(struct regex **ret, struct span pattern, char ret_error[REGEX_ERROR_BYTES])
{
    return make(ret, pattern, false, ret_error);
}

int regex_new_bytes(struct regex **ret, struct span pattern, char ret_error[REGEX_ERROR_BYTES])
{
    return make(ret, pattern, true, ret_error);
}

struct regex *regex_free(struct regex *regex)
{
    if (!regex)
        return NULL;
    regex_shim_free(regex->shim);
    free(regex);
    return NULL;
}

bool regex_matches(const struct regex *regex, struct span text)
{
    return regex_shim_matches(regex->shim, text.data, text.len);
}

bool regex_find(const struct regex *regex,
                struct span text,
                size_t from,
                size_t *ret_begin,
                size_t *ret_end)
{
    size_t at[2];

    if (from > text.len || !regex_shim_find(regex->shim, text.data, text.len, from, at))
        return false;
    *ret_begin = at[0];
    *ret_end = at[1];
    return true;
}
