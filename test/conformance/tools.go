//go:build tools

// Package conformance pins what critest needs: it is a test binary (cmd/critest holds only a test file), so
// that neither `go install` nor go.mod's `tool` can name it.
package conformance

import (
	_ "github.com/onsi/ginkgo/v2"
	_ "github.com/onsi/gomega"

	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/common"
	_ "sigs.k8s.io/cri-tools/pkg/framework"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
