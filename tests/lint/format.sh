#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every .c and .h is as clang-format would write it. usage: format.sh ROOT
set -euo pipefail
cd "$1"
find common server agent bench tests \( -name '*.c' -o -name '*.h' \) -print0 |
    xargs -0 clang-format --dry-run --Werror
echo "formatted"
