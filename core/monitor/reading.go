package monitor

import (
	"netmon/core/netdev"
	"netmon/core/snmp"
	"netmon/core/sockstat"
)

// reading is what the kernel said at one moment, before any of it became a total or a rate.
type reading struct {
	interfaces    []netdev.Row
	told          [netdev.Counters]bool // counters the system reports at all
	interfacesErr error
	parse         uint64 // number of the parsing: Row.Same compares with the one before

	protocols                     snmp.Values
	snmpErr, netstatErr, snmp6Err error
	sockets                       sockstat.Values
	sockstatErr, sockstat6Err     error
}

// reader reads the chosen sections. retry allows it to open again what could not be opened before.
type reader interface {
	read(sections Section, retry bool, into *reading)
	close()
}

// allTold is what the kernel's own file reports.
func allTold() (told [netdev.Counters]bool) {
	for i := range told {
		told[i] = true
	}
	return told
}
