# shellcheck shell=bash disable=SC2034
# Which Debian packages Baleen needs, and how they get onto a machine. Sourced by quickstart and
# test; prints to standard error.

# To build and run.
build_packages=(
  cmake g++ ninja-build
  libfmt-dev libsimdjson-dev   # the engine: text, JSON
  libcli11-dev libedit-dev nlohmann-json3-dev  # the command line: options, line editing, JSON out
  zlib1g-dev  # data sets for evaluation, packed
  libboost1.81-dev  # the server: sockets and HTTP
  libsqlite3-dev libpq-dev libssl-dev prometheus-cpp-dev  # ledger, TLS, hashes of keys, metrics
)
# To build and run every test as well.
test_packages=(
  ccache clang-16 libclang-rt-16-dev  # clang for the fuzz targets
  chromium chromium-driver  # the page
  clang-format
  dpkg-dev file  # the .deb
  git
  libgtest-dev
  man-db  # the man page
  openssl  # certificates for tests
  pkg-config
  postgresql
  python3 python3-venv
  strace  # that nothing is connected to
)

# need_packages yes|no|skip PACKAGE...: returns when all are installed, else exits.
#   yes    installs what is missing without a question (as root, or by sudo)
#   no     asks first; without a terminal goes ahead as root, else prints the line to run and exits
#   skip   trusts that everything is there, whatever the distribution
need_packages() {
  local answer=$1
  shift
  [ "$answer" = skip ] && return
  local id='' version=''
  if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release && echo "${ID:-}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
  fi
  if [ "$id" != debian ] || [ "${version:-0}" -lt 12 ] 2>/dev/null; then
    cat >&2 <<EOF
This script installs packages on Debian 12; this is ${id:-an unknown system} ${version}.
Baleen needs Linux on x86-64, GCC 12 or clang 16, CMake 3.25, and what Debian calls
  $*
Install these under the names that your distribution gives them, then run
  $0 --no-install
EOF
    exit 2
  fi

  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep 'ok installed' > /dev/null ||
      missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return

  local -a install=(apt-get install --yes --no-install-recommends "${missing[@]}")
  local -a as_root=()
  echo "Missing Debian packages: ${missing[*]}" >&2
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || { [ "$answer" = no ] && [ ! -t 0 ]; }; then
      printf 'Run this as root, then start again:\n  %s\n' "${install[*]}" >&2
      exit 2
    fi
    as_root=(sudo)
  fi
  if [ "$answer" = no ] && [ -t 0 ]; then
    read -r -p "Run \"${as_root[*]:+sudo }${install[*]}\"? [y/N] " answer
    case $answer in
      [yY]*) ;;
      *) printf 'Nothing was installed.\n' >&2; exit 2 ;;
    esac
  fi
  # Lists of packages may be old or absent on a fresh machine.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update --quiet=2 >&2 || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" --quiet=2 >&2 </dev/null || {
    printf 'apt-get failed. Run this as root, then start again:\n  %s\n' "${install[*]}" >&2
    exit 2
  }
}
