// Package route finds the interface that the default route leaves by, and the gateway it leads to.
//
// Source: /proc/net/route and /proc/net/ipv6_route (proc_net(5), net/ipv4/fib_trie.c, net/ipv6/route.c), where default routes
// stand at the beginning. No more than 64 KiB of a file is read, so that a machine holding the internet's routes costs no more.
// Needs no privilege and sends no packet. Routes to a given address are looked up by package link.
package route

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
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
	flagUp      = 0x1
	flagGateway = 0x2
	flagReject  = 0x200
)

// Default is a default route. The zero value: there is none.
type Default struct {
	Interface string     // it leaves by
	Gateway   netip.Addr // it leads to, with the interface as zone where link-local; invalid on a link that has no gateway
}

// ParseDefault returns the IPv4 default route with the lowest metric. Lines that are not understood are passed over: the text may
// be cut anywhere.
func ParseDefault(text []byte) (found Default) {
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
			best, found = metric, Default{Interface: string(fields[0])}
			if flags&flagGateway != 0 {
				found.Gateway = parseGateway(fields[2])
			}
		}
	}
	return found
}

// parseGateway reads an IPv4 address as the kernel writes it here: the number that its four bytes are on this machine.
func parseGateway(text []byte) netip.Addr {
	number, err := strconv.ParseUint(string(text), 16, 32)
	if err != nil || number == 0 {
		return netip.Addr{}
	}
	var octets [4]byte
	binary.NativeEndian.PutUint32(octets[:], uint32(number))
	return netip.AddrFrom4(octets)
}

// ParseDefault6 returns the IPv6 default route with the lowest metric.
func ParseDefault6(text []byte) (found Default) {
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
			best, found = metric, Default{Interface: string(fields[9])}
			if flags&flagGateway != 0 {
				found.Gateway = parseGateway6(fields[4], found.Interface)
			}
		}
	}
	return found
}

// parseGateway6 reads an IPv6 address as the kernel writes it here: its sixteen bytes in order.
func parseGateway6(text []byte, interfaceName string) netip.Addr {
	var octets [16]byte
	if len(text) != hex.EncodedLen(len(octets)) {
		return netip.Addr{}
	}
	if _, err := hex.Decode(octets[:], text); err != nil {
		return netip.Addr{}
	}
	gateway := netip.AddrFrom16(octets)
	if gateway.IsUnspecified() {
		return netip.Addr{}
	}
	if gateway.IsLinkLocalUnicast() {
		gateway = gateway.WithZone(interfaceName)
	}
	return gateway
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
func (d *Defaults) Interface() string {
	if v4 := d.read(d.v4, ParseDefault); v4.Interface != "" {
		return v4.Interface
	}
	return d.read(d.v6, ParseDefault6).Interface
}

// Read returns the default routes of both families.
func (d *Defaults) Read() (v4, v6 Default) {
	return d.read(d.v4, ParseDefault), d.read(d.v6, ParseDefault6)
}

func (d *Defaults) read(file *kernelfs.File, parse func([]byte) Default) Default {
	if file == nil {
		return Default{}
	}
	d.buffer, _ = file.ReadHead(d.buffer, mostBytes)
	return parse(d.buffer)
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
