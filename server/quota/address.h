#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Addresses and networks as text. Pure. Private to server/quota; quota.h has the rest. */

#include <stdbool.h>
#include <stddef.h>

#define ADDRESS_TEXT_BYTES 64

bool address_is_loopback(const char *peer);
/* What an address is counted as: "10.0.0.7", "2001:db8:0:1::/64"; false: it is no address. */
bool address_key(const char *peer, char to[static ADDRESS_TEXT_BYTES]);
