#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* The limits of modules, from the settings. Pure. */

#include "common/peer/peer.h"
#include "common/rpc/server/server.h"
#include "server/audit/audit.h"
#include "server/ingest/ingest.h"
#include "server/pki/pki.h"
#include "server/settings.h"
#include "server/store/store.h"
#include "server/upload/upload.h"
#include "server/web/web.h"

void limits_of_ingest(const struct settings *settings, struct ingest_limits *ret);
struct pki_lives limits_of_pki(const struct settings *settings);
struct audit_limits limits_of_audit(const struct settings *settings);
struct rpc_accept_limits limits_of_accept(const struct settings *settings);
void limits_of_proxies(const struct settings *settings, struct peer_nets *ret);
void limits_of_web(const struct settings *settings, struct web_limits *ret);
struct store_object_limits limits_of_objects(const struct settings *settings);
struct uploads_limits limits_of_uploads(const struct settings *settings);
