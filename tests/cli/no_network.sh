#!/usr/bin/env bash
# Nothing leaves: verbs run in a network namespace that has no route, and what they connect to is
# traced.
#
#   tests/cli/no_network.sh BALEEN MODEL
#
# Exits 77 where namespaces or tracing are not allowed. The only addresses that may be connected to
# are those of the server itself, on loopback, by the client that this script starts.
set -uo pipefail
program=$(realpath "$1") model=$(realpath "$2")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ "${3:-}" != inside ]; then
  namespace=(unshare --net)
  [ "$(id -u)" -ne 0 ] && namespace=(unshare --net --map-root-user)
  "${namespace[@]}" true 2>/dev/null || { echo "network namespaces are not allowed here"; exit 77; }
  command -v strace >/dev/null || { echo "strace is not installed"; exit 77; }
  strace -o "$scratch/try" true 2>/dev/null || { echo "tracing is not allowed here"; exit 77; }
  exec "${namespace[@]}" "$0" "$program" "$model" inside
fi

ip link set lo up 2>/dev/null || python3 - <<'PYTHON'
import fcntl, socket, struct
with socket.socket() as s:  # SIOCSIFFLAGS: IFF_UP
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))
PYTHON
cat /proc/net/route | tail -n +2 | grep -q . && { echo "the namespace has a route"; exit 1; }

export HOME=$scratch XDG_STATE_HOME=$scratch/state XDG_CACHE_HOME=$scratch/cache
failures=0
# traced NAME COMMAND...: runs it; whatever it connects to that is not a local socket is a failure.
traced() {
  local name=$1 code
  shift
  strace -f -qq -e trace=connect,sendto,sendmsg -o "$scratch/trace" "$@" \
    >"$scratch/out" 2>"$scratch/err" </dev/null
  code=$?
  if [ "$code" -ne 0 ]; then
    echo "$name: exit $code: $(tail -n 1 "$scratch/err")"
    failures=$((failures + 1))
  fi
  if grep -E 'connect\(.*AF_INET6?|sendto\(.*AF_INET6?' "$scratch/trace"; then
    echo "$name: connected to somebody"
    failures=$((failures + 1))
  fi
  echo "$name: $(grep -c . "$scratch/trace") calls traced"
}

# The trace sees what it should: a connect that is planted is found.
strace -f -qq -e trace=connect -o "$scratch/planted" \
  bash -c 'exec 3<>/dev/tcp/127.0.0.1/9' 2>/dev/null
grep -q 'connect(.*AF_INET' "$scratch/planted" || { echo "a planted connect was not seen"; exit 1; }

echo "Once upon a time there was a whale." >"$scratch/text"
echo '{"text": "Once upon a time there was a whale."}' >"$scratch/text.jsonl"
traced run "$program" run "$model" -p "Once upon a time" --max-tokens 5
traced evaluate "$program" evaluate "$model" --task perplexity --file "$scratch/text"
traced inspect "$program" inspect "$model"
traced tokenizer "$program" tokenizer encode "$model" --file "$scratch/text"
traced bench "$program" bench "$model" --prompt 8 --generate 4 --repeat 1
traced doctor "$program" doctor
traced convert "$program" convert "$model" "$scratch/model.gguf"
traced quantize "$program" quantize "$model" "$scratch/4bit" --method rtn
traced keys "$program" keys add alice
traced usage "$program" usage

strace -f -qq -e trace=connect -o "$scratch/trace" "$program" serve "$model" --port 0 --no-ledger \
  2>"$scratch/err" &
tracer=$!
for _ in $(seq 300); do
  grep -q 'listens on' "$scratch/err" && break
  sleep 0.1
done
url=$(grep -oE 'http://[0-9.:]+' "$scratch/err") || { echo "the server did not start"; exit 1; }
python3 - "$url" <<'PYTHON' || failures=$((failures + 1))
import json, sys, urllib.request
for path in ("/", "/page/app.js", "/v1/models", "/metrics"):
    assert urllib.request.urlopen(sys.argv[1] + path, timeout=60).status == 200
body = json.dumps({"prompt": "Once", "max_tokens": 4}).encode()
answer = urllib.request.urlopen(sys.argv[1] + "/v1/completions", body, timeout=60).read()
assert json.loads(answer)["usage"]["completion_tokens"] > 0
PYTHON
kill -TERM "$(pgrep -P "$tracer")"
wait "$tracer" || { echo "serve: exit $?"; failures=$((failures + 1)); }
if grep -E 'connect\(.*AF_INET6?' "$scratch/trace"; then
  echo "serve: connected to somebody"
  failures=$((failures + 1))
fi
echo "serve: $(grep -c . "$scratch/trace") calls traced"
[ "$failures" -eq 0 ]
