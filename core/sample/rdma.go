package sample

import (
	"math"
	"slices"
	"time"
	"unsafe"

	"netmon/core/units"
)

// RDMAPort is one port of an RDMA device. Its counters are the node's, not this process's.
type RDMAPort struct {
	Device                 string    `json:"device"`
	Port                   int64     `json:"port"`
	Driver                 *string   `json:"driver"`
	LinkLayer              *string   `json:"link_layer"`     // the kernel's words: InfiniBand, Ethernet, Unspecified (EFA)
	State                  *string   `json:"state"`          // active, down, init, armed, active_defer
	PhysicalState          *string   `json:"physical_state"` // link_up, disabled, polling...
	RateBitsPerSecond      *uint64   `json:"rate_bits_per_second"`
	Interface              *string   `json:"interface"` // the network interface of the same port, of RoCE and IPoIB
	GIDs                   []RDMAGID `json:"gids"`
	ReceiveBytesTotal      *uint64   `json:"receive_bytes_total"`
	TransmitBytesTotal     *uint64   `json:"transmit_bytes_total"`
	ReceiveBytesPerSecond  *float64  `json:"receive_bytes_per_second"`
	TransmitBytesPerSecond *float64  `json:"transmit_bytes_per_second"`
	// Counters are counted since the monitor started, by the kernel's names; CountersPerSecond the same over the window.
	Counters          map[string]uint64  `json:"counters"`
	CountersPerSecond map[string]float64 `json:"counters_per_second"`
	WindowSeconds     *float64           `json:"window_seconds"`
}

// RDMAGID is one address of a port.
type RDMAGID struct {
	Index     int64   `json:"index"`
	GID       string  `json:"gid"`
	Type      *string `json:"type"` // the kernel's words: "IB/RoCE v1", "RoCE v2"
	Interface *string `json:"interface"`
}

// PCIe is the link of a network device or GPU to its machine.
type PCIe struct {
	Address                      string   `json:"address"` // 0000:3b:00.0
	Kind                         string   `json:"kind"`    // network, gpu
	Names                        []string `json:"names"`   // interfaces and RDMA devices behind it
	CurrentTransfersPerSecond    *float64 `json:"current_transfers_per_second"`
	MaximumTransfersPerSecond    *float64 `json:"maximum_transfers_per_second"`
	CurrentLanes                 *int64   `json:"current_lanes"`
	MaximumLanes                 *int64   `json:"maximum_lanes"`
	CurrentCapacityBitsPerSecond *uint64  `json:"current_capacity_bits_per_second"` // lanes by transfers, less the line code
	Limited                      *bool    `json:"limited"`                          // fewer lanes, or slower ones, than the device can use
}

// NVLink is the traffic of one GPU's NVLinks, all of them together.
type NVLink struct {
	GPU                    int64    `json:"gpu"`
	UUID                   *string  `json:"uuid"`
	LinksActive            *int64   `json:"links_active"`
	ReceiveBytesTotal      *uint64  `json:"receive_bytes_total"`
	TransmitBytesTotal     *uint64  `json:"transmit_bytes_total"`
	ReceiveBytesPerSecond  *float64 `json:"receive_bytes_per_second"`
	TransmitBytesPerSecond *float64 `json:"transmit_bytes_per_second"`
	WindowSeconds          *float64 `json:"window_seconds"`
}

// RDMATexts are what hardly changes of an RDMAPort: many samples share them, and none changes them.
type RDMATexts struct {
	Device            string
	Port              int64
	Driver            *string
	LinkLayer         *string
	State             *string
	PhysicalState     *string
	RateBitsPerSecond *uint64
	Interface         *string
	GIDs              []RDMAGID
}

// RDMACounters are the counters of a port that mean trouble. Samples share them while nothing is counted.
type RDMACounters struct {
	Names     []string
	Totals    []uint64  // UnknownCount where it is not known
	PerSecond []float64 // NaN where it is not known
}

// RDMANumbers are what changes with every reading. Counts are UnknownCount, rates NaN and the window UnknownTime where they are not
// known.
type RDMANumbers struct {
	ReceiveBytes, TransmitBytes         uint64
	ReceivePerSecond, TransmitPerSecond float64
	Window                              time.Duration
}

// UnknownCount is a count that is not known.
const UnknownCount = math.MaxUint64

// KeptRDMAPort is an RDMAPort as a sample keeps it for long: a tenth of the memory that a row takes.
type KeptRDMAPort struct {
	Texts    *RDMATexts
	Counters *RDMACounters
	Numbers  RDMANumbers
}

