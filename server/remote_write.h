#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Remote write: what server/export needs, from the settings and the files that they name.
 *
 * What a receiver's certificate must lead to: remote_write.ca, else ca-cert.pem of
 * remote_write.identity, else the bundle of this system.
 *
 * Thread: the hub's loop. Blocks on files.
 */

#include "common/tls/tls.h"
#include "server/export/export.h"
#include "server/settings.h"
#include "server/web/web.h"

enum remote_write_outcome {
    REMOTE_WRITE_OK = 0,
    REMOTE_WRITE_BAD, /* ret_why */
};

/* ret->context is the caller's, the rest the settings'. Outcomes: REMOTE_WRITE_BAD. */
int remote_write_way(const struct settings *settings,
                     struct export_way *ret,
                     struct tls_why *ret_why) MUST_USE;
/* The same for a reload: the url is still that of the start. */
int remote_write_way_again(const struct settings *at_start,
                           const struct settings *fresh,
                           struct export_way *ret,
                           struct tls_why *ret_why) MUST_USE;
/* For /metrics. */
void remote_write_tell(struct export *export, struct web_remote_write *ret);
/* There is a remote_write.url. Outcomes: REMOTE_WRITE_BAD. */
int remote_write_new(struct export **ret,
                     struct store *store,
                     const struct settings *settings,
                     struct tls_why *ret_why) MUST_USE;
