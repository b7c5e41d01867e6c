#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the two files of common/tls/stream share. */

#include <stdatomic.h>

#include "common/tls/stream/stream.h"

struct ssl_ctx_st;

struct tls_context {
    atomic_int n_refs;
    bool is_server;
    struct ssl_ctx_st *core;
};
