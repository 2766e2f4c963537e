#!/usr/bin/env bash
# packaging/Dockerfile where no Docker engine runs: its steps in roots that debootstrap makes, and
# SageMaker's contract by a client.
#
#   packaging/check_image.sh MODEL FOLDER [PACKAGE.deb]
#
# Both stages: FOLDER/build gets what the first needs and makes the package, FOLDER/image is the image.
# With PACKAGE.deb (`cpack -G DEB`) only the second. Roots that are there already are used again.
# Needs root, debootstrap and a Debian mirror (that of this machine's apt); exits 77 without. What the
# first stage compiles it compiles with CMAKE_CXX_COMPILER_LAUNCHER, if that is set.
set -uo pipefail
[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \?//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.." || exit
model=$(realpath "$1") folder=$(realpath -m "$2") package=${3:+$(realpath "$3")}
[ "$(id -u)" -eq 0 ] || { echo "this needs root"; exit 77; }
command -v debootstrap >/dev/null || { echo "debootstrap is not installed"; exit 77; }
mkdir -p "$folder"
mounted=()
trap '[ ${#mounted[@]} -eq 0 ] || umount "${mounted[@]}"' EXIT

# make_root NAME: FOLDER/NAME is a bare Debian 12 that reaches this machine's mirror.
make_root() {
  local root=$folder/$1 mirror file
  if [ ! -e "$folder/base/etc/debian_version" ]; then
    mirror=$(apt-get indextargets --format '$(SITE)' 'Suite: bookworm' | head -n 1)
    debootstrap --variant=minbase bookworm "$folder/base" ${mirror:+"$mirror"} \
      >"$folder/base.log" 2>&1 || {
      echo "debootstrap found no mirror: $(tail -n 1 "$folder/base.log")"
      exit 77
    }
  fi
  [ -e "$root/etc/debian_version" ] || cp -a "$folder/base" "$root"
  for file in sources.list apt.conf.d; do  # whatever this machine's apt needs to reach its mirror
    [ -e "/etc/apt/$file" ] && cp -rT "/etc/apt/$file" "$root/etc/apt/$file"
  done
  cp -rT /etc/apt/sources.list.d "$root/etc/apt/sources.list.d" 2>/dev/null
  cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null
  mount --bind /proc "$root/proc" && mounted+=("$root/proc")
}

# run_steps NAME STAGE: the RUN lines of a stage, taken from the Dockerfile itself, so that they cannot
# differ. STAGE is what stands behind FROM.
run_steps() {
  local stage step count=0 directory
  stage=$(awk -v from="FROM $2" '/^FROM /{inside = $0 == from} inside' packaging/Dockerfile)
  directory=$(sed -n 's/^WORKDIR //p' <<<"$stage")
  while IFS= read -r step; do
    echo "$1: $step"
    chroot "$folder/$1" sh -c "cd '${directory:-/}' && $step" </dev/null || { echo "the step failed"; exit 1; }
    count=$((count + 1))
  done < <(sed -e :a -e '/\\$/{N; s/\\\n */ /; ta' -e '}' <<<"$stage" | sed -n 's/^RUN //p')
  [ "$count" -gt 0 ] || { echo "no steps in the Dockerfile for $2"; exit 1; }
}

if [ -z "$package" ]; then
  make_root build
  rm -rf "$folder/build/source" "$folder/build/package"
  mkdir "$folder/build/source"  # WORKDIR, and COPY of what .dockerignore leaves
  git ls-files -z | tar --null -T - -c | tar -x -C "$folder/build/source" --no-same-owner || exit
  run_steps build "debian:12 AS build"
  package=$(ls "$folder"/build/package/*.deb) || { echo "the first stage made no package"; exit 1; }
fi

make_root image
root=$folder/image
chroot "$root" userdel baleen 2>/dev/null
cp "$package" "$root/tmp/"
run_steps image debian:12
for tool in g++ cmake; do
  [ ! -e "$root/usr/bin/$tool" ] || { echo "the image has $tool"; exit 1; }
done
mkdir -p "$root/opt/ml/model"
cp -L "$model"/* "$root/opt/ml/model/"

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
