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

	stdout, stderr *stream
	mu             sync.Mutex
	both           bytes.Buffer
	log            func(line string)
}

// stream is one of the two streams of a Capture.
type stream struct {
	capture *Capture
	content bytes.Buffer
	logged  bool
	pending []byte // of the log: the beginning of a line whose end has not arrived
}

// NewCapture makes a Capture that logs what the logging property asks for; nil asks for both streams.
func NewCapture[L ~string](ctx context.Context, logging *L) *Capture {
	c := &Capture{log: p.GetLogger(ctx).InfoStatus}
	c.stdout = &stream{capture: c, logged: logging == nil || *logging == logStdout || *logging == logBoth}
	c.stderr = &stream{capture: c, logged: logging == nil || *logging == logStderr || *logging == logBoth}
	c.Stdout, c.Stderr = c.stdout, c.stderr
	return c
}

// Finish is called once the process has ended, with the error of running it. It returns both
// streams, each without one final newline, or that error with the command and all it wrote.
func (c *Capture) Finish(command string, err error) (stdout, stderr string, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range []*stream{c.stdout, c.stderr} {
		if len(s.pending) > 0 {
			c.log(string(s.pending))
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: running %q:\n%s", err, command, c.both.String())
	}
	return strings.TrimSuffix(c.stdout.content.String(), "\n"), strings.TrimSuffix(c.stderr.content.String(), "\n"), nil
}

func (s *stream) Write(data []byte) (int, error) {
	c := s.capture
	c.mu.Lock()
	defer c.mu.Unlock()
	s.content.Write(data)
	c.both.Write(data)
	if s.logged {
		s.pending = append(s.pending, data...)
		for {
			line, rest, ended := bytes.Cut(s.pending, []byte("\n"))
			if !ended {
				break
			}
			c.log(string(bytes.TrimSuffix(line, []byte("\r"))))
			s.pending = rest
		}
	}
	return len(data), nil
}
