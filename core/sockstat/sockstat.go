// Package sockstat reads how many sockets are in use and how much memory TCP holds.
//
// Source: /proc/net/sockstat and /proc/net/sockstat6 (proc_net(5), net/ipv4/proc.c, net/ipv6/proc.c). Sockets in use and in
// TIME-WAIT are those of the network namespace; orphaned sockets and TCP's memory are those of the whole machine, in every
// namespace. Unit: sockets, and pages of memory. Needs no privilege.
package sockstat

import (
	"errors"

	"netmon/core/kernelfs"
)

// Names of the files below /proc/net.
const (
	Path  = "sockstat"
	Path6 = "sockstat6"
)

// Gauge names one number of the files.
type Gauge int

// The gauges that are read.
const (
	TCPInUse Gauge = iota
	TCPOrphaned
	TCPTimeWait
	TCPMemoryPages
	UDPInUse
	TCP6InUse
	UDP6InUse
	Gauges // how many there are
)

// Values are the gauges, and which of them the kernel told.
type Values struct {
	Value [Gauges]uint64
	Has   [Gauges]bool
}

// ErrFormat means that a line is not a protocol followed by names and numbers.
var ErrFormat = errors.New("not in the form of /proc/net/sockstat")

func gauge(protocol, name string) Gauge {
	switch protocol {
	case "TCP:":
		switch name {
		case "inuse":
			return TCPInUse
		case "orphan":
			return TCPOrphaned
		case "tw":
			return TCPTimeWait
		case "mem":
			return TCPMemoryPages
		}
	case "UDP:":
		if name == "inuse" {
			return UDPInUse
		}
	case "TCP6:":
		if name == "inuse" {
			return TCP6InUse
		}
	case "UDP6:":
		if name == "inuse" {
			return UDP6InUse
		}
	}
	return -1
}

// Parse parses the text of either file and adds what it finds to values.
//
// Errors: a *kernelfs.ParseError for the first line that is not understood; the others are kept.
func Parse(path string, text []byte, values *Values) (err error) {
	for number := 1; len(text) > 0; number++ {
		var line []byte
		line, text = kernelfs.Line(text)
		if lineErr := parseLine(line, values); lineErr != nil && err == nil {
			err = kernelfs.NewParseError(path, number, line, lineErr)
		}
	}
	return err
}

func parseLine(line []byte, values *Values) error {
	protocol, rest := kernelfs.Field(line)
	if len(protocol) < 2 || protocol[len(protocol)-1] != ':' {
		return ErrFormat
	}
	for {
		var name []byte
		if name, rest = kernelfs.Field(rest); len(name) == 0 {
			return nil
		}
		value, after, err := kernelfs.Uint(rest)
		if err != nil {
			return err
		}
		rest = after
		if g := gauge(string(protocol), string(name)); g >= 0 {
			values.Value[g], values.Has[g] = value, true
		}
	}
}
