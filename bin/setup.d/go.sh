# The Kubernetes project's crictl and critest, for the tests that drive the daemon with them, two small programs of
# critest's images, and a client made of client-go: built from the Go modules that test/conformance pins. A whole
# control plane, kubelet and kubectl: from those that test/kubelet pins, Kubernetes itself among them.

go_module=test/conformance
# of which go.mod tells the programs' version
go_origin=sigs.k8s.io/cri-tools
go_output=.cache/bin
# the first Go that can fetch the newer one that go.mod asks for
go_least=1.21

step_crictl() {
  next_step 'crictl'
  go_build_step 'about 600 packages, 1 to 4 minutes' crictl
}

step_critest() {
  next_step 'critest'
  go_build_step 'about 600 packages, 1 to 4 minutes' crictl critest ginkgo nnp pause
}

step_streaming() {
  next_step 'crictl and the client of the streaming test'
  go_build_step 'about 600 packages, 1 to 4 minutes' crictl streams
}

step_kubelet() {
  next_step 'Kubernetes'
  local go_module=test/kubelet go_origin=k8s.io/kubernetes
  go_build_step '2 to 5 minutes each' etcd kube-apiserver kubelet kubectl
}

# go_build_step <how long> <program>...
go_build_step() {
  local time=$1 wanted program outdated=()
  shift
  wanted=$(find "$go_module" -name '*.go' -o -name 'go.*' | sort | xargs cat | sha256sum)
  for program in "$@"; do
    go_is_built "$program" "$wanted" || outdated+=("$program")
  done
  ((${#outdated[@]})) || return 0

  local go version
  go=$(find_go) || install_go
  go=$(find_go) || die "found no Go to build ${outdated[*]} with, even after installing it"
  version=$(awk -v origin="$go_origin" '$1 == origin { print $2 }' "$go_module/go.mod")
  # a Go that is older than go.mod asks for fetches that one; Debian's and others' default is not to
  export GOTOOLCHAIN=auto
  progress "downloading the modules of ${go_origin##*/} $version with $("$go" env GOVERSION 2>/dev/null || echo "$go")"
  logged "$go" -C "$go_module" mod download || die 'the Go modules could not be downloaded; the last lines are above' \
    'Go must reach its module proxy: `go env GOPROXY` shows which'
  mkdir -p "$go_output"
  for program in "${outdated[@]}"; do
    progress "building $program ($time)"
    go_build "$go" "$program" "$version" || die "$program could not be built; the last lines of go's output are above" \
      "whole output: $repo/$log_file"
    printf '%s\n' "$wanted" >"$go_output/$program.stamp"
  done
}

go_is_built() {
  [[ -x $go_output/$1 && -r $go_output/$1.stamp && $(<"$go_output/$1.stamp") == "$2" ]]
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
    die "${go_origin##*/} is built with Go $go_least or newer, which is not installed" 'install it and run this again'
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

# go_build <go> <program> <version>
go_build() {
  local verb=(build) package number=$go_origin/pkg/version.Version
  case $2 in
    etcd) package=go.etcd.io/etcd/server/v3 ;;
    kube*) package=k8s.io/kubernetes/cmd/$2 number=k8s.io/component-base/version.gitVersion ;;
    crictl) package=sigs.k8s.io/cri-tools/cmd/crictl ;;
    # a test binary: its package has only a test file
    critest) package=sigs.k8s.io/cri-tools/cmd/critest verb=(test -c) ;;
    # critest -parallel starts itself through it
    ginkgo) package=github.com/onsi/ginkgo/v2/ginkgo ;;
    *) package=./$2 ;;
  esac
  local flags=(-trimpath -buildvcs=false -ldflags "-s -w -X $number=$3")
  go_compile "$1" "${verb[@]}" "${flags[@]}" -v -o "$repo/$go_output/$2" "$package"
}

# go_compile <go> <argument>...: -v names each package that is compiled, which tells how far it is
go_compile() {
  local go=$1 count=0 package
  shift
  CGO_ENABLED=0 "$go" -C "$go_module" "$@" </dev/null 2>&1 >/dev/null | tee "$log_file" |
    while read -r package; do
      count=$((count + 1))
      ((count % 100)) || progress "built $count packages, now $package"
    done || { logged_tail; return 1; }
}
