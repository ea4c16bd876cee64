// The Kubernetes provider plugin of Pulumi, built from its published Go module.
//
// The module's own main package embeds files that its release process makes first, so it does not build
// as it lies there. This one does the same from the module's schema.json and terraform-mapping.json, which
// the toolchain copies beside this file in the build directory. They are never committed.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
)

// version is the release that the pinned module belongs to; the toolchain sets it with -X main.version.
var version string

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var mapping []byte

func main() {
	provider.Serve("kubernetes", version, schema, mapping)
}
