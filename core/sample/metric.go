package sample

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Metric reads one number out of samples by the name it has in the document: "totals.receive_bytes_per_second",
// "tcp.retransmit_ratio", "interfaces.eth0.mtu", "probes.10.0.0.2.rtt_p50_seconds", "peers.10.0.0.2.rtt_seconds",
// "rdma.mlx5_0.1.receive_bytes_per_second", "rdma.mlx5_0.1.counters_per_second.out_of_sequence", "nvlink.0.receive_bytes_per_second",
// "findings.slow_link.count" (how many of a class there are), "phases.weight_sync.seconds_total", "window_seconds".
type Metric struct {
	name          string
	section       int    // field of Sample
	interfaceName string // set for the section interfaces
	target        string // set for the section probes
	address       string // set for the section peers
	device        string // set for the section rdma, with port
	port          int64
	counter       string // set for a counter of a port, or its rate
	perSecond     bool
	ofGPU         bool // set for the section nvlink, with gpu
	gpu           int64
	class         string // set for the section findings
	phase         string // set for the section phases
	field         []int  // in the section, nil for a number of Sample itself
}

// FindMetric looks a name up. Names of interfaces, targets and phases may hold dots themselves.
// Errors: a sentence that names what is not known and what is.
func FindMetric(name string) (Metric, error) {
	m := Metric{name: name}
	section, rest, nested := strings.Cut(name, ".")
	top := reflect.TypeOf(Sample{})
	place := slices.Index(tags(top), section)
	if place < 0 || section == "" {
		return m, fmt.Errorf("metric %q: there is no section %q; metrics are named as in \"totals.receive_bytes_per_second\"", name, section)
	}
	m.section = place
	kind := top.Field(place).Type
	// Sections of rows that have names, which may hold dots themselves.
	named := map[string]struct {
		what, example string
		name          *string
		row           reflect.Type
	}{
		"interfaces": {"interfaces", "interfaces.eth0.receive_bytes_per_second", &m.interfaceName, reflect.TypeOf(Interface{})},
		"probes":     {"targets", "probes.10.0.0.2.rtt_p50_seconds", &m.target, reflect.TypeOf(Probe{})},
		"peers":      {"peers", "peers.10.0.0.2.rtt_seconds", &m.address, reflect.TypeOf(Peer{})},
		"phases":     {"phases", "phases.weight_sync.seconds_total", &m.phase, reflect.TypeOf(Phase{})},
	}
	rows, isNamed := named[section]
	switch {
	case isNamed:
		dot := strings.LastIndexByte(rest, '.')
		if dot < 1 {
			return m, fmt.Errorf("metric %q: %s are named as in %q", name, rows.what, rows.example)
		}
		*rows.name, rest = rest[:dot], rest[dot+1:]
		kind = rows.row
	case section == "rdma":
		return m.ofRDMA(rest)
	case section == "nvlink":
		gpu, field, found := strings.Cut(rest, ".")
		number, err := strconv.ParseInt(gpu, 10, 64)
		if !found || err != nil {
			return m, fmt.Errorf("metric %q: GPUs are named as in \"nvlink.0.receive_bytes_per_second\"", name)
		}
		m.ofGPU, m.gpu, rest = true, number, field
		kind = reflect.TypeOf(NVLink{})
	case section == "findings":
		class, found := strings.CutSuffix(rest, ".count")
		if !found || !slices.Contains(findingClasses(), class) {
			return m, fmt.Errorf("metric %q: findings are named as in \"findings.slow_link.count\"; the classes are %s", name,
				strings.Join(findingClasses(), ", "))
		}
		m.class = class
		return m, nil
	case isNumber(kind):
		if nested {
			return m, fmt.Errorf("metric %q: %q is a number and has no fields", name, section)
		}
		return m, nil
	case kind.Kind() == reflect.Pointer && kind.Elem().Kind() == reflect.Struct:
		kind = kind.Elem()
	default:
		return m, fmt.Errorf("metric %q: %q holds no numbers", name, section)
	}
	field, found := fieldByTag(kind, rest)
	if !found {
		return m, fmt.Errorf("metric %q: %q has no number %q; it has %s", name, section, rest, strings.Join(numbers(kind), ", "))
	}
	m.field = field
	return m, nil
}

