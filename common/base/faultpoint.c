/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/faultpoint.h"

#include <stdlib.h>

#ifdef SENTINEL_FAULT_POINTS

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/text.h"

#define PREFIX "faultpoint:"

/* Only passes of the one point that the environment names are counted. */
static _Atomic uint64_t n_passes;

void faultpoint_pass(const char *name)
{
    const char *wanted = getenv("SENTINEL_FAULT");
    uint64_t n = 1;

    ensure(strncmp(name, PREFIX, strlen(PREFIX)) == 0);
    name += strlen(PREFIX);

    if (!wanted)
        return;

    size_t len = strcspn(wanted, ":");

    if (strlen(name) != len || memcmp(name, wanted, len) != 0)
        return;
    /* A test that misspells its number must not pass as one that found nothing wrong. */
    if (wanted[len] == ':')
        ensure(text_to_u64(wanted + len + 1, &n) == TEXT_OK);

    if (atomic_fetch_add(&n_passes, 1) + 1 == n)
        kill(getpid(), SIGKILL);
}

#endif
