package monitor

import "time"

// rdmaFact is what other parts may ask of an RDMA port. Texts are empty where they are not known.
type rdmaFact struct {
	device        string
	port          int
	driver        string
	linkLayer     string // InfiniBand, Ethernet, Unspecified
	state         string // active, down...
	interfaceName string // the network interface of the same port
	counted       bool   // the driver counts bytes, and they could be read; what follows is known then

	receiveBytes, transmitBytes uint64 // since the monitor started, or the port appeared

	// What was counted between the newest two readings, known where window is not 0. It is the part's own window, not the sample's.
	windowReceive, windowTransmit uint64
	window                        time.Duration
}

// rdmaPorts is what was read last of the RDMA ports, by device and port, and why nothing was: then there are none. Called with the
// lock of sampling held, after the part was filled.
func (m *Monitor) rdmaPorts() (ports []rdmaFact, missing string) {
	return nil, "not measured by this version"
}
