#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The manual's pages say nothing that groff warns of, and have what a page must have. usage: man.sh PAGE...
set -euo pipefail
groff=$(command -v groff || true)
for page; do
    for part in '.TH' '.SH NAME' '.SH DESCRIPTION'; do
        grep -q "^$part" "$page" || { echo "$page: no $part" >&2; exit 1; }
    done
    if [ -n "$groff" ]; then
        told=$(LC_ALL=C.UTF-8 "$groff" -man -Tutf8 -ww -rLL=100n "$page" 2>&1 >/dev/null)
        [ -z "$told" ] || { printf '%s\n' "$told" >&2; exit 1; }
    fi
    # A request or an escape that the text itself brought would not be seen as such.
    ! grep -nE '^\.[a-z]' "$page" | grep -vE '^[0-9]+:\.(nh|ad l|nf|fi)$' || exit 1
done
echo "$# pages${groff:+, read by groff}"
[ -n "$groff" ] || echo "skipped what groff warns of: there is no groff here (subprojects/bootstrap --tests brings it)"
