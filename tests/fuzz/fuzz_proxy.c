/* Targets: proxy_read, proxy_is_begun, peer_nets_parse. SPDX-License-Identifier: Apache-2.0 */

/*
 * However the bytes are cut, the header says the same; it asks for no more than its limit, and for
 * all it needs before it is read. An address that it gives prints, and matches itself as a range.
 */

#include <string.h>

#include "common/base/ensure.h"
#include "common/peer/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_address(const struct peer_address *peer)
{
    char text[PEER_TEXT_BYTES], host[PEER_TEXT_BYTES];
    struct sockaddr_storage address;
    struct peer_nets nets;
    struct peer_address again;
    size_t len;

    peer_put_text(peer, text);
    memcpy(host, text, sizeof(host));
    *strrchr(host, ':') = '\0';
    len = strlen(host);
    if (host[0] == '[') {
        memmove(host, host + 1, len);
        *strchr(host, ']') = '\0';
    }
    ensure(peer_nets_parse(host, &nets) == 0 && nets.n == 1);
    ensure(peer_nets_have(&nets, peer));
    ensure(peer_to_sockaddr(peer, &address) > 0);
    ensure(peer_of_sockaddr((const struct sockaddr *) &address, &again) == 0);
    ensure(memcmp(&again, peer, sizeof(again)) == 0);
}

static void check_text(const uint8_t *data, size_t len)
{
    struct peer_nets nets = { .n = 0 };
    char text[256];

    if (len >= sizeof(text))
        return;
    memcpy(text, data, len);
    text[len] = '\0';
    ensure(peer_nets_parse(text, &nets) >= 0);
    ensure(nets.n <= PEER_MAX_NETS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct proxy whole = { .n_bytes = 0 }, part;
    int r = proxy_read(span_of(data, len), &whole);

    ensure(r != PEER_MORE || (whole.n_bytes > len && whole.n_bytes <= PROXY_MAX_BYTES));
    ensure(r != PEER_OK || (whole.n_bytes <= len && whole.n_bytes <= PROXY_MAX_BYTES));
    if (r != PEER_UNFIT && len >= 5) /* shorter, it may be HTTP */
        ensure(proxy_is_begun(span_of(data, len)));
    for (size_t i = 0; i < len; i++) {
        int cut = proxy_read(span_of(data, i), &part);

        ensure(cut != PEER_OK || (r == PEER_OK && part.n_bytes == whole.n_bytes));
        ensure(cut != PEER_UNFIT || r == PEER_UNFIT);
        ensure(cut != PEER_MORE || part.n_bytes > i);
    }
    if (r == PEER_OK && whole.has_peer)
        check_address(&whole.peer);
    check_text(data, len);
    return 0;
}
