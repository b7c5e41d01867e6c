#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over every .c of ours, with the checks of .clang-tidy. usage: tidy.sh ROOT BUILD
#
# What a file and everything it includes hash to is kept in BUILD/tidy-ok, so that only what changed is looked at again.
set -euo pipefail
root=$1 build=$2
cd "$root"
mkdir -p "$build/tidy-ok"
headers=$(find common server agent bench tests -name '*.h' -print0 | sort -z | xargs -0 cat .clang-tidy | sha256sum | cut -c 1-32)
# gcc's own flags are unknown to clang; its warnings are gcc's business.
one() {
    local file=$1 key
    key=$build/tidy-ok/$({ echo "$2"; cat "$file"; } | sha256sum | cut -c 1-32)
    [ ! -e "$key" ] || return 0
    clang-tidy --quiet -p "$3" --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-everything "$file" 2>/dev/null || return 1
    touch "$key"
}
export -f one
export build
find common server agent bench -name '*.c' -print0 |
    xargs -0 -P "$(nproc)" -I {} bash -c 'one "$@"' _ {} "$headers" "$build"
echo "tidy"
