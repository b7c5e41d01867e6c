/* SPDX-License-Identifier: Apache-2.0 */
#include "common/regex/shim.h"

#include <new>

#include <re2/re2.h>

#define MAX_GROUPS 15

struct regex_shim {
    regex_shim(const re2::StringPiece &pattern, const RE2::Options &options) : re2(pattern, options)
    {
    }
    RE2 re2;
};

static re2::StringPiece piece(const void *bytes, size_t len)
{
    return re2::StringPiece(static_cast<const char *>(bytes), len);
}

struct regex_shim *
regex_shim_new(const void *pattern, size_t len, long long memory_bytes, bool is_bytes)
{
    RE2::Options options;

    options.set_max_mem(memory_bytes);
    options.set_log_errors(false);
    if (is_bytes)
        options.set_encoding(RE2::Options::EncodingLatin1);
    return new (std::nothrow) struct regex_shim(piece(pattern, len), options);
}

void regex_shim_free(struct regex_shim *shim)
{
    delete shim;
}

const char *regex_shim_error(const struct regex_shim *shim)
{
    return shim->re2.ok() ? nullptr : shim->re2.error().c_str();
}

int regex_shim_steps(const struct regex_shim *shim)
{
    return shim->re2.ProgramSize();
}

bool regex_shim_matches(const struct regex_shim *shim, const void *text, size_t len)
{
    return shim->re2.Match(piece(text, len), 0, len, RE2::UNANCHORED, nullptr, 0);
}

bool regex_shim_find(const struct regex_shim *shim,
                     const void *text,
                     size_t len,
                     size_t from,
                     size_t ret_at[2])
{
    const re2::StringPiece whole = piece(text, len);
    const int n_groups = shim->re2.NumberOfCapturingGroups();
    const int n = 1 + (n_groups < MAX_GROUPS ? n_groups : MAX_GROUPS);
    re2::StringPiece found[1 + MAX_GROUPS];
    int part = 0;

    if (!shim->re2.Match(whole, from, len, RE2::UNANCHORED, found, n))
        return false;
    /* A group that took no part in the match has no place. */
    for (int i = n - 1; i > 0; i--)
        if (found[i].data())
            part = i;
    const re2::StringPiece &at = found[part];
    ret_at[0] = static_cast<size_t>(at.data() - whole.data());
    ret_at[1] = ret_at[0] + at.size();
    return true;
}