// findingClasses are the values of Finding.Class.
func findingClasses() []string {
	return []string{"slow_link", "lossy_link", "high_latency", "slow_host", "stalled_rank", "wrong_interface", "network_clean"}
}

// ofRDMA finds a number of an RDMA port, or one of its counters.
func (m Metric) ofRDMA(rest string) (Metric, error) {
	device, port, rest, found := cutPort(rest)
	if !found {
		return m, fmt.Errorf("metric %q: ports are named as in \"rdma.mlx5_0.1.receive_bytes_per_second\"", m.name)
	}
	m.device, m.port = device, port
	kind := reflect.TypeOf(RDMAPort{})
	for _, group := range []string{"counters", "counters_per_second"} {
		if counter, is := strings.CutPrefix(rest, group+"."); is && counter != "" {
			place := slices.Index(tags(kind), group)
			m.field, m.counter, m.perSecond = kind.Field(place).Index, counter, group == "counters_per_second"
			return m, nil
		}
	}
	if m.field, found = fieldByTag(kind, rest); !found {
		return m, fmt.Errorf("metric %q: \"rdma\" has no number %q; it has %s, and those of counters and counters_per_second", m.name, rest,
			strings.Join(numbers(kind), ", "))
	}
	return m, nil
}

// cutPort cuts a name behind the port: device names may hold dots, ports are numbers.
func cutPort(name string) (device string, port int64, rest string, found bool) {
	for at := 0; ; {
		dot := strings.IndexByte(name[at:], '.')
		if dot < 0 {
			return "", 0, "", false
		}
		text, rest, more := strings.Cut(name[at+dot+1:], ".")
		if number, err := strconv.ParseUint(text, 10, 31); more && at+dot > 0 && err == nil {
			return name[:at+dot], int64(number), rest, true
		}
		at += dot + 1
	}
}

// lastName is the name behind the last dot: that of a field, but for counters of RDMA ports.
func (m Metric) lastName() string { return m.name[strings.LastIndexByte(m.name, '.')+1:] }

// IsCounter tells whether the metric only grows, so that its change says more than its value.
func (m Metric) IsCounter() bool {
	if m.counter != "" {
		return !m.perSecond
	}
	return strings.HasSuffix(m.lastName(), "_total") || m.lastName() == "resets"
}

// GoesOn tells whether a counter in a sample of the loop may be compared with that in the one before. It may not where it was reset, or is that
// of something new: then there is no rate either. (The kernel's protocol counters never go back.)
func (m Metric) GoesOn(s *Sample) bool {
	section, _, _ := strings.Cut(m.name, ".")
	switch {
	case m.interfaceName != "":
		i := slices.IndexFunc(s.Interfaces, func(i *Interface) bool { return i.Name == m.interfaceName })
		return i >= 0 && s.Interfaces[i].ReceiveBytesPerSecond != nil
	case section == "totals":
		return s.Totals != nil && s.Totals.ReceiveBytesPerSecond != nil
	case m.counter != "":
		if kept := s.keptPort(m.device, m.port); kept != nil {
			_, known := kept.counter(m.counter, true)
			return known
		}
		return true
	default:
		return true
	}
}

// IsRatio tells whether the metric is a share of one.
func (m Metric) IsRatio() bool { return m.counter == "" && strings.HasSuffix(m.lastName(), "_ratio") }

