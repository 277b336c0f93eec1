# crictl, for the test that drives the daemon with it: built from the Go modules that test/conformance pins.

crictl_module=test/conformance
crictl_binary=.cache/bin/crictl
# the first Go that can fetch the newer one that go.mod asks for
go_least=1.21

step_crictl() {
  next_step 'crictl'
  local wanted
  wanted=$(cat "$crictl_module/go.mod" "$crictl_module/go.sum" | sha256sum)
  [[ -x $crictl_binary && -r $crictl_binary.stamp && $(<"$crictl_binary.stamp") == "$wanted" ]] && return 0

  local go version
  go=$(find_go) || install_go
  go=$(find_go) || die 'found no Go to build crictl with, even after installing it'
  version=$(awk '$1 == "sigs.k8s.io/cri-tools" { print $2 } $2 == "sigs.k8s.io/cri-tools" { print $3 }' \
    "$crictl_module/go.mod" | head -n 1)
  # a Go that is older than go.mod asks for fetches that one; Debian's and others' default is not to
  export GOTOOLCHAIN=auto
  progress "downloading the modules of crictl $version with $("$go" env GOVERSION 2>/dev/null || echo "$go")"
  logged "$go" -C "$crictl_module" mod download || die 'the Go modules could not be downloaded; the last lines are above' \
    'Go must reach its module proxy: `go env GOPROXY` shows which'
  build_crictl "$go" "$version" || die 'crictl could not be built; the last lines of go build are above' \
    "whole output: $repo/$log_file"
  printf '%s\n' "$wanted" >"$crictl_binary.stamp"
}

# The caller's own Go, else one in the usual places.
find_go() {
  local candidate
  for candidate in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-1.*/bin/go; do
    if [[ -x $candidate ]] && new_enough "$candidate"; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}

new_enough() {
  local version
  # outside any module: it shall say its own version, not fetch the one that go.mod asks for
  version=$(cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
  version=${version#go}
  [[ $(printf '%s\n' "$go_least" "$version" | sort -V | head -n 1) == "$go_least" ]]
}

install_go() {
  command -v dpkg-query >/dev/null ||
    die "crictl is built with Go $go_least or newer, which is not installed" 'install it and run this again'
  require_debian golang-go
  # Debian 12's own is too old; step_system_packages has added Debian 13 to its sources. os-release may tell of 13
  # on a 12 by then: its package is one of those that came with others.
  local archive release=''
  mapfile -t archive < <(debian_archive '')
  [[ $(extra_suites "${archive[1]:-}") != *trixie* ]] || release=trixie
  progress 'reading package lists (apt-get update)'
  logged apt_get update || say 'warning: apt-get update reported errors (above); going on with what it has'
  install_packages "$release" golang-go
}

# build_crictl <go> <version>: `go build -v` names each package that it compiles, which tells how far it is
build_crictl() {
  local count=0 package
  progress 'building (about 600 packages, 1 to 4 minutes)'
  mkdir -p "$(dirname "$crictl_binary")"
  CGO_ENABLED=0 "$1" -C "$crictl_module" build -v -trimpath -buildvcs=false \
    -ldflags "-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=$2" \
    -o "$repo/$crictl_binary" sigs.k8s.io/cri-tools/cmd/crictl </dev/null 2>&1 >/dev/null | tee "$log_file" |
    while read -r package; do
      count=$((count + 1))
      ((count % 100)) || progress "built $count packages, now $package"
    done || { logged_tail; return 1; }
}
