package sample

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Metric reads one number out of samples by the name it has in the document: "totals.receive_bytes_per_second",
// "tcp.retransmit_ratio", "interfaces.eth0.mtu", "probes.10.0.0.2.rtt_p50_seconds", "peers.10.0.0.2.rtt_seconds",
// "rdma.mlx5_0.1.receive_bytes_per_second", "rdma.mlx5_0.1.counters_per_second.out_of_sequence", "nvlink.0.receive_bytes_per_second",
// "phases.weight_sync.seconds_total", "window_seconds".
type Metric struct {
	name          string
	section       int    // field of Sample
	interfaceName string // set for the section interfaces
	target        string // set for the section probes
	address       string // set for the section peers
	port          string // set for the section rdma: mlx5_0.1
	counter       string // set for a counter of a port
	gpu           string // set for the section nvlink
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
	switch {
	case section == "interfaces":
		dot := strings.LastIndexByte(rest, '.')
		if dot < 1 {
			return m, fmt.Errorf("metric %q: interfaces are named as in \"interfaces.eth0.receive_bytes_per_second\"", name)
		}
		m.interfaceName, rest = rest[:dot], rest[dot+1:]
		kind = reflect.TypeOf(Interface{})
	case section == "probes":
		dot := strings.LastIndexByte(rest, '.')
		if dot < 1 {
			return m, fmt.Errorf("metric %q: targets are named as in \"probes.10.0.0.2.rtt_p50_seconds\"", name)
		}
		m.target, rest = rest[:dot], rest[dot+1:]
		kind = reflect.TypeOf(Probe{})
	case section == "peers":
		dot := strings.LastIndexByte(rest, '.')
		if dot < 1 {
			return m, fmt.Errorf("metric %q: peers are named as in \"peers.10.0.0.2.rtt_seconds\"", name)
		}
		m.address, rest = rest[:dot], rest[dot+1:]
		kind = reflect.TypeOf(Peer{})
	case section == "rdma":
		return m.ofRDMA(rest)
	case section == "nvlink":
		dot := strings.LastIndexByte(rest, '.')
		if dot < 1 {
			return m, fmt.Errorf("metric %q: GPUs are named as in \"nvlink.0.receive_bytes_per_second\"", name)
		}
		m.gpu, rest = rest[:dot], rest[dot+1:]
		kind = reflect.TypeOf(NVLink{})
	case section == "phases":
		dot := strings.LastIndexByte(rest, '.')
		if dot < 1 {
			return m, fmt.Errorf("metric %q: phases are named as in \"phases.weight_sync.seconds_total\"", name)
		}
		m.phase, rest = rest[:dot], rest[dot+1:]
		kind = reflect.TypeOf(Phase{})
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

// ofRDMA finds a number of an RDMA port, or one of its counters.
func (m Metric) ofRDMA(rest string) (Metric, error) {
	port, rest, found := cutPort(rest)
	if !found {
		return m, fmt.Errorf("metric %q: ports are named as in \"rdma.mlx5_0.1.receive_bytes_per_second\"", m.name)
	}
	m.port = port
	kind := reflect.TypeOf(RDMAPort{})
	for _, group := range []string{"counters", "counters_per_second"} {
		if counter, is := strings.CutPrefix(rest, group+"."); is && counter != "" {
			place := slices.Index(tags(kind), group)
			m.field, m.counter = kind.Field(place).Index, counter
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
func cutPort(name string) (port, rest string, found bool) {
	for at := 0; ; {
		dot := strings.IndexByte(name[at:], '.')
		if dot < 0 {
			return "", "", false
		}
		number, rest, more := strings.Cut(name[at+dot+1:], ".")
		if more && at+dot > 0 && number != "" && strings.Trim(number, "0123456789") == "" {
			return name[:at+dot+1+len(number)], rest, true
		}
		at += dot + 1
	}
}

// Value is the number in a sample; ok is false where it was not measured.
func (m Metric) Value(s *Sample) (value float64, ok bool) {
	v := reflect.ValueOf(s).Elem().Field(m.section)
	if m.target != "" {
		p := s.probeOf(m.target)
		if p == nil {
			return 0, false
		}
		v = reflect.ValueOf(p)
	}
	if m.address != "" {
		p := s.peerOf(m.address)
		if p == nil {
			return 0, false
		}
		v = reflect.ValueOf(p)
	}
	if m.interfaceName != "" {
		i := slices.IndexFunc(s.Interfaces, func(i *Interface) bool { return i.Name == m.interfaceName })
		if i < 0 {
			return 0, false
		}
		v = reflect.ValueOf(s.Interfaces[i])
	}
	if m.port != "" {
		p := s.rdmaOf(m.port)
		if p == nil {
			return 0, false
		}
		v = reflect.ValueOf(p)
	}
	if m.gpu != "" {
		i := slices.IndexFunc(s.NVLink, func(n NVLink) bool { return m.gpu == fmt.Sprint(n.GPU) })
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
