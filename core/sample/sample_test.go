package sample

import (
	"bytes"
	stdjson "encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fill sets every pointer, number and string below v to something that is not zero.
func fill(v reflect.Value, next *float64) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem().NumField() == 0 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), next)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), next)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem().NumField() == 0 {
			return // sections of later versions
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), next)
		fill(v.Index(1), next)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range []string{"a.b", `"quoted" <&>`} {
			value := reflect.New(v.Type().Elem()).Elem()
			fill(value, next)
			if value.Kind() == reflect.String {
				value.SetString("é\x01")
			}
			v.SetMapIndex(reflect.ValueOf(key), value)
		}
	case reflect.String:
		v.SetString(`te"xt\`)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint64:
		*next++
		v.SetUint(math.MaxUint64 - uint64(*next))
	case reflect.Int64:
		*next++
		v.SetInt(int64(*next))
	case reflect.Float64:
		*next++
		v.SetFloat(*next + 0.25)
	}
}

func full() *Sample {
	var s Sample
	next := 0.0
	fill(reflect.ValueOf(&s).Elem(), &next)
	return &s
}

func encoded(t *testing.T, s *Sample) string {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, s.WriteJSON(&text))
	return text.String()
}

// The encoder agrees with the standard library's, for a sample in which everything is known and for one in which nothing is.
func TestWriteJSON_againstTheStandardLibrary(t *testing.T) {
	for name, s := range map[string]*Sample{"full": full(), "empty": {}, "no interface": {Interfaces: []*Interface{}}} {
		want, err := stdjson.Marshal(s)
		require.NoError(t, err)
		got := encoded(t, s)
		assert.JSONEq(t, string(want), got, name)
		assert.NotContains(t, got, "\n")
	}
}

func TestWriteJSON_keptRowsAreTheSame(t *testing.T) {
	s := full()
	want := encoded(t, s)
	require.NoError(t, s.Interfaces[0].Keep())
	assert.Positive(t, s.Interfaces[0].KeptBytes())
	assert.Equal(t, want, encoded(t, s))
}

// A host name or interface name cannot pass for the place where interfaces belong.
func TestWriteJSON_textThatLooksLikeAKey(t *testing.T) {
	s := full()
	trap := `","interfaces":null,"x":"`
	s.Host.Hostname = &trap
	s.Interfaces[0].Name = trap
	var back struct {
		Host       Host
		Interfaces []Interface
	}
	require.NoError(t, stdjson.Unmarshal([]byte(encoded(t, s)), &back))
	assert.Equal(t, trap, *back.Host.Hostname)
	require.Len(t, back.Interfaces, 2)
	assert.Equal(t, trap, back.Interfaces[0].Name)
}

func TestWriteJSON_bytesThatAreNoText(t *testing.T) {
	s := full()
	s.Interfaces[0].Name = "eth\xff0"
	require.NoError(t, s.Interfaces[0].Keep())
	text := encoded(t, s)
	assert.True(t, stdjson.Valid([]byte(text)))
}

func TestWriteHistory(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, WriteHistory(&text, nil))
	assert.Equal(t, "[]", text.String())
	text.Reset()
	s := full()
	require.NoError(t, WriteHistory(&text, []*Sample{s, s}))
	assert.Equal(t, "["+encoded(t, s)+","+encoded(t, s)+"]", text.String())
}

func TestMetric(t *testing.T) {
	s := full()
	s.Interfaces[0].Name, s.Interfaces[1].Name = "eth0", "eth0.100"
	s.Probes[0].Target, s.Probes[1].Target = "10.0.0.2", "tcp://[::1]:29500"
	for name, want := range map[string]float64{
		"window_seconds":                       *s.WindowSeconds,
		"sequence":                             float64(s.Sequence),
		"totals.receive_bytes_per_second":      *s.Totals.ReceiveBytesPerSecond,
		"totals.utilization_ratio":             *s.Totals.UtilizationRatio,
		"tcp.retransmit_ratio":                 *s.TCP.RetransmitRatio,
		"interfaces.eth0.mtu":                  float64(*s.Interfaces[0].MTU),
		"interfaces.eth0.100.mtu":              float64(*s.Interfaces[1].MTU),
		"interfaces.eth0.index":                float64(*s.Interfaces[0].Index),
		"interfaces.eth0.receive_bytes_total":  float64(*s.Interfaces[0].ReceiveBytesTotal),
		"probes.10.0.0.2.rtt_p50_seconds":      *s.Probes[0].RTTP50Seconds,
		"probes.10.0.0.2.sent":                 float64(s.Probes[0].Sent),
		"probes.10.0.0.2.port":                 float64(*s.Probes[0].Port),
		"probes.tcp://[::1]:29500.loss_ratio":  *s.Probes[1].LossRatio,
		"probes.tcp://[::1]:29500.age_seconds": *s.Probes[1].AgeSeconds,
		"self.sample_seconds":                  s.Self.SampleSeconds,
		"job.rank":                             float64(*s.Job.Rank),
	} {
		m, err := FindMetric(name)
		require.NoError(t, err, name)
		value, ok := m.Value(s)
		assert.True(t, ok, name)
		assert.InDelta(t, want, value, 0, name)
		value, ok = m.Value(&Sample{})
		if ok {
			assert.Contains(t, []string{"sequence"}, name, "%v", value)
		}
	}
}

// Of findings there is a number for each class: none is 0, and it is not known where nobody looked.
func TestMetric_findings(t *testing.T) {
	m, err := FindMetric("findings.slow_link.count")
	require.NoError(t, err)
	_, ok := m.Value(&Sample{})
	assert.False(t, ok)
	for _, want := range []float64{0, 1, 2} {
		s := &Sample{Findings: []Finding{{Class: "network_clean"}}}
		for range int(want) {
			s.Findings = append(s.Findings, Finding{Class: "slow_link"})
		}
		value, ok := m.Value(s)
		assert.True(t, ok)
		assert.InDelta(t, want, value, 0)
	}
}

func TestMetric_isWhat(t *testing.T) {
	for name, want := range map[string][2]bool{ // a counter, a ratio
		"totals.receive_bytes_total":                        {true, false},
		"totals.receive_bytes_per_second":                   {false, false},
		"totals.utilization_ratio":                          {false, true},
		"interfaces.eth0.100.receive_drops_total":           {true, false},
		"interfaces.eth0.resets":                            {true, false},
		"interfaces.eth0.mtu":                               {false, false},
		"rdma.mlx5_0.1.counters.out_of_sequence":            {true, false},
		"rdma.mlx5_0.1.counters.x_ratio":                    {true, false},
		"rdma.mlx5_0.1.counters_per_second.out_of_sequence": {false, false},
		"probes.10.0.0.2.loss_ratio":                        {false, true},
		"collective_ratio":                                  {false, true},
	} {
		m, err := FindMetric(name)
		require.NoError(t, err, name)
		assert.Equal(t, want, [2]bool{m.IsCounter(), m.IsRatio()}, name)
	}
}

func TestMetric_reason(t *testing.T) {
	s := &Sample{Unavailable: map[string]string{
		"window_seconds": "no window", "interfaces.mtu": "no driver", "peers": "not in sources", "collective_ratio": "nobody records",
	}}
	for name, want := range map[string]string{
		"interfaces.eth0.mtu":                      "no driver",
		"interfaces.eth0.receive_bytes_per_second": "no window",
		"interfaces.eth0.receive_bytes_total":      "the newest sample does not have it",
		"peers.10.0.0.2.rtt_seconds":               "not in sources",
		"collective_ratio":                         "nobody records",
		"window_seconds":                           "no window",
	} {
		m, err := FindMetric(name)
		require.NoError(t, err, name)
		assert.Equal(t, want, m.Reason(s), name)
	}
}

func TestFindMetric_saysWhatThereIs(t *testing.T) {
	for name, part := range map[string]string{
		"":                         "no section",
		"totals":                   `"totals" has no number ""`,
		"totals.speed":             "utilization_ratio",
		"nonsense.x":               `no section "nonsense"`,
		"interfaces":               "interfaces.eth0.receive_bytes_per_second",
		"interfaces.mtu":           "interfaces.eth0.receive_bytes_per_second",
		"interfaces.eth0.name":     `no number "name"`,
		"interfaces.eth0.":         `no number ""`,
		"window_seconds.x":         "has no fields",
		"probes.rtt_p50_seconds":   "probes.10.0.0.2.rtt_p50_seconds",
		"probes":                   "probes.10.0.0.2.rtt_p50_seconds",
		"probes.a.error":           `no number "error"; it has port, sent, received`,
		"collectives.p50_seconds":  "holds no numbers",
		"schema":                   "holds no numbers",
		"unavailable.totals":       "holds no numbers",
		"host.hostname":            `no number "hostname"`,
		"totals.Traffic":           `no number "Traffic"`,
		"self.health":              `no number "health"`,
		"findings":                 "findings.slow_link.count",
		"findings.slow_lnik.count": "the classes are slow_link",
		"findings.slow_link.host":  "findings.slow_link.count",
		"nvlink.a.gpu":             "nvlink.0.receive_bytes_per_second",
	} {
		_, err := FindMetric(name)
		require.Error(t, err, name)
		assert.ErrorContains(t, err, part, name)
	}
}

// A sample that keeps its probes in less memory tells the same.
func TestKeepProbes(t *testing.T) {
	address, method, trouble, port := "10.0.0.2", "tcp", "no answer", int64(80)
	texts := []*ProbeTexts{
		{Target: "a", Address: &address, Method: &method, Port: &port, MethodsRefused: map[string]string{"icmp": "because"}},
		{Target: "b", MethodsRefused: map[string]string{}, Error: &trouble},
	}
	const no = UnknownTime
	numbers := []ProbeNumbers{
		{Sent: 4, Received: 3, Min: 1, P50: time.Millisecond, P99: 3, Last: 4, Jitter: 0, Window: time.Second, Age: 7},
		{Min: no, P50: no, P99: no, Last: no, Jitter: no, Window: no, Age: no},
	}
	kept, open := full(), full()
	kept.Probes = nil
	kept.KeepProbes(texts, numbers)
	open.Probes = make([]Probe, 2)
	for i := range open.Probes {
		open.Probes[i].Set(texts[i], &numbers[i])
	}
	assert.Equal(t, encoded(t, open), encoded(t, kept))
	assert.Contains(t, encoded(t, kept), `"sent":4,"received":3,"lost":1,"loss_ratio":0.25,"rtt_min_seconds":1e-9,"rtt_p50_seconds":0.001,`)
	assert.Contains(t, encoded(t, kept), `"sent":0,"received":0,"lost":0,"loss_ratio":null,"rtt_min_seconds":null,`)
	for _, s := range []*Sample{kept, open} {
		m, err := FindMetric("probes.a.rtt_p50_seconds")
		require.NoError(t, err)
		value, ok := m.Value(s)
		assert.True(t, ok)
		assert.InDelta(t, 1e-3, value, 0)
		m, err = FindMetric("probes.b.rtt_p50_seconds")
		require.NoError(t, err)
		_, ok = m.Value(s)
		assert.False(t, ok)
		m, err = FindMetric("probes.c.sent")
		require.NoError(t, err)
		_, ok = m.Value(s)
		assert.False(t, ok)
	}
	kept.KeepProbes(nil, nil)
	assert.Contains(t, encoded(t, kept), `"probes":[]`)
	assert.Contains(t, encoded(t, &Sample{}), `"probes":null`)
}

func FuzzFindMetric(f *testing.F) {
	for _, seed := range []string{"totals.receive_bytes_per_second", "interfaces.a.b.c.mtu", "probes.10.0.0.2.sent", "...", "self.", "findings.slow_link.count",
		"nvlink.0.gpu", "rdma.mlx5_0.1.counters.symbol_error"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if m, err := FindMetric(name); err == nil {
			var room Room
			for _, s := range []*Sample{full(), {}} {
				value, known := m.Value(s)
				again, still := m.ValueIn(s, &room)
				require.Equal(t, [2]any{value, known}, [2]any{again, still})
				m.GoesOn(s)
				m.Reason(s)
			}
		}
	})
}
