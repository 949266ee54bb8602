package sample

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Metric reads one number out of samples by the name it has in the document: "totals.receive_bytes_per_second",
// "tcp.retransmit_ratio", "interfaces.eth0.mtu", "probes.10.0.0.2.rtt_p50_seconds", "peers.10.0.0.2.rtt_seconds", "window_seconds".
type Metric struct {
	name          string
	section       int    // field of Sample
	interfaceName string // set for the section interfaces
	target        string // set for the section probes
	address       string // set for the section peers
	field         []int  // in the section, nil for a number of Sample itself
}

// FindMetric looks a name up. Names of interfaces and targets may hold dots themselves.
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
	if m.field != nil {
		if v.IsNil() {
			return 0, false
		}
		v = v.Elem().FieldByIndex(m.field)
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
