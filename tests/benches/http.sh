#!/usr/bin/env bash
# Requests per second and latency of one agent on a real disk, by wrk (Debian: apt-get install wrk):
#
#     cargo build --release -p lictor && tests/benches/http.sh [SECONDS_PER_ROW]
#
# The agent keeps its data below the target directory, which should lie on the disk that is to be measured. A default and
# a stale read come from the published view, a consistent one of a lone server too; on several it asks a quorum.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-5}
port=${PORT:-18500}
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk"; exit 1; }

data=$(mktemp -d target/bench.XXXXXX)
target/release/lictor agent -server -bootstrap -data-dir "$data" -bind 127.0.0.1 -client 127.0.0.1 \
  -http-port "$port" -server-port $((port + 1)) -log-level warn >"$data/log" 2>&1 &
agent=$!
trap 'kill $agent 2>/dev/null || true; wait $agent 2>/dev/null || true; rm -rf "$data"' EXIT
url=http://127.0.0.1:$port
for _ in $(seq 100); do
  curl -sf $url/v1/status/leader | grep -q : && break
  kill -0 $agent || { cat "$data/log"; exit 1; }
  sleep 0.05
done

cat >"$data/put.lua" <<'LUA'
local n = 0
request = function()
  n = (n + 7919) % 10000
  return wrk.format("PUT", "/v1/kv/bench/" .. n, nil, string.rep("v", 64))
end
LUA
curl -sf -X PUT -d "$(printf 'v%.0s' $(seq 64))" $url/v1/kv/bench/one >/dev/null

row() {
  local name=$1 connections=$2
  shift 2
  wrk -t1 -c"$connections" -d"${seconds}s" --latency "$@" | awk -v name="$name" -v c="$connections" '
    /50%/ { p50 = $2 } /99%/ { p99 = $2 } /Requests\/sec/ { rate = $2 } /Non-2xx/ { bad = $0 }
    END { printf "| %s | %d | %d/s | %s | %s |%s\n", name, c, rate, p50, p99, bad }'
}
echo '| request | connections | rate | p50 | p99 |'
echo '|---|---|---|---|---|'
for connections in 1 64; do
  row 'PUT, 64 bytes' $connections -s "$data/put.lua" $url
  row 'GET' $connections $url/v1/kv/bench/one
  row 'GET `?stale`' $connections "$url/v1/kv/bench/one?stale"
  row 'GET `?consistent`' $connections "$url/v1/kv/bench/one?consistent"
done
printf '\nresident after this: %d MiB\n' $(($(awk '/VmRSS/ { print $2 }' /proc/$agent/status) / 1024))
