// Package snmp reads the protocol counters of IP, TCP and UDP.
//
// Source: /proc/net/snmp, /proc/net/netstat (two lines a protocol: names, then values) and /proc/net/snmp6 (one counter a
// line); proc_net(5), the counters' meaning in RFC 4293 (IP), RFC 4022 (TCP), RFC 4113 (UDP) and, for TcpExt, in the
// kernel's Documentation/networking/snmp_counter.rst. They cover one network namespace and all of its processes. TCP counts
// IPv4 and IPv6 together. Needs no privilege. The package computes no rates.
package snmp

import (
	"bytes"
	"errors"
	"fmt"

	"netmon/core/kernelfs"
)

// Names of the files below /proc/net.
const (
	PathSNMP    = "snmp"
	PathNetstat = "netstat"
	PathSNMP6   = "snmp6"
)

// Counter names one counter of one of the three files.
type Counter int

// The counters that are read.
const (
	IPInDiscards Counter = iota
	IPOutDiscards
	IPInAddrErrors
	IPOutNoRoutes
	IPFragFails
	TCPCurrEstab // a gauge: connections in state ESTABLISHED or CLOSE-WAIT
	TCPInSegs
	TCPOutSegs // without the segments that only repeat data
	TCPRetransSegs
	TCPInErrs
	TCPOutRsts
	UDPInDatagrams
	UDPNoPorts
	UDPInErrors
	UDPOutDatagrams
	UDPRcvbufErrors
	UDPSndbufErrors
	firstTCPExt
)

// The counters of /proc/net/netstat.
const (
	TCPTimeouts Counter = firstTCPExt + iota
	TCPSynRetrans
	TCPListenOverflows
	TCPListenDrops
	TCPMemoryPressures
	TCPOFOQueue
	firstIP6
)

// The counters of /proc/net/snmp6.
const (
	IP6InDiscards Counter = firstIP6 + iota
	IP6OutDiscards
	IP6InAddrErrors
	IP6OutNoRoutes
	IP6FragFails
	UDP6InDatagrams
	UDP6NoPorts
	UDP6InErrors
	UDP6OutDatagrams
	UDP6RcvbufErrors
	UDP6SndbufErrors
	Counters // how many there are
)

// Name is the kernel's own name of the counter, protocol first, as in "Tcp RetransSegs" and "Udp6InErrors".
func (c Counter) Name() string {
	if c < 0 || c >= Counters {
		return "unknown counter"
	}
	return names()[c]
}

func names() *[Counters]string {
	return &[Counters]string{
		IPInDiscards: "Ip InDiscards", IPOutDiscards: "Ip OutDiscards", IPInAddrErrors: "Ip InAddrErrors",
		IPOutNoRoutes: "Ip OutNoRoutes", IPFragFails: "Ip FragFails",
		TCPCurrEstab: "Tcp CurrEstab", TCPInSegs: "Tcp InSegs", TCPOutSegs: "Tcp OutSegs",
		TCPRetransSegs: "Tcp RetransSegs", TCPInErrs: "Tcp InErrs", TCPOutRsts: "Tcp OutRsts",
		UDPInDatagrams: "Udp InDatagrams", UDPNoPorts: "Udp NoPorts", UDPInErrors: "Udp InErrors",
		UDPOutDatagrams: "Udp OutDatagrams", UDPRcvbufErrors: "Udp RcvbufErrors", UDPSndbufErrors: "Udp SndbufErrors",
		TCPTimeouts: "TcpExt TCPTimeouts", TCPSynRetrans: "TcpExt TCPSynRetrans",
		TCPListenOverflows: "TcpExt ListenOverflows", TCPListenDrops: "TcpExt ListenDrops",
		TCPMemoryPressures: "TcpExt TCPMemoryPressures", TCPOFOQueue: "TcpExt TCPOFOQueue",
		IP6InDiscards: "Ip6InDiscards", IP6OutDiscards: "Ip6OutDiscards", IP6InAddrErrors: "Ip6InAddrErrors",
		IP6OutNoRoutes: "Ip6OutNoRoutes", IP6FragFails: "Ip6FragFails",
		UDP6InDatagrams: "Udp6InDatagrams", UDP6NoPorts: "Udp6NoPorts", UDP6InErrors: "Udp6InErrors",
		UDP6OutDatagrams: "Udp6OutDatagrams", UDP6RcvbufErrors: "Udp6RcvbufErrors", UDP6SndbufErrors: "Udp6SndbufErrors",
	}
}

// Values are the counters of one file, and which of them this kernel has.
type Values struct {
	Value [Counters]uint64
	Has   [Counters]bool
}

// ErrFormat means that the text is not of the file's form.
var ErrFormat = errors.New("not in the form of this file")

