/* Targets: setting_read, setting_key_read, quota_check_row, address_key, quota_cidr_is_good,
 * quota_address_matches.
 * SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte is the length of a key, or of an address; the rest is a value, or a network. What
 * is read is written again, and is then the same.
 */

#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "server/quota/address.h"
#include "server/quota/setting.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char *text_of(const uint8_t *data, size_t len)
{
    char *text = malloc(len + 1);

    ensure(text);
    memcpy(text, data, len);
    text[len] = 0;
    return text;
}

static void read_addresses(const char *peer, const char *cidr)
{
    char key[ADDRESS_TEXT_BYTES], again[ADDRESS_TEXT_BYTES];

    if (address_key(peer, key)) {
        /* What it is counted as is counted as itself. */
        ensure(address_key(key, again) && strcmp(key, again) == 0);
        ensure(quota_cidr_is_good(key) && quota_address_matches(key, peer));
    }
    if (quota_address_matches(cidr, peer))
        ensure(quota_cidr_is_good(cidr));
    (void) address_is_loopback(peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t n = len > 0 ? data[0] : 0;
    struct bucket_numbers numbers;
    enum quota_limit limit;
    struct span who;
    uint8_t again[SETTING_BYTES];
    char *first, *rest;

    if (len < 1 || len - 1 < n)
        return 0;
    first = text_of(data + 1, n);
    rest = text_of(data + 1 + n, len - 1 - n);
    struct span key = span_of(first, n), value = span_of(rest, len - 1 - n);
    (void) quota_check_row(NULL, STORE_TABLE_LIMITS, key, value);
    if (setting_key_read(key, &limit, &who))
        ensure(limit < QUOTA_N_LIMITS && who.len <= QUOTA_WHO_BYTES);
    if (setting_read(value, &numbers)) {
        setting_write(&numbers, again);
        ensure(span_equal(span_of(again, sizeof(again)), value));
    }
    read_addresses(first, rest);
    free(first);
    free(rest);
    return 0;
}
