//go:build !linux

package monitor

import (
	"errors"

	"netmon/core/inventory"
	"netmon/core/kernelfs"
)

// gopsutilReader reads interface counters through gopsutil. Protocol counters are not read on these systems.
type gopsutilReader struct{ last reading }

func newReader(kernelfs.FS, Section) (reader, error) { return &gopsutilReader{}, nil }

func newLinkSource(kernelfs.FS) (LinkSource, error) { return inventory.Watcher{}, nil }

func (r *gopsutilReader) close() {}

func (r *gopsutilReader) read(sections Section, _ bool, into *reading) {
	missing := errors.New("read on Linux only")
	rows := r.last.interfaces
	*into = reading{
		told: inventory.Told(), snmpErr: missing, netstatErr: missing, snmp6Err: missing,
		sockstatErr: missing, sockstat6Err: missing,
	}
	if sections&Interfaces != 0 {
		into.interfaces, into.interfacesErr = inventory.ReadCounters(rows)
		r.last.interfaces = into.interfaces
	}
}
