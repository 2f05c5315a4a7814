#!/usr/bin/env bash
# without_races.sh COMMAND...: runs it and fails where TSan reported anything, also in a process far below whose end the
# product takes for a crash and makes good.
set -uo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
TSAN_OPTIONS="${TSAN_OPTIONS:+$TSAN_OPTIONS:}log_path=$folder/report" "$@"
code=$?
for report in "$folder"/report.*; do
  [[ -e $report ]] || continue
  cat "$report"
  code=1
done
exit $code
