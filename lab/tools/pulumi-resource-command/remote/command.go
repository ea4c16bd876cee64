// Package remote has the resources that act on another machine over SSH.
package remote

import (
	"context"
	"fmt"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hybrid-mesh/lab/tools/pulumi-resource-command/command"
)

// Command runs commands on another machine, as command:remote:Command.
type Command struct{}

// Logging says which streams Pulumi shows while the command runs.
type Logging string

// Values lists what Logging may be.
func (Logging) Values() []infer.EnumValue[Logging] { return command.LoggingValues[Logging]() }

// CommandInputs are the arguments of a Command.
type CommandInputs struct {
	command.Lifecycle
	Stdin                  *string           `pulumi:"stdin,optional"`
	Logging                *Logging          `pulumi:"logging,optional"`
	Connection             *Connection       `pulumi:"connection" provider:"secret"`
	Environment            map[string]string `pulumi:"environment,optional"`
	AddPreviousOutputInEnv *bool             `pulumi:"addPreviousOutputInEnv,optional"`
}

// Outputs are what a run leaves behind.
type Outputs struct {
	Stdout string `pulumi:"stdout"`
	Stderr string `pulumi:"stderr"`
}

// State is what Pulumi keeps of a Command.
type State struct {
	CommandInputs
	Outputs
}

// Create runs the create command, if there is one.
func (*Command) Create(
	ctx context.Context, req infer.CreateRequest[CommandInputs],
) (response infer.CreateResponse[State], err error) {
	response.Output.CommandInputs = req.Inputs
	if response.ID, err = resource.NewUniqueHex(req.Name, 8, 0); err != nil || req.DryRun {
		return response, err
	}
	return response, response.Output.run(ctx, req.Inputs.Create)
}

// Update runs the update command, else the create command, if there is either.
func (*Command) Update(
	ctx context.Context, req infer.UpdateRequest[CommandInputs, State],
) (infer.UpdateResponse[State], error) {
	response := infer.UpdateResponse[State]{Output: State{CommandInputs: req.Inputs, Outputs: req.State.Outputs}}
	if req.DryRun {
		return response, nil
	}
	return response, response.Output.run(ctx, req.Inputs.OnUpdate())
}

// Delete runs the delete command, if there is one.
func (*Command) Delete(ctx context.Context, req infer.DeleteRequest[State]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, req.State.run(ctx, req.State.Delete)
}

// run runs text over a connection of its own and puts its outputs in place of those of the previous
// run; nil runs nothing and opens no connection. As in the official plugin, once the command runs
// nothing but its own end or a broken connection ends it.
func (s *State) run(ctx context.Context, text *string) error {
	if text == nil {
		return nil
	}
	client, err := s.Connection.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()

	logger := p.GetLogger(ctx)
	for name, value := range s.Environment {
		if err := session.Setenv(name, value); err != nil {
			logger.Error(refusedVariable(name))
			return fmt.Errorf("could not set environment variable %q: %w", name, err)
		}
	}
	if s.AddPreviousOutputInEnv == nil || *s.AddPreviousOutputInEnv {
		// Few servers accept these two. They are a convenience, so a refusal is no error.
		for name, value := range map[string]string{
			command.StdoutVariable: s.Stdout, command.StderrVariable: s.Stderr,
		} {
			if value != "" && session.Setenv(name, value) != nil {
				logger.Warning(refusedVariable(name))
			}
		}
	}
	if s.Stdin != nil && *s.Stdin != "" {
		session.Stdin = strings.NewReader(*s.Stdin)
	}
	capture := command.NewCapture(ctx, s.Logging)
	session.Stdout, session.Stderr = capture.Stdout, capture.Stderr
	stdout, stderr, err := capture.Finish(*text, session.Run(*text))
	if err != nil {
		return err
	}
	s.Stdout, s.Stderr = stdout, stderr
	return nil
}

func refusedVariable(name string) string {
	return fmt.Sprintf("Unable to set '%s': the SSH server accepts a variable only where its AcceptEnv names it. "+
		"Name it there, or put it before the command: VAR=value command.", name)
}
