// Package netdev reads the byte, packet and error counters of every network interface.
//
// Source: /proc/net/dev (proc_net(5), net/core/net-procfs.c; 64 bits wide since Linux 2.6.36). Unit: bytes and packets
// since the interface was created or its driver reset it. Needs no privilege. The kernel folds counters of
// rtnl_link_stats64 together here: receive drops are rx_dropped + rx_missed_errors, receive frame errors are length, overrun,
// CRC and frame errors, transmit carrier errors are carrier, aborted, window and heartbeat errors. The package computes no
// rates and does not know what kind an interface is.
package netdev

import (
	"bytes"
	"errors"
	"fmt"

	"netmon/core/kernelfs"
)

// Path is the file's name below /proc/net.
const Path = "dev"

// Counter names one column of the file.
type Counter int

// The counters, in the order of the kernel's columns.
const (
	ReceiveBytes Counter = iota
	ReceivePackets
	ReceiveErrors
	ReceiveDrops
	ReceiveFIFOErrors
	ReceiveFrameErrors
	ReceiveCompressed
	ReceiveMulticast
	TransmitBytes
	TransmitPackets
	TransmitErrors
	TransmitDrops
	TransmitFIFOErrors
	TransmitCollisions
	TransmitCarrierErrors
	TransmitCompressed
	Counters // how many there are
)

// headerStart begins the file.
const headerStart = "Inter-|"

// columns are the words of the header's second line, receive then transmit, in the order of Counter.
func columns() [2][8]string {
	return [2][8]string{
		{"bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast"},
		{"bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed"},
	}
}

// Row is one interface of the file.
type Row struct {
	Name   string
	Values [Counters]uint64
	// Same means that the interface stood at this place with these values when the file was parsed the last time.
	Same bool
}

// ErrFormat means that the text is not that of /proc/net/dev.
var ErrFormat = errors.New("not in the form of /proc/net/dev")

// ErrColumns means that a row has fewer counters than the header promises.
var ErrColumns = errors.New("too few counters")

// Table holds the rows of the file as parsed last. Parsing again reuses what did not change, so that idle interfaces cost a
// comparison. The zero value is ready. Not safe for concurrent use.
type Table struct {
	Rows []Row

	text   []byte // what Rows was parsed from, owned by the table
	lines  [][]byte
	header []byte
	order  []Counter // counter of each column, -1 for one this package does not know
}

// Parse takes over text as the file's new content and returns the buffer of the previous content for reuse.
//
// Errors: ErrFormat when the header is not understood, and no row is kept then; a *kernelfs.ParseError for the first row
// that is not understood, with all other rows kept.
func (t *Table) Parse(text []byte) (spare []byte, err error) {
	rows, lines := t.Rows, t.lines
	spare, t.text = t.text, text

	first, rest := kernelfs.Line(text)
	second, rest := kernelfs.Line(rest)
	if len(t.header) == 0 || !bytes.HasPrefix(first, []byte(headerStart)) || !bytes.Equal(second, t.header) {
		order, err := parseHeader(first, second)
		if err != nil {
			t.Rows, t.lines, t.header = rows[:0], lines[:0], nil
			return spare, kernelfs.NewParseError(Path, 1, first, err)
		}
		// Known values were read with the old order: nothing may be reused.
		t.order, t.header = order, append([]byte(nil), second...)
		lines = lines[:0]
	}

	number, kept := 2, 0
	for len(rest) > 0 {
		var line []byte
		line, rest = kernelfs.Line(rest)
		number++
		if kept < len(lines) && kept < len(rows) && bytes.Equal(line, lines[kept]) {
			rows[kept].Same = true
			lines[kept] = line
			kept++
			continue
		}
		if kept == len(rows) {
			rows = append(rows, Row{})
		}
		if rowErr := t.parseRow(line, &rows[kept]); rowErr != nil {
			if err == nil {
				err = kernelfs.NewParseError(Path, number, line, rowErr)
			}
			// The place holds half of the broken row now: whatever comes next is parsed anew.
			if kept < len(lines) {
				lines[kept] = nil
			}
			continue
		}
		if kept < len(lines) {
			lines[kept] = line
		} else {
			lines = append(lines[:kept], line)
		}
		kept++
	}
	t.Rows, t.lines = rows[:kept], lines[:kept]
	return spare, err
}

func parseHeader(first, second []byte) ([]Counter, error) {
	if !bytes.HasPrefix(first, []byte(headerStart)) {
		return nil, ErrFormat
	}
	parts := bytes.Split(second, []byte("|"))
	if len(parts) != 3 {
		return nil, ErrFormat
	}
	var order []Counter
	var seen [Counters]bool
	for direction, words := range columns() {
		rest := parts[direction+1]
		for {
			var word []byte
			if word, rest = kernelfs.Field(rest); len(word) == 0 {
				break
			}
			counter := Counter(-1)
			for i, known := range words {
				if string(word) == known && !seen[direction*len(words)+i] {
					counter = Counter(direction*len(words) + i)
					seen[counter] = true
				}
			}
			order = append(order, counter)
		}
	}
	for counter, ok := range seen {
		if !ok {
			return nil, fmt.Errorf("%w: no column %q", ErrFormat, columns()[counter/8][counter%8])
		}
	}
	return order, nil
}

func (t *Table) parseRow(line []byte, row *Row) error {
	colon := bytes.LastIndexByte(line, ':')
	if colon < 0 {
		return ErrFormat
	}
	name := bytes.TrimLeft(line[:colon], " ")
	if len(name) == 0 {
		return ErrFormat
	}
	if row.Name != string(name) {
		row.Name = string(name)
	}
	row.Same = false
	rest := line[colon+1:]
	for _, counter := range t.order {
		value, after, err := kernelfs.Uint(rest)
		if err != nil {
			if field, _ := kernelfs.Field(rest); len(field) == 0 {
				return ErrColumns
			}
			return err
		}
		rest = after
		if counter >= 0 {
			row.Values[counter] = value
		}
	}
	return nil
}
