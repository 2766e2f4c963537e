#!/usr/bin/env bash
# The second stage of packaging/Dockerfile where no Docker engine runs: the same steps in a root that
# debootstrap makes, and SageMaker's contract by a client.
#
#   packaging/check_image.sh PACKAGE.deb MODEL FOLDER
#
# Needs root, debootstrap and a Debian mirror (that of this machine's apt); exits 77 without. The
# first stage, which builds the package, is what ./test does on a Debian 12 machine.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
package=$(realpath "$1") model=$(realpath "$2") root=$(realpath -m "$3")
[ "$(id -u)" -eq 0 ] || { echo "this needs root"; exit 77; }
command -v debootstrap >/dev/null || { echo "debootstrap is not installed"; exit 77; }

if [ ! -e "$root/etc/debian_version" ]; then
  mirror=$(apt-get indextargets --format '$(SITE)' 'Suite: bookworm' | head -n 1)
  debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 || {
    echo "debootstrap found no mirror: $(tail -n 1 "$root.log")"
    exit 77
  }
fi
for file in sources.list apt.conf.d; do  # whatever this machine's apt needs to reach its mirror
  [ -e "/etc/apt/$file" ] && cp -rT "/etc/apt/$file" "$root/etc/apt/$file"
done
cp -rT /etc/apt/sources.list.d "$root/etc/apt/sources.list.d" 2>/dev/null
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null

# The steps, taken from the Dockerfile itself, so that they cannot differ.
steps=$(sed -n '/^FROM debian:12$/,$p' packaging/Dockerfile |
  sed -n '/^RUN /,/[^\\]$/p' | sed 's/^RUN //; s/\\$//' | tr '\n' ' ')
[ -n "$steps" ] || { echo "no steps in the Dockerfile"; exit 1; }
cp "$package" "$root/tmp/"
chroot "$root" userdel baleen 2>/dev/null
chroot "$root" sh -c "$steps" || { echo "the steps failed"; exit 1; }
mkdir -p "$root/opt/ml/model"
cp -L "$model"/* "$root/opt/ml/model/"
mount --bind /proc "$root/proc" && trap 'umount "$root/proc"' EXIT

user=$(sed -n 's/^USER //p' packaging/Dockerfile)
environment=$(sed -n 's/^ENV //p' packaging/Dockerfile)
entry=$(sed -n 's/^ENTRYPOINT \["\(.*\)"\]$/\1/p' packaging/Dockerfile)
command=$(sed -n 's/^CMD \["\(.*\)"\]$/\1/p' packaging/Dockerfile)
# shellcheck disable=SC2086  # several variables
chroot --userspec="$user" "$root" env -i PATH=/usr/bin HOME=/var/lib/baleen $environment \
  "$entry" "$command" 2>"$root.serve" &
server=$!
python3 - <<'PYTHON'
import json, time, urllib.error, urllib.request
end = time.monotonic() + 60
while True:
    try:
        assert urllib.request.urlopen("http://127.0.0.1:8080/ping", timeout=2).status == 200
        break
    except OSError:
        assert time.monotonic() < end, "the server did not answer /ping"
        time.sleep(0.2)
body = json.dumps({"prompt": "Once upon a time", "max_tokens": 8}).encode()
answer = json.loads(urllib.request.urlopen("http://127.0.0.1:8080/invocations", body).read())
print("/invocations:", answer["choices"][0]["text"])
try:
    urllib.request.urlopen("http://127.0.0.1:8080/v1/completions", body)
    raise SystemExit("/v1/completions was answered without a key")
except urllib.error.HTTPError as error:
    assert error.code == 401
PYTHON
status=$?
[ "$(stat -c %u "/proc/$server")" -ne 0 ] || { echo "the server runs as root"; status=1; }
[ "$(stat -c %a "$root/var/lib/baleen/baleen.db")" = 600 ] || { echo "the database is open"; status=1; }
kill -TERM "$server"
wait "$server" || { echo "SIGTERM: exit $?"; status=1; }
cat "$root.serve"
exit "$status"
