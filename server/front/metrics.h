#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: messages of StreamMetrics as ingest wants them. Pure; nothing is copied
 * but the rows of pointers.
 */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include "common/base/arena.h"
#include "server/ingest/ingest.h"

/* A batch or a skip, without its crc32c. false: the arena has no room. */
bool metrics_batch(const Sentinel__Telemetry__V1__StreamMetricsRequest *request,
                   struct arena *arena,
                   struct ingest_batch *ret);
