#!/bin/sh
# Runs every fuzz target of the module for the time given ("5s"): the committed
# seeds first, then what the fuzzer makes of them.
set -eu
time=${1:-5s}
for file in $(grep -rl --include='*_test.go' '^func Fuzz' internal); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		go test -run='^$' -fuzz="^$target\$" -fuzztime="$time" -fuzzminimizetime=10x "./$(dirname "$file")"
	done
done
