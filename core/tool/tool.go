// Package tool holds what the tools that measure throughput share: their results, and the running of programs.
//
// netmon's own test is package throughput; iperf3 and speedtest say how these programs are called and what their JSON means. A
// program is started by a Spawn that core is given, never by a shell; its output is bounded, and it is killed with all it started
// when its time is over or nobody wants it any more. Needs no privilege. Linux; elsewhere no program is run.
package tool

import (
	"errors"
	"fmt"
	"strings"
)

// Direction is the way the bytes of a test take, seen from this host.
type Direction string

// The directions.
const (
	Transmit Direction = "transmit"
	Receive  Direction = "receive"
)

// ErrStopped means that a test was canceled, or its monitor closed.
var ErrStopped = errors.New("canceled")

// Result is what one direction of a test came to. Nil is not known.
type Result struct {
	Target    string // whom the tool chose; "" where the caller named somebody
	Direction Direction
	Parallel  int               // connections, 0: not known
	Seconds   *float64          // that the receiver's figure covers
	Bytes     *uint64           // that the receiver got
	Rates                       // in bytes a second
	Resent    *uint64           // segments that the sender retransmitted
	RTT       *float64          // seconds, as the sender's kernel smoothed it under the load
	Lacking   map[string]string // why fields of the sample document are null where the tool does not tell; nil: it tells all
	Err       error             // why there is no figure
}

// Rates are the two ends' figures.
type Rates struct {
	Sender   *float64
	Receiver *float64
}

// Known is a pointer to a value that is known.
func Known[T any](value T) *T { return &value }

// OneLine is a program's text as part of a sentence: its last line, without what is not printable, and not long.
func OneLine(text []byte) string {
	const most = 200
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(text), "?")), "\n")
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.TrimSpace(lines[len(lines)-1]))
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "..."
	}
	return line
}

// Failure is why a program gave no result: its own words, where it had some.
func Failure(name string, out Output, words string) error {
	if words == "" {
		words = OneLine(out.Errors)
	}
	if words == "" {
		words = OneLine(out.Text)
	}
	how := "failed"
	switch {
	case out.Exit.Signal != 0:
		how = fmt.Sprintf("was ended by signal %d", out.Exit.Signal)
	case out.Exit.Status > 0:
		how = fmt.Sprintf("failed with exit status %d", out.Exit.Status)
	case out.Exit.Status < 0:
		how = "was ended by somebody else"
	}
	if words == "" {
		return fmt.Errorf("%s %s and said nothing", name, how)
	}
	return fmt.Errorf("%s %s: %s", name, how, words)
}

// NotUnderstood is why output that is there gave no result.
func NotUnderstood(name string, out Output, what string) error {
	if out.Exit.Status != 0 || out.Exit.Signal != 0 {
		return Failure(name, out, "")
	}
	if len(out.Text) == 0 {
		return Failure(name, out, "")
	}
	return fmt.Errorf("%s printed what is not understood: %s: %q", name, what, OneLine(out.Text))
}
