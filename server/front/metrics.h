#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: messages of StreamMetrics as ingest wants them. Pure; nothing is copied
 * but the rows of pointers.
 */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include "common/base/arena.h"
#include "server/ingest/ingest.h"

#define METRICS_HOST_ENTRIES 33 /* one more than ingest takes, so that it sees too many */

/* Fills what the message says; agent, address and now are the caller's. `host` must outlive `ret`.
 */
void metrics_hello(const Sentinel__Telemetry__V1__StreamHello *message,
                   struct store_attribute host[METRICS_HOST_ENTRIES],
                   struct ingest_hello *ret);

/* A batch or a skip, without its crc32c. false: the arena has no room. */
bool metrics_batch(const Sentinel__Telemetry__V1__StreamMetricsRequest *request,
                   struct arena *arena,
                   struct ingest_batch *ret);
