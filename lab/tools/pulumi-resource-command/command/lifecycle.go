// Package command is what local and remote commands have in common: which command text a step of
// the resource's life runs, and what becomes of the output.
package command

// Lifecycle is the part of a command's inputs that says what to run, and when.
type Lifecycle struct {
	// Triggers are values of any type; a change of any of them replaces the resource.
	Triggers *[]any  `pulumi:"triggers,optional" provider:"replaceOnChanges"`
	Create   *string `pulumi:"create,optional"`
	// Update is run when an input changed; without it, Create is run again.
	Update *string `pulumi:"update,optional"`
	Delete *string `pulumi:"delete,optional"`
}

// OnUpdate is the text to run when an input changed, nil for none.
func (l Lifecycle) OnUpdate() *string {
	if l.Update != nil {
		return l.Update
	}
	return l.Create
}

// Variables that hand the output of the previous create or update to the next run.
const (
	StdoutVariable = "PULUMI_COMMAND_STDOUT"
	StderrVariable = "PULUMI_COMMAND_STDERR"
)
