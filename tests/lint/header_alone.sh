#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every header of ours compiles on its own, first in its file, and twice. usage: header_alone.sh ROOT CC...
set -euo pipefail
root=$1
shift
cd "$root"
# gRPC's headers: where bootstrap put them, or those of the subproject.
read -ra flags <<<"$(pkg-config --cflags grpc 2>/dev/null || printf -- '-I%s ' subprojects/grpcio-*/include) $(pkg-config --cflags libprotobuf-c)"
# Those that only subprojects have.
for directory in subprojects/lmdb-*/lib subprojects/httptools-*/vendor/llhttp/include; do
    [ ! -d "$directory" ] || flags+=(-isystem "$directory")
done
n=0 bad=0
while IFS= read -r header; do
    n=$((n + 1))
    printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
        "$@" -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror "${flags[@]}" -fsyntax-only -I . -x c - || { echo "$header"; bad=1; }
done < <(find common server agent bench -name '*.h' ! -exec grep -q 'pb-c\.h"' {} \; -print | sort)
echo "$n headers"
exit "$bad"