// Parser turns the text of the three files into Values. It remembers where columns stand, so that a file whose names did not
// change costs only its numbers. Make one with NewParser. Not safe for concurrent use.
type Parser struct {
	byName  map[string]Counter
	headers []header
	lines6  []Counter // counter of each line of snmp6, -1 for one that is not read
	names6  [][]byte
}

type header struct {
	line    []byte
	columns []Counter // counter of each column after the protocol's name, -1 for one that is not read
}

// NewParser returns a parser.
func NewParser() *Parser {
	p := &Parser{byName: make(map[string]Counter, Counters)}
	for counter, name := range names() {
		p.byName[name] = Counter(counter)
	}
	return p
}

// ParseTable parses the text of /proc/net/snmp or /proc/net/netstat and adds what it finds to values.
//
// Errors: a *kernelfs.ParseError for the first pair of lines that is not understood; the others are kept.
func (p *Parser) ParseTable(path string, text []byte, values *Values) (err error) {
	number := 0
	for len(text) > 0 {
		var names, numbers []byte
		names, text = kernelfs.Line(text)
		numbers, text = kernelfs.Line(text)
		number += 2
		if pairErr := p.parsePair(names, numbers, values); pairErr != nil && err == nil {
			err = kernelfs.NewParseError(path, number, numbers, pairErr)
		}
	}
	return err
}

func (p *Parser) parsePair(names, numbers []byte, values *Values) error {
	colon := bytes.IndexByte(names, ':')
	if colon <= 0 || len(numbers) <= colon || !bytes.Equal(names[:colon+1], numbers[:colon+1]) {
		return ErrFormat
	}
	rest := numbers[colon+1:]
	for _, counter := range p.columnsOf(names, colon) {
		if counter < 0 {
			// Not read: it may also be negative, as Tcp MaxConn is.
			var field []byte
			if field, rest = kernelfs.Field(rest); len(field) == 0 {
				return fmt.Errorf("%w: fewer values than names", ErrFormat)
			}
			continue
		}
		value, after, err := kernelfs.Uint(rest)
		if err != nil {
			return fmt.Errorf("%s: %w", counter.Name(), err)
		}
		rest = after
		values.Value[counter], values.Has[counter] = value, true
	}
	return nil
}

// columnsOf finds which counters the columns of a header line hold, cut after the last one that is read.
func (p *Parser) columnsOf(names []byte, colon int) []Counter {
	for i := range p.headers {
		if bytes.Equal(p.headers[i].line, names) {
			return p.headers[i].columns
		}
	}
	protocol := string(names[:colon])
	var columns []Counter
	last := 0
	for rest := names[colon+1:]; ; {
		var field []byte
		if field, rest = kernelfs.Field(rest); len(field) == 0 {
			break
		}
		counter, known := p.byName[protocol+" "+string(field)]
		if !known {
			counter = -1
		}
		columns = append(columns, counter)
		if known {
			last = len(columns)
		}
	}
	columns = columns[:last:last]
	// Names change only with the kernel; the bound keeps a file that is not one from filling memory.
	const most = 64
	if len(p.headers) < most {
		p.headers = append(p.headers, header{line: append([]byte(nil), names...), columns: columns})
	}
	return columns
}

// ParseSNMP6 parses the text of /proc/net/snmp6 and adds what it finds to values.
//
// Errors: a *kernelfs.ParseError for the first line that is not understood; the others are kept.
func (p *Parser) ParseSNMP6(text []byte, values *Values) (err error) {
	for number := 0; len(text) > 0; number++ {
		var line []byte
		line, text = kernelfs.Line(text)
		counter := p.counterAt(number, line)
		if counter < 0 {
			continue
		}
		_, rest := kernelfs.Field(line)
		value, _, valueErr := kernelfs.Uint(rest)
		if valueErr != nil {
			if err == nil {
				err = kernelfs.NewParseError(PathSNMP6, number+1, line, valueErr)
			}
			continue
		}
		values.Value[counter], values.Has[counter] = value, true
	}
	return err
}

// counterAt is the counter that line number holds; lines keep their places until the kernel adds one (the ICMP types seen).
func (p *Parser) counterAt(number int, line []byte) Counter {
	if number < len(p.lines6) {
		name := p.names6[number]
		if len(line) > len(name) && bytes.Equal(line[:len(name)], name) && (line[len(name)] == ' ' || line[len(name)] == '\t') {
			return p.lines6[number]
		}
		p.lines6, p.names6 = p.lines6[:number], p.names6[:number]
	}
	name, _ := kernelfs.Field(line)
	counter, known := p.byName[string(name)]
	if !known {
		counter = -1
	}
	const most = 4096
	if number == len(p.lines6) && number < most {
		p.lines6 = append(p.lines6, counter)
		p.names6 = append(p.names6, append([]byte(nil), name...))
	}
	return counter
}
