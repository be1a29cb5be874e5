#!/bin/sh
# The end-to-end tests. What the machine can't run is skipped, and listed by
# name at the end; everything else that is skipped is a defect.
set -u
out=$(mktemp)
trap 'rm -f "$out"' EXIT
go test -count=1 -v -timeout 40m ./test/lab ./test/e2e >"$out" 2>&1
code=$?
if [ $code -ne 0 ]; then
	cat "$out"
	exit $code
fi
grep -E '^(ok|\?|---|FAIL|PASS)' "$out"
if grep -q -- '--- SKIP' "$out"; then
	echo "skipped, for want of something on this machine:"
	grep -A2 -- '--- SKIP' "$out"
fi
