#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Addresses: whether an IP address lies in a range. For allow-lists and exemptions.
 *
 * A range is CIDR text: "10.0.0.0/8", "fd00::/8", or one address. A peer is an address as people
 * and rpc_call_peer() write it: "10.0.0.7", "10.0.0.7:41234", "fd00::7", "[fd00::7]:41234". An IPv4
 * address that came over an IPv6 socket (::ffff:10.0.0.7) is the IPv4 address. A scope (%eth0) does
 * not count.
 *
 * Thread: any; pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESS_TEXT_BYTES 46 /* INET6_ADDRSTRLEN */

/* 16 bytes; IPv4 as ::ffff:a.b.c.d. */
struct address {
    uint8_t bytes[16];
};

/* The host of a peer, without port and brackets. false: no IP address. */
bool address_parse_peer(const char *peer, struct address *ret);
/* "10.0.0.7" or "fd00::7"; of a peer that is none of these: its text, cut. Returns `to`. */
const char *address_print_peer(const char *peer, char to[static ADDRESS_TEXT_BYTES]);

/* An address with or without /LENGTH, and nothing set behind the length. */
bool address_range_is_good(const char *cidr);
/* false also for a range or a peer that is none. */
bool address_range_has(const char *cidr, const char *peer);
