#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One TLS library in a process: no program of ours links or loads a libssl or libcrypto, and BoringSSL is inside it.
# A release build has no fault points. usage: link_map.sh has_fault_points PROGRAM...
set -eu
has_fault_points=$1
shift
bad=0
for program in "$@"; do
    if ldd "$program" | grep -E 'lib(ssl|crypto|gnutls|nss)[.-]'; then
        echo "$program links another TLS library"
        bad=1
    fi
    if [ "$(strings -a "$program" | grep -c 'BoringSSL')" = 0 ]; then
        echo "$program has no BoringSSL inside"
        bad=1
    fi
    if [ "$has_fault_points" = false ] && [ "$(strings -a "$program" | grep -c '^faultpoint:')" != 0 ]; then
        echo "$program has fault points"
        bad=1
    fi
done
[ "$bad" = 0 ] && echo "$# programs: BoringSSL alone"
exit "$bad"
