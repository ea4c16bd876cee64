package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
)

// The values of the logging property.
const (
	logStdout = "stdout"
	logStderr = "stderr"
	logBoth   = "stdoutAndStderr"
	logNone   = "none"
)

// LoggingValues lists the values of the logging property. The property has one type in the local
// and another in the remote module, as in the official schema; hence the type parameter.
func LoggingValues[L ~string]() []infer.EnumValue[L] {
	value := func(value L, description string) infer.EnumValue[L] {
		return infer.EnumValue[L]{Name: string(value), Value: value, Description: description}
	}
	return []infer.EnumValue[L]{
		value(logStdout, "Capture stdout in logs but not stderr"),
		value(logStderr, "Capture stderr in logs but not stdout"),
		value(logBoth, "Capture stdout and stderr in logs"),
		value(logNone, "Capture no logs"),
	}
}

// Capture collects what one process writes: each stream by itself for the outputs, both in their
// order of arrival for the text of an error, and, line by line, what is to be logged for Pulumi's
// progress display. Both streams may be written at once.
type Capture struct {
	Stdout, Stderr io.Writer

	mu                   sync.Mutex
	stdout, stderr, both bytes.Buffer
	pending              []byte // of the log: the beginning of a line whose end has not arrived
	log                  func(line string)
}

// NewCapture makes a Capture that logs what the logging property asks for; nil asks for both streams.
func NewCapture[L ~string](ctx context.Context, logging *L) *Capture {
	logger := p.GetLogger(ctx)
	c := &Capture{log: logger.InfoStatus}
	c.Stdout = stream{c, &c.stdout, logging == nil || *logging == logStdout || *logging == logBoth}
	c.Stderr = stream{c, &c.stderr, logging == nil || *logging == logStderr || *logging == logBoth}
	return c
}

// Finish is called once the process has ended, with the error of running it. It returns both
// streams, each without one final newline, or that error with the command and all it wrote.
func (c *Capture) Finish(command string, err error) (stdout, stderr string, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) > 0 {
		c.log(string(c.pending))
		c.pending = nil
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: running %q:\n%s", err, command, c.both.String())
	}
	return strings.TrimSuffix(c.stdout.String(), "\n"), strings.TrimSuffix(c.stderr.String(), "\n"), nil
}

// stream is one of the two streams of a Capture.
type stream struct {
	capture *Capture
	own     *bytes.Buffer
	logged  bool
}

func (s stream) Write(data []byte) (int, error) {
	c := s.capture
	c.mu.Lock()
	defer c.mu.Unlock()
	s.own.Write(data)
	c.both.Write(data)
	if s.logged {
		c.pending = append(c.pending, data...)
		for {
			line, rest, ended := bytes.Cut(c.pending, []byte("\n"))
			if !ended {
				break
			}
			c.log(string(bytes.TrimSuffix(line, []byte("\r"))))
			c.pending = rest
		}
	}
	return len(data), nil
}