// Reason says why a sample does not have the metric.
func (m Metric) Reason(s *Sample) string {
	section, _, _ := strings.Cut(m.name, ".")
	for _, key := range []string{section + "." + m.lastName(), section} {
		if reason, known := s.Unavailable[key]; known {
			return reason
		}
	}
	if reason, known := s.Unavailable["window_seconds"]; known && (strings.HasSuffix(m.lastName(), "_per_second") || m.IsRatio()) {
		return reason
	}
	return "the newest sample does not have it"
}

// Room is memory that reading a metric needs, to be used again.
type Room struct {
	probe  Probe
	peer   Peer
	port   RDMAPort
	counts [2]uint64 // what the port points to
	reals  [3]float64
}

// Value is the number in a sample; ok is false where it was not measured.
func (m Metric) Value(s *Sample) (value float64, ok bool) { return m.ValueIn(s, nil) }

// ValueIn is Value without taking memory, where it is given room. One call at a time may use it.
func (m Metric) ValueIn(s *Sample, room *Room) (value float64, ok bool) {
	if room == nil && (m.target != "" || m.address != "" || m.device != "") {
		room = new(Room)
	}
	v := reflect.ValueOf(s).Elem().Field(m.section)
	switch {
	case m.class != "":
		return m.countFindings(s)
	case m.target != "":
		p := s.probeOf(m.target, &room.probe)
		if p == nil {
			return 0, false
		}
		v = reflect.ValueOf(p)
	case m.address != "":
		p := s.peerOf(m.address, &room.peer)
		if p == nil {
			return 0, false
		}
		v = reflect.ValueOf(p)
	case m.interfaceName != "":
		i := slices.IndexFunc(s.Interfaces, func(i *Interface) bool { return i.Name == m.interfaceName })
		if i < 0 {
			return 0, false
		}
		v = reflect.ValueOf(s.Interfaces[i])
	case m.device != "":
		if kept := s.keptPort(m.device, m.port); kept != nil {
			if m.counter != "" {
				return kept.counter(m.counter, m.perSecond)
			}
			v = reflect.ValueOf(kept.numbersIn(room))
			break
		}
		i := slices.IndexFunc(s.RDMA, func(p RDMAPort) bool { return p.Device == m.device && p.Port == m.port })
		if i < 0 {
			return 0, false
		}
		v = reflect.ValueOf(&s.RDMA[i])
	case m.ofGPU:
		i := slices.IndexFunc(s.NVLink, func(n NVLink) bool { return n.GPU == m.gpu })
		if i < 0 {
			return 0, false
		}
		v = reflect.ValueOf(&s.NVLink[i])
	}
	if m.phase != "" {
		i := slices.IndexFunc(s.Phases, func(p Phase) bool { return p.Name == m.phase })
		if i < 0 {
			return 0, false
		}
		v = reflect.ValueOf(&s.Phases[i])
	}
	if m.field != nil {
		if v.IsNil() {
			return 0, false
		}
		v = v.Elem().FieldByIndex(m.field)
	}
	if m.counter != "" {
		if v = v.MapIndex(reflect.ValueOf(m.counter)); !v.IsValid() {
			return 0, false
		}
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return 0, false
		}
		v = v.Elem()
	}
	switch {
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanInt():
		return float64(v.Int()), true
	default:
		return v.Float(), true
	}
}

// countFindings is how many findings of the metric's class a sample has.
func (m Metric) countFindings(s *Sample) (value float64, ok bool) {
	for i := range s.Findings {
		if s.Findings[i].Class == m.class {
			value++
		}
	}
	return value, s.Findings != nil
}

func tags(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("json")
	}
	return names
}

func isNumber(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Uint64, reflect.Int64, reflect.Float64:
		return true
	}
	return false
}

func fieldByTag(t reflect.Type, tag string) ([]int, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if f.Tag.Get("json") == tag && isNumber(f.Type) {
			return f.Index, true
		}
	}
	return nil, false
}

func numbers(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		if tag := f.Tag.Get("json"); tag != "" && isNumber(f.Type) {
			names = append(names, tag)
		}
	}
	return names
}
