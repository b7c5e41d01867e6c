#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* `sentinel-hub certs`: what its two files share. Each answers the exit code. */

#include <stdbool.h>

struct certs_check {
    const char *roots; /* NULL: ca-cert.pem beside it */
    const char *host;  /* NULL: any */
    bool is_server;    /* else a client's */
};

int certs_show(const char *path);
int certs_verify(const char *path, const struct certs_check *check);
