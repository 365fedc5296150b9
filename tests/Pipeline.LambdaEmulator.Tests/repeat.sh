#!/usr/bin/env bash
# Runs the conformance cases many times in a row and ends at the first failure.
#   tests/Pipeline.LambdaEmulator.Tests/repeat.sh [TIMES, 50 by default]
set -euo pipefail
cd "$(dirname "$0")"

times=${1:-50}
dotnet build --nologo -v quiet
for ((run = 1; run <= times; run++)); do
    if ! output=$(dotnet test --no-build -- --filter-namespace Pipeline.LambdaEmulator.Tests.Conformance 2>&1); then
        printf '%s\n' "$output"
        echo "run $run of $times failed" >&2
        exit 1
    fi
    echo "run $run of $times: $(grep -oE 'succeeded: [0-9]+' <<< "$output" | tail -n 1)"
done
