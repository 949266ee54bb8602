package monitor

// planeTraffic is what this process and its children moved by one interface.
type planeTraffic struct {
	interfaceName  string // "" where that is not known
	loopback       bool
	bytes          uint64  // sent and received since the monitor started
	bytesPerSecond float64 // over the window of the last sample; NaN where there is none
}
