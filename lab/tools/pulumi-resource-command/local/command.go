// Package local has the resources that run commands on this machine.
package local

import (
	"context"
	"os"
	"os/exec"
	"strings"

	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/infer/types"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hybrid-mesh/lab/tools/pulumi-resource-command/command"
)

// Command runs commands on this machine, as command:local:Command.
type Command struct{}

// Logging says which streams Pulumi shows while the command runs.
type Logging string

// Values lists what Logging may be.
func (Logging) Values() []infer.EnumValue[Logging] { return command.LoggingValues[Logging]() }

// CommandInputs are the arguments of a Command.
type CommandInputs struct {
	command.Lifecycle
	Stdin                  *string            `pulumi:"stdin,optional"`
	Logging                *Logging           `pulumi:"logging,optional"`
	Interpreter            *[]string          `pulumi:"interpreter,optional"`
	Dir                    *string            `pulumi:"dir,optional"`
	Environment            *map[string]string `pulumi:"environment,optional"`
	AssetPaths             *[]string          `pulumi:"assetPaths,optional"`
	ArchivePaths           *[]string          `pulumi:"archivePaths,optional"`
	AddPreviousOutputInEnv *bool              `pulumi:"addPreviousOutputInEnv,optional"`
}

// Outputs are what a run leaves behind.
type Outputs struct {
	Stdout  string                            `pulumi:"stdout"`
	Stderr  string                            `pulumi:"stderr"`
	Assets  *map[string]*types.AssetOrArchive `pulumi:"assets,optional"`
	Archive *resource.Archive                 `pulumi:"archive,optional"`
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

// run runs text and puts its outputs in place of those of the previous run; nil runs nothing.
func (s *State) run(ctx context.Context, text *string) error {
	if text == nil {
		return nil
	}
	interpreter := []string{"/bin/sh", "-c"}
	if s.Interpreter != nil && len(*s.Interpreter) > 0 {
		interpreter = *s.Interpreter
	}
	// Append to a copy: the interpreter belongs to the state.
	arguments := append(interpreter[1:len(interpreter):len(interpreter)], *text)
	process := exec.CommandContext(ctx, interpreter[0], arguments...)
	if s.Dir != nil {
		process.Dir = *s.Dir
	} else {
		var err error
		if process.Dir, err = os.Getwd(); err != nil {
			return err
		}
	}
	process.Env = s.environment()
	if s.Stdin != nil && *s.Stdin != "" {
		process.Stdin = strings.NewReader(*s.Stdin)
	}
	capture := command.NewCapture(ctx, s.Logging)
	process.Stdout, process.Stderr = capture.Stdout, capture.Stderr
	stdout, stderr, err := capture.Finish(*text, process.Run())
	if err != nil {
		return err
	}
	s.Stdout, s.Stderr = stdout, stderr
	return s.collect(process.Dir)
}

// environment is this process's own, then the inputs', then the previous run's outputs: the last wins.
func (s *State) environment() []string {
	variables := os.Environ()
	if s.Environment != nil {
		for name, value := range *s.Environment {
			variables = append(variables, name+"="+value)
		}
	}
	if s.AddPreviousOutputInEnv == nil || *s.AddPreviousOutputInEnv {
		if s.Stdout != "" {
			variables = append(variables, command.StdoutVariable+"="+s.Stdout)
		}
		if s.Stderr != "" {
			variables = append(variables, command.StderrVariable+"="+s.Stderr)
		}
	}
	return variables
}
