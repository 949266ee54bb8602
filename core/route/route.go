// Package route finds the interface that the default route leaves by.
//
// Source: /proc/net/route and /proc/net/ipv6_route (proc_net(5), net/ipv4/fib_trie.c, net/ipv6/route.c), where default routes
// stand at the beginning. No more than 64 KiB of a file is read, so that a machine holding the internet's routes costs no more.
// Needs no privilege and sends no packet. Routes to a given address are looked up by package link.
package route

import (
	"fmt"
	"math"
	"strconv"

	"netmon/core/kernelfs"
)

// Names of the files below /proc/net.
const (
	Path  = "route"
	Path6 = "ipv6_route"
)

// mostBytes is how much of the files' beginning is looked at.
const mostBytes = 64 << 10

// Flags of a route (linux/route.h).
const (
	flagUp     = 0x1
	flagReject = 0x200
)

// ParseDefault returns the interface of the IPv4 default route with the lowest metric, "" when there is none. Lines that are
// not understood are passed over: the text may be cut anywhere.
func ParseDefault(text []byte) (interfaceName string) {
	best := uint64(math.MaxUint64)
	for len(text) > 0 {
		var line []byte
		line, text = kernelfs.Line(text)
		// Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
		var fields [8][]byte
		if !split(line, fields[:]) || string(fields[1]) != "00000000" || string(fields[7]) != "00000000" {
			continue
		}
		flags, flagsErr := strconv.ParseUint(string(fields[3]), 16, 32)
		metric, metricErr := strconv.ParseUint(string(fields[6]), 10, 32)
		if flagsErr != nil || metricErr != nil || flags&flagUp == 0 || flags&flagReject != 0 || string(fields[0]) == "*" {
			continue
		}
		if metric < best {
			best, interfaceName = metric, string(fields[0])
		}
	}
	return interfaceName
}

// ParseDefault6 returns the interface of the IPv6 default route with the lowest metric, "" when there is none.
func ParseDefault6(text []byte) (interfaceName string) {
	best := uint64(math.MaxUint64)
	for len(text) > 0 {
		var line []byte
		line, text = kernelfs.Line(text)
		// destination length source length next_hop metric references use flags interface
		var fields [10][]byte
		if !split(line, fields[:]) || string(fields[1]) != "00" || string(fields[3]) != "00" {
			continue
		}
		metric, metricErr := strconv.ParseUint(string(fields[5]), 16, 32)
		flags, flagsErr := strconv.ParseUint(string(fields[8]), 16, 32)
		if metricErr != nil || flagsErr != nil || flags&flagUp == 0 || flags&flagReject != 0 || string(fields[9]) == "lo" {
			continue
		}
		if metric < best {
			best, interfaceName = metric, string(fields[9])
		}
	}
	return interfaceName
}

// split fills fields with those of a line and tells whether there were enough.
func split(line []byte, fields [][]byte) bool {
	for i := range fields {
		if fields[i], line = kernelfs.Field(line); len(fields[i]) == 0 {
			return false
		}
	}
	return true
}

// Defaults reads the default route on descriptors kept open. Not safe for concurrent use.
type Defaults struct {
	v4, v6 *kernelfs.File // nil where the kernel has no such file
	buffer []byte
}

// Open opens the files of the calling thread's network namespace.
//
// Errors: what kept a file from being opened, joined; the routes of a file that was opened are known all the same.
func Open(fs kernelfs.FS) (*Defaults, error) {
	var d Defaults
	var err, err6 error
	d.v4, err = kernelfs.Open(fs.NetPath(Path))
	d.v6, err6 = kernelfs.Open(fs.NetPath(Path6))
	switch {
	case err == nil:
		return &d, err6
	case err6 == nil:
		return &d, err
	default:
		return &d, fmt.Errorf("%w; %w", err, err6)
	}
}

// Interface is the name of the interface the default route leaves by, IPv4's first; "" when there is none or it cannot be read.
func (d *Defaults) Interface() (name string) {
	if d.v4 != nil {
		d.buffer, _ = d.v4.ReadHead(d.buffer, mostBytes)
		name = ParseDefault(d.buffer)
	}
	if d.v6 != nil && name == "" {
		d.buffer, _ = d.v6.ReadHead(d.buffer, mostBytes)
		name = ParseDefault6(d.buffer)
	}
	return name
}

// Close closes the files.
func (d *Defaults) Close() {
	for _, f := range []*kernelfs.File{d.v4, d.v6} {
		if f != nil {
			f.Close()
		}
	}
	d.v4, d.v6 = nil, nil
}
