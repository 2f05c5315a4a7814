#!/usr/bin/env bash
# without_findings_test.sh PROGRAM KIND=WORD...: what `PROGRAM KIND` does is found, told with that word, and fails; but for
# the kind `library` where it is libstdc++ that may err.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$1
shift

for kind in nothing provoked; do
  "$here/without_findings.sh" "$program" "$kind" || { echo "$kind: taken for a finding"; exit 1; }
done
if "$here/without_findings.sh" false; then echo "the command's own failure is lost"; exit 1; fi
for wanted in "$@"; do
  kind=${wanted%%=*}
  code=0
  said=$("$here/without_findings.sh" "$program" "$kind") || code=$?
  if ((code != 1)) || [[ $said != *"${wanted#*=}"* ]]; then
    echo "$kind: code $code, and not told as '${wanted#*=}': $said"
    exit 1
  fi
  code=0
  "$here/without_findings.sh" --but-in 'libhdf5|libstdc' "$program" "$kind" >/dev/null || code=$?
  if [[ $kind == library ]] && ((code != 0)); then echo "$kind: is the library's, and failed"; exit 1; fi
  if [[ $kind != library ]] && ((code != 1)); then echo "$kind: taken for the library's"; exit 1; fi
done