// row is the row of a port.
func (k *KeptRDMAPort) row() RDMAPort {
	t, n := k.Texts, &k.Numbers
	p := RDMAPort{
		Device: t.Device, Port: t.Port, Driver: t.Driver, LinkLayer: t.LinkLayer, State: t.State, PhysicalState: t.PhysicalState,
		RateBitsPerSecond: t.RateBitsPerSecond, Interface: t.Interface, GIDs: t.GIDs,
		ReceiveBytesTotal: knownCount(n.ReceiveBytes), TransmitBytesTotal: knownCount(n.TransmitBytes),
		ReceiveBytesPerSecond: knownReal(n.ReceivePerSecond), TransmitBytesPerSecond: knownReal(n.TransmitPerSecond),
		Counters: make(map[string]uint64), CountersPerSecond: make(map[string]float64),
	}
	if n.Window != UnknownTime {
		p.WindowSeconds = knownReal(units.Seconds(n.Window))
	}
	for i, name := range k.Counters.Names {
		if total := k.Counters.Totals[i]; total != UnknownCount {
			p.Counters[name] = total
		}
		if rate := k.Counters.PerSecond[i]; !math.IsNaN(rate) {
			p.CountersPerSecond[name] = rate
		}
	}
	return p
}

func knownCount(value uint64) *uint64 {
	if value == UnknownCount {
		return nil
	}
	return &value
}

func knownReal(value float64) *float64 {
	if math.IsNaN(value) {
		return nil
	}
	return &value
}

// RDMARows are the rows of ports.
func RDMARows(kept []KeptRDMAPort) []RDMAPort {
	rows := make([]RDMAPort, len(kept))
	for i := range kept {
		rows[i] = kept[i].row()
	}
	return rows
}

// KeepRDMA gives a sample its section rdma. Nothing of it is changed afterwards; samples of the same reading share it.
func (s *Sample) KeepRDMA(ports []KeptRDMAPort) { s.keptRDMA = ports }

// AllRDMA is the section rdma, however the sample holds it; nil where it was not measured.
func (s *Sample) AllRDMA() []RDMAPort {
	if s.keptRDMA == nil {
		return s.RDMA
	}
	return RDMARows(s.keptRDMA)
}

// keptPort is one port as the sample keeps it, nil for none.
func (s *Sample) keptPort(device string, port int64) *KeptRDMAPort {
	for i := range s.keptRDMA {
		if k := &s.keptRDMA[i]; k.Texts.Port == port && k.Texts.Device == device {
			return k
		}
	}
	return nil
}

// counter is one of a port's counters, or its rate.
func (k *KeptRDMAPort) counter(name string, perSecond bool) (value float64, ok bool) {
	i := slices.Index(k.Counters.Names, name)
	switch {
	case i < 0:
		return 0, false
	case perSecond:
		value = k.Counters.PerSecond[i]
		return value, !math.IsNaN(value)
	default:
		total := k.Counters.Totals[i]
		return float64(total), total != UnknownCount
	}
}

// numbersIn is the row of a port without its counters, in memory that is used again.
func (k *KeptRDMAPort) numbersIn(room *Room) *RDMAPort {
	n := &k.Numbers
	room.port = RDMAPort{Port: k.Texts.Port, RateBitsPerSecond: k.Texts.RateBitsPerSecond}
	room.counts = [2]uint64{n.ReceiveBytes, n.TransmitBytes}
	room.reals = [3]float64{n.ReceivePerSecond, n.TransmitPerSecond, units.Seconds(n.Window)}
	for i, field := range []**uint64{&room.port.ReceiveBytesTotal, &room.port.TransmitBytesTotal} {
		if room.counts[i] != UnknownCount {
			*field = &room.counts[i]
		}
	}
	for i, field := range []**float64{&room.port.ReceiveBytesPerSecond, &room.port.TransmitBytesPerSecond} {
		if !math.IsNaN(room.reals[i]) {
			*field = &room.reals[i]
		}
	}
	if n.Window != UnknownTime {
		room.port.WindowSeconds = &room.reals[2]
	}
	return &room.port
}

// Memory that rows take in samples that are kept.
const (
	keptRDMABytes = int(unsafe.Sizeof(KeptRDMAPort{}))
	// KeptNVLinkBytes is that of a row of NVLink with its numbers.
	KeptNVLinkBytes = int(unsafe.Sizeof(NVLink{})) + 8*6
)

// RDMABytes is the memory that ports take, without what they share with those of the reading before.
func RDMABytes(ports, before []KeptRDMAPort) (bytes int) {
	const pointed = int(unsafe.Sizeof(""))
	for i := range ports {
		bytes += keptRDMABytes
		p := &ports[i]
		same := i < len(before)
		if !same || before[i].Counters != p.Counters {
			bytes += int(unsafe.Sizeof(RDMACounters{})) + 16*len(p.Counters.Names)
		}
		if !same || before[i].Texts != p.Texts {
			bytes += int(unsafe.Sizeof(RDMATexts{})) + 6*2*pointed + len(p.Texts.GIDs)*int(unsafe.Sizeof(RDMAGID{})+128)
		}
	}
	return bytes
}
