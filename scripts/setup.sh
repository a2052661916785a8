#!/bin/bash
# Prepares this machine (Debian 12 or newer, or a recent Ubuntu; as root) for `make demo` and `make test`:
#   1. installs QEMU >= 10, libvirt >= 11 and the lab's tools from the distribution's own packages; Debian 12 has them in
#      bookworm-backports, which is added at the address of this machine's own Debian source if it is needed;
#   2. keeps every service that comes with them stopped and disabled: the lab runs its own;
#   3. makes .venv with the pinned Python packages of pyproject.toml.
# May be run again at any time: what is there already is left alone, and when nothing has changed it ends at once.
set -euo pipefail
cd "$(dirname "$0")/.."

HYPERVISOR=(qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-clients libvirt-dev)
TOOLS=(
    iproute2 nftables openssh-server rsync tini util-linux procps        # the lab's hosts
    busybox-static cpio e2fsprogs kmod zstd                              # the lab's guests
    iperf3 openssh-client xdelta3                                        # rivals of the benchmarks
    gcc libc6-dev make pkg-config python3-dev python3-venv               # libvirt-python, the link emulator, .venv
)
QEMU_MIN=1:10
LIBVIRT_MIN=11
BACKPORTS=/etc/apt/sources.list.d/novacron-backports.sources
POLICY=/usr/sbin/policy-rc.d
STAMP=.venv/.novacron-setup
export DEBIAN_FRONTEND=noninteractive

say() { echo "setup: $*"; }
die() {
    echo "setup: $*" >&2
    exit 1
}

candidate() { apt-cache policy "$1" | awk '/Candidate:/ {print $2}'; }
installed() { dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null | sed -n 's/^installed //p'; }
new_enough() { # VERSION MINIMUM
    [ -n "$1" ] && [ "$1" != "(none)" ] && dpkg --compare-versions "$1" ge "$2"
}

packages_are_there() {
    local name
    for name in "${HYPERVISOR[@]}" "${TOOLS[@]}"; do [ -n "$(installed "$name")" ] || return 1; done
    new_enough "$(installed qemu-system-x86)" "$QEMU_MIN" && new_enough "$(installed libvirt-daemon-system)" "$LIBVIRT_MIN"
}

candidates_will_do() {
    new_enough "$(candidate qemu-system-x86)" "$QEMU_MIN" && new_enough "$(candidate libvirt-daemon-system)" "$LIBVIRT_MIN"
}

add_backports() {
    local uri
    . /etc/os-release
    [ "${VERSION_CODENAME:-}" = bookworm ] || die "this release has QEMU $(candidate qemu-system-x86) and libvirt" \
        "$(candidate libvirt-daemon-system); NovaCron needs QEMU >= 10 and libvirt >= 11 (Debian 12 or newer, Ubuntu 25.10 or newer)"
    # The format of the machine's own source files doesn't matter: apt itself says what it reads.
    uri=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Identifier: Packages' | awk '$1 == "bookworm" {print $2; exit}')
    [ -n "$uri" ] || die "apt has no source for bookworm, so the address of bookworm-backports is unknown"
    say "adding bookworm-backports at $uri ($BACKPORTS)"
    cat >"$BACKPORTS" <<-SOURCE
		Types: deb
		URIs: $uri
		Suites: bookworm-backports
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	SOURCE
    apt-get update -qq
}

# apt takes a backport only where it is told to: for the hypervisor and what it needs, not for the tools.
release_flags() { candidates_will_do || echo "-t bookworm-backports"; }

apt_install() {
    local log
    log=$(mktemp)
    if ! apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        die "apt-get could not install the packages; its messages stand above"
    fi
    rm -f "$log"
}

# While packages are installed, no service may be started.
hold_services() {
    if [ -e "$POLICY" ] && ! grep -q novacron-setup "$POLICY"; then mv "$POLICY" "$POLICY.before-novacron"; fi
    printf '#!/bin/sh\n# novacron-setup: no service is started while packages are installed\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
    trap release_services EXIT
}

release_services() {
    rm -f "$POLICY"
    if [ -e "$POLICY.before-novacron" ]; then mv "$POLICY.before-novacron" "$POLICY"; fi
}

# Packages enable their services for the next boot; those that were not there before are disabled again.
disable_services() { # names of packages that are new
    local unit
    command -v systemctl >/dev/null || return 0
    for unit in $(dpkg -L "$@" 2>/dev/null | sed -nE 's#^(/usr)?/lib/systemd/system/([^/@]+\.(service|socket|timer))$#\2#p' | sort -u); do
        case $unit in *ssh* | *virt* | rsync.service | nftables.service | dnsmasq.service) ;; *) continue ;; esac
        systemctl --root=/ --quiet disable "$unit" 2>/dev/null || true
    done
}

install_packages() {
    local before after fresh
    say "installing ${HYPERVISOR[*]} ${TOOLS[*]}"
    apt-get update -qq
    if ! candidates_will_do && [ ! -e "$BACKPORTS" ]; then add_backports; fi
    before=$(dpkg-query -W -f '${Package}\n' | sort)
    hold_services
    # shellcheck disable=SC2046  two words on purpose
    apt_install $(release_flags) "${HYPERVISOR[@]}"
    apt_install "${TOOLS[@]}"
    release_services
    trap - EXIT
    after=$(dpkg-query -W -f '${Package}\n' | sort)
    fresh=$(comm -13 <(echo "$before") <(echo "$after"))
    # shellcheck disable=SC2086  one word per package
    [ -z "$fresh" ] || disable_services $fresh
    packages_are_there || die "QEMU $(installed qemu-system-x86) and libvirt $(installed libvirt-daemon-system) are too old"
}

find_python() {
    local name
    for name in python3 python3.11 python3.12 python3.13 /usr/bin/python3; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    die "no Python >= 3.11 with venv was found"
}

fingerprint() { cat pyproject.toml scripts/setup.sh /etc/os-release | sha256sum | cut -d ' ' -f 1; }

make_venv() {
    local python
    python=$(find_python)
    say "making .venv with $python"
    "$python" -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[node,research,dev]'
    # A node is ten processes of this code: where nothing may be written later, each would compile it anew.
    .venv/bin/python -m compileall -q actors api models
    say "compiling the inner loops of the codec and of forecasts"
    .venv/bin/python -c 'from actors.encoding import decoder, encoder, filler, store
for each in (encoder, decoder, store, filler): each.warm_up()'
    .venv/bin/python -c 'from models.bandwidth import load_forecaster
load_forecaster().predict([1.0] * 60, [float(second) for second in range(60)])'
}

[ "$(id -u)" = 0 ] || die "this installs system packages and needs root: run it as root or with sudo"
command -v apt-get >/dev/null || die "this needs a Debian or Ubuntu machine (apt-get)"
packages_are_there || install_packages
if [ "$(cat "$STAMP" 2>/dev/null)" != "$(fingerprint)" ] || ! .venv/bin/python -c '' 2>/dev/null; then
    make_venv
    fingerprint >"$STAMP"
fi
say "ready: QEMU $(installed qemu-system-x86), libvirt $(installed libvirt-daemon-system), $(.venv/bin/python --version)"
