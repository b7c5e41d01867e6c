#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Private to common/peer: the two forms of a PROXY header. */

#include "common/peer/peer.h"

/* Of at least one byte: whether a line of version 1 may begin so. */
bool proxy_text_can_be(struct span bytes);
/* As proxy_read(), of bytes for which the above is true. */
int proxy_read_text(struct span bytes, struct proxy *ret) MUST_USE;
