// Command pulumi-resource-command is a stand-in for Pulumi's official "command" plugin, not the
// plugin itself: a small program of hybrid-mesh's embedded environment, for machines that cannot
// download the official one. The official plugin is used instead wherever it is installed.
//
// It serves the resources that hybrid-mesh uses, command:remote:Command,
// command:remote:CopyToRemote and command:local:Command, with the tokens, properties, secrets and
// replacements of the official schema 1.2.1, so that the official SDKs work with it unchanged.
// tests/plugin holds both to the same behaviour; docs/pulumi-command-stand-in.md says what differs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/pulumi/pulumi-go-provider/infer"

	"hybrid-mesh/lab/tools/pulumi-resource-command/local"
	"hybrid-mesh/lab/tools/pulumi-resource-command/remote"
)

// version is the official release that this program stands in for. What follows the plus sign says
// that it is not that release; versions compare without it.
const version = "1.2.1+stand-in"

const description = "hybrid-mesh's stand-in for Pulumi's official command plugin. " +
	"It is not made, supported or endorsed by Pulumi."

func main() {
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "pulumi-resource-command %s\n%s\n\n"+
			"Pulumi starts it by itself and speaks gRPC with it; there is nothing to run by hand.\n\n"+
			"usage: pulumi-resource-command [flags] [address of the Pulumi engine]\n", version, description)
		flag.PrintDefaults()
	}
	if err := serve(); err != nil {
		fmt.Fprintf(os.Stderr, "pulumi-resource-command (stand-in): %s\n", err)
		os.Exit(1)
	}
}

func serve() error {
	provider, err := infer.NewProviderBuilder().
		WithDisplayName("Command (hybrid-mesh's stand-in)").
		WithDescription(description).
		WithLicense("Apache-2.0").
		WithResources(
			infer.Resource(&local.Command{}),
			infer.Resource(&remote.Command{}),
			infer.Resource(&remote.CopyToRemote{}),
		).
		Build()
	if err != nil {
		return err
	}
	return provider.Run(context.Background(), "command", version)
}
