#!/bin/sh
# Runs every fuzz target for SECONDS (20), several at once.
#
#   cmake --preset fuzz && cmake --build --preset fuzz
#   tests/fuzz/run.sh [SECONDS] [BUILD_DIRECTORY]
#
# Starts from the committed corpus. What is found beyond it stays in BUILD_DIRECTORY/corpus and is
# used again by the next run; an input that fails is left in BUILD_DIRECTORY/findings.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
seconds=${1:-20}
build=${2:-$root/build/fuzz}
programs=$build/tests/fuzz

run_one() {
  program=$1
  name=$(basename "$program" _fuzz)
  mkdir -p "$build/corpus/$name" "$build/findings"
  if "$program" -seed=1 -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
      -print_final_stats=1 -artifact_prefix="$build/findings/$name-" \
      "$build/corpus/$name" "$root/tests/fuzz/corpus/$name" > "$build/findings/$name.log" 2>&1
  then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/findings/$name.log")
    echo "fuzz $name: $runs inputs, no finding"
  else
    tail -n 40 "$build/findings/$name.log"
    echo "fuzz $name: FAILED, see $build/findings"
    return 1
  fi
}

if [ "${3:-}" = --one ]; then
  run_one "$4"
  exit
fi

set -- "$programs"/*_fuzz
if [ ! -x "$1" ]; then
  echo "no fuzz targets in $programs: build the preset \"fuzz\" first" >&2
  exit 1
fi
printf '%s\n' "$@" |
  xargs -P "$(nproc)" -I PROGRAM "$root/tests/fuzz/run.sh" "$seconds" "$build" --one PROGRAM
