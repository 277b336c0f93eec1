# The Debian packages: what is missing or too old, and nothing else, is installed.

# name and least version
system_packages='
qemu-system-x86 1:10
qemu-utils 1:10
virtiofsd 1.10
erofs-utils 1.8
crun 1.21
skopeo 1.13
kmod
docker-registry
containernetworking-plugins
mmdebstrap
busybox-static
e2fsprogs
iproute2
iptables
cpio
xz-utils
zstd
ca-certificates
'
# in no stable release yet
sid_packages='
vhost-device-vsock
'
# what the benchmark compares with; containerd 2 is in no stable release yet
bench_packages='
containerd 2
runc 1.1
'
# clients of the ssh gateway
ssh_packages='
openssh-client
rsync
'
# what tells whether they are there on a system that is not Debian
needed_programs='qemu-system-x86_64 qemu-img virtiofsd mkfs.erofs crun skopeo kmod mmdebstrap busybox mkfs.ext4 ip tc
iptables cpio xz zstd vhost-device-vsock'

step_system_packages() {
  next_step 'system packages'
  if ! command -v dpkg-query >/dev/null; then check_programs && return; fi

  local stable sid
  mapfile -t stable < <(missing_packages "$system_packages")
  mapfile -t sid < <(missing_packages "$sid_packages")
  ((${#stable[@]} + ${#sid[@]})) || return 0
  require_debian "${stable[@]}" "${sid[@]}"

  local archive
  mapfile -t archive < <(debian_archive '')
  ((${#archive[@]})) || die 'found no Debian archive in /etc/apt/sources.list and /etc/apt/sources.list.d' \
    'add your mirror, such as the line that `man sources.list` shows, and run bin/setup again'
  local suites
  suites=$(extra_suites "${archive[1]}")
  add_sources "${archive[0]}" "$suites" "$(printf '%s\n' "${archive[@]:2}")"

  progress 'reading package lists (apt-get update)'
  if ! logged apt_get update; then
    say 'warning: apt-get update reported errors (above); going on with what it has'
    ! grep -q 'is expired' "$log_file" || say '         apt refuses a mirror that is out of date: synchronise it'
  fi
  install_packages "$([[ $suites != *trixie* ]] || echo trixie)" "${stable[@]}"
  install_packages "$([[ -z $suites ]] || echo sid)" "${sid[@]}"
}

# The programs alone are used; on a host with systemd the package also starts a containerd service of its own.
step_bench_packages() {
  next_step 'peer of the benchmark'
  command -v dpkg-query >/dev/null || die 'the benchmark compares with the containerd and runc of Debian' \
    'install containerd 2 and runc 1.1 or newer by hand and run: bin/node test/bench/main.ts'
  local missing
  mapfile -t missing < <(missing_packages "$bench_packages")
  ((${#missing[@]})) || return 0
  require_debian "${missing[@]}"
  # step_system_packages has added sid to the sources, at a priority at which nothing comes from it by itself
  local archive suites
  mapfile -t archive < <(debian_archive '')
  suites=$(extra_suites "${archive[1]:-}")
  progress 'reading package lists (apt-get update)'
  logged apt_get update || say 'warning: apt-get update reported errors (above); going on with what it has'
  install_packages "$([[ -z $suites ]] || echo sid)" "${missing[@]}"
}

step_ssh_packages() {
  next_step 'ssh clients'
  if ! command -v dpkg-query >/dev/null; then
    { command -v ssh && command -v rsync; } >/dev/null || die "the streaming test uses OpenSSH's clients and rsync" 'install them'
    return 0
  fi
  local missing
  mapfile -t missing < <(missing_packages "$ssh_packages")
  ((${#missing[@]})) || return 0
  require_debian "${missing[@]}"
  progress 'reading package lists (apt-get update)'
  logged apt_get update || say 'warning: apt-get update reported errors (above); going on with what it has'
  install_packages '' "${missing[@]}"
}

# missing_packages <table>: the packages that are not installed in a sufficient version
missing_packages() {
  local -A installed=()
  local name version status format='${Package}\t${Version}\t${db:Status-Status}\n'
  while IFS=$'\t' read -r name version status; do
    [[ $status != installed ]] || installed[$name]=$version
  done < <(awk '{ print $1 }' <<<"$1" | xargs dpkg-query -W -f "$format" 2>/dev/null)
  local least
  while read -r name least; do
    [[ -n $name ]] || continue
    if [[ -z ${installed[$name]:-} ]]; then echo "$name"
    elif [[ -n $least ]] && dpkg --compare-versions "${installed[$name]}" lt "$least"; then echo "$name"; fi
  done <<<"$1"
}

require_debian() {
  local id version
  id=$(. /etc/os-release && echo "${ID:-unknown}")
  version=$(. /etc/os-release && echo "${VERSION_ID:-13}")
  if [[ $id != debian ]] || ((${version%%.*} < 12)); then
    die "bin/setup can install packages on Debian 12 and newer only; this is $id $version" \
      "install these, in the versions of Debian 13, and run it again: $*"
  fi
  ((EUID == 0)) || die 'these packages are missing, and only root can install them:' "$*" "sudo $repo/bin/setup"
}

check_programs() {
  local program missing=()
  for program in $needed_programs; do
    PATH=$PATH:/usr/sbin:/sbin:/usr/libexec:/usr/lib/qemu command -v "$program" >/dev/null || missing+=("$program")
  done
  ((${#missing[@]} == 0)) || die 'this is not Debian: bin/setup cannot install what is missing here' \
    "install these programs and run it again: ${missing[*]}"
}

# add_sources <URI> <suites> <Signed-By>
add_sources() {
  [[ -n $2 ]] || return 0
  local sources=/etc/apt/sources.list.d/caisson.sources
  [[ ! -e $sources ]] || return 0
  progress "adding Debian's $2 from this host's own mirror, at low priority ($sources)"
  write_file /etc/apt/preferences.d/caisson "$(pins_text "$2")"
  write_file "$sources" "$(sources_text "$@")"
}

# install_packages <release or nothing> <package>...
install_packages() {
  local release=$1
  shift
  (($#)) || return 0
  progress "installing $(words "$@")"
  logged apt_get install -y --no-install-recommends ${release:+-t "$release"} "$@" ||
    die 'apt-get install failed; its last lines are above' "whole output: $repo/$log_file" \
      "try it by hand: apt-get install --no-install-recommends ${release:+-t $release }$*"
}

apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Options::=--force-confold "$@"
}
