#!/usr/bin/env bash
# without_findings.sh [--but-in LIBRARIES] COMMAND...: runs it and fails where a sanitizer reported anything, also in a
# process far below whose end the product takes for a crash and makes good.
#
# Deaths that tests provoke are no findings: their signals come with the default handler (fault_point.cpp), of which no
# sanitizer knows. Nor are, with --but-in 'libone|libtwo', errors that those libraries themselves make, over files that the
# test has damaged for them. Options of the caller's go before ours.
set -uo pipefail
libraries=
if [[ $1 == --but-in ]]; then
  libraries=$2
  shift 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# options VARIABLE WORDS: ours, then what it holds already.
options() { export "$1=$2${!1:+:${!1}}"; }
# A file of its own for each runtime of a process: they truncate what they find.
options ASAN_OPTIONS "log_path='$folder/address'"
options UBSAN_OPTIONS "log_path='$folder/undefined':print_stacktrace=1"
# Leaks are told where ASan writes. What the suppressions cover, and why, is in the file.
options LSAN_OPTIONS "suppressions='$here/leaks.supp':print_suppressions=0"
# What Open MPI and other libraries do among themselves TSan cannot judge, as it sees only half of it: what they ask of the
# C library is left out.
options TSAN_OPTIONS "log_path='$folder/thread':halt_on_error=1:ignore_noninstrumented_modules=1"

# made_by_library REPORT: the first frame in a source file of ours or in a library, past the sanitizer's own, lies there.
made_by_library() {
  [[ -n $libraries ]] || return 1
  local frame
  frame=$(grep -E '^ +#[0-9]+ .*(:[0-9]+$|\.so[.0-9]*\+0x)' "$1" | grep -vE '/(libsanitizer|libasan)' | sed -n 1p)
  [[ $frame =~ /($libraries)[^/]*\.so ]]
}

"$@"
code=$?
for report in "$folder"/*; do
  [[ -e $report ]] || continue
  # Said where a program was told that there is no memory, as it is to be told (allocator_may_return_null).
  if ! grep -qvE '^==[0-9]+==WARNING: [A-Za-z]+ failed to allocate ' "$report"; then continue; fi
  if made_by_library "$report"; then continue; fi
  printf '%s:\n' "${report##*/}"
  cat "$report"
  code=1
done
exit "$code"
