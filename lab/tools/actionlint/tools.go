//go:build tools

// Package tools names what is built of this group, so that go mod tidy keeps what it takes.
package tools

import _ "github.com/rhysd/actionlint/cmd/actionlint"
