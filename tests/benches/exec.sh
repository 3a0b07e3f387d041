#!/usr/bin/env bash
# What a talkative command on three of five agents does to the latency of writes, by wrk (Debian: apt-get install wrk):
#
#     cargo build --release -p lictor && tests/benches/exec.sh [ROUNDS] [SECONDS]
#
# Three servers and two client agents on this machine. In each round four connections write for so many seconds, first undisturbed, then
# while `yes | head -c 50M` runs on three agents, again and again. Then a single `exec` is timed, and all that it brings is counted.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5}
seconds=${2:-8}
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk"; exit 1; }
lictor=$PWD/target/release/lictor
flood='yes | head -c 50M'

data=$(mktemp -d target/bench.XXXXXX)
agents=()
finish() {
  touch "$data/stop"
  kill "${agents[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$data"
}
trap finish EXIT
echo '{ "disable_remote_exec": false }' >"$data/config.json"
start() {
  local n=$1
  shift
  "$lictor" agent "$@" -node "n$n" -data-dir "$data/$n" -config-file "$data/config.json" -bind "127.0.20.$n" \
    -client "127.0.20.$n" -retry-join 127.0.20.1 -retry-interval 1s -log-level warn >"$data/$n.log" 2>&1 &
  agents+=($!)
}
for n in 1 2 3; do start $n -server -bootstrap-expect 3; done
for n in 4 5; do start $n; done
url=http://127.0.20.1:8500
for _ in $(seq 300); do
  [ "$(curl -sf "$url/v1/catalog/nodes" | grep -o '"Node"' | wc -l)" = 5 ] && break
  sleep 0.1
done
[ "$(curl -sf "$url/v1/catalog/nodes" | grep -o '"Node"' | wc -l)" = 5 ] || { tail "$data"/*.log; exit 1; }

cat >"$data/put.lua" <<'LUA'
local n = 0
request = function()
  n = (n + 7919) % 10000
  return wrk.format("PUT", "/v1/kv/bench/" .. n, nil, string.rep("v", 64))
end
LUA
# Prints the 99th percentile in milliseconds, and the rate.
writes() {
  wrk -t1 -c4 -d"${seconds}s" --latency -s "$data/put.lua" $url | awk '
    function ms(t) { return t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000 }
    /99%/ { p99 = ms($2) } /Requests\/sec/ { rate = $2 } END { printf "%.2f %d\n", p99, rate }'
}
floods() {
  while [ ! -e "$data/stop" ]; do
    "$lictor" exec -http-addr "$url" -node '^n[135]$' "$flood" >"$data/out" 2>"$data/err" || true
  done
}

writes >/dev/null
echo '| round | p99 undisturbed | rate | p99 with output | rate | ratio |'
echo '|---|---|---|---|---|---|'
for round in $(seq "$rounds"); do
  read -r quiet quiet_rate < <(writes)
  rm -f "$data/stop"
  floods &
  flooding=$!
  read -r loud loud_rate < <(writes)
  touch "$data/stop"
  wait "$flooding"
  awk -v n="$round" -v a="$quiet" -v b="$loud" -v ra="$quiet_rate" -v rb="$loud_rate" \
    'BEGIN { printf "| %d | %.1f ms | %d/s | %.1f ms | %d/s | %.2f |\n", n, a, ra, b, rb, b / a }'
done | tee "$data/rows"
awk -F'|' '{ print $7 }' "$data/rows" | sort -n | awk '{ r[NR] = $1 } END { printf "median of the ratios: %.2f\n", r[int((NR + 1) / 2)] }'

began=$(date +%s.%N)
bytes=$("$lictor" exec -http-addr "$url" -node '^n[135]$' "$flood" | grep -c ': y')
awk -v a="$began" -v b="$(date +%s.%N)" -v lines="$bytes" \
  'BEGIN { printf "undisturbed: %d lines of 78643200 in %.1f s\n", lines, b - a }'
