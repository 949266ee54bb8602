package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe"
	"netmon/core/probe/dns"
	"netmon/core/reach"
	"netmon/core/sample"
)

// fakeNetwork answers echo requests to 10.0.0.0/24 after 1 ms at once, and to nobody else.
type fakeNetwork struct {
	mu   sync.Mutex
	sent []netip.AddrPort
	own  []netip.Addr
	came []probe.Result // the engine's goroutine's own
}

func (f *fakeNetwork) tools() *reach.Tools {
	return &reach.Tools{
		Prober: func(method probe.Method) (probe.Prober, error) {
			if method == probe.ICMP {
				return f, nil
			}
			return nil, fmt.Errorf("%s: %w", method, errors.ErrUnsupported)
		},
		Own:     func() ([]netip.Addr, error) { return f.own, nil },
		Gateway: func() (netip.Addr, error) { return netip.MustParseAddr("10.0.0.254"), nil },
		Names:   func() reach.Names { return &noNames{} },
	}
}

// noNames knows no name.
type noNames struct{ asked []dns.Answer }

func (n *noNames) Lookup(_ string, token uint64, _ time.Duration) {
	n.asked = append(n.asked, dns.Answer{Token: token, Err: errors.New("name does not resolve: NXDOMAIN")})
}

func (n *noNames) Receive(yield func(dns.Answer)) int {
	for _, a := range n.asked {
		yield(a)
	}
	n.asked = nil
	return 0
}

func (n *noNames) Descriptors(set []probe.Descriptor) []probe.Descriptor { return set }
func (n *noNames) Due() (time.Duration, bool)                            { return 0, len(n.asked) > 0 }
func (n *noNames) Forget(uint64)                                         {}
func (n *noNames) Close()                                                {}

func (f *fakeNetwork) Send(to netip.AddrPort, token uint64) (int, error) {
	f.mu.Lock()
	f.sent = append(f.sent, to)
	f.mu.Unlock()
	switch {
	case netip.MustParsePrefix("10.0.0.0/24").Contains(to.Addr()):
		f.came = append(f.came, probe.Result{Token: token, Method: probe.ICMP, RTT: time.Millisecond})
	case netip.MustParsePrefix("10.0.1.0/24").Contains(to.Addr()): // silence
	default:
		return 0, fmt.Errorf("no route to host: %w", syscall.ENETUNREACH)
	}
	return 84, nil
}

func (f *fakeNetwork) Descriptors(set []probe.Descriptor) []probe.Descriptor { return set }

func (f *fakeNetwork) Receive(yield func(probe.Result)) {
	for _, r := range f.came {
		yield(r)
	}
	f.came = nil
}

func (f *fakeNetwork) Forget(uint64) {}
func (f *fakeNetwork) Close()        {}

func (f *fakeNetwork) addresses() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]bool)
	for _, to := range f.sent {
		all[to.Addr().String()] = true
	}
	return all
}

// probing is a monitor in a fake network, on the system's clock, whose loop the test turns.
type probing struct {
	*Monitor
	t       *testing.T
	network *fakeNetwork

	mu        sync.Mutex
	published Snapshot
}

func newProbing(t *testing.T, config string, network *fakeNetwork) *probing {
	t.Helper()
	parsed, err := ParseConfig([]byte(config))
	require.NoError(t, err)
	if parsed.Variables == nil {
		parsed.Variables = map[string]string{}
	}
	if network == nil {
		network = &fakeNetwork{}
	}
	p := &probing{t: t, network: network}
	fs := kernelfs.Dir("../testdata/prometheus-docker-host")
	var links LinkSource
	if parsed.Sources&Interfaces != 0 {
		links = &fakeLinks{}
	}
	p.Monitor, err = New(parsed, Options{
		Version: "0.0.0-test", FS: &fs, Clock: clock.System(), Links: links, NoLoop: true, Tools: network.tools(),
		Publish: func(s *Snapshot) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.published = *s
		},
	})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func (p *probing) sample() *sample.Sample {
	p.t.Helper()
	p.Tick()
	return p.newest()
}

// newest is the newest sample of the loop, with its probes.
func (m *Monitor) newest() *sample.Sample {
	all := m.history.since(0)
	s := *all[len(all)-1]
	s.Probes = s.AllProbes()
	return &s
}

// until takes samples until one is as wanted.
func (p *probing) until(wanted func(*sample.Sample) bool) *sample.Sample {
	p.t.Helper()
	var s *sample.Sample
	require.Eventually(p.t, func() bool {
		s = p.sample()
		return wanted(s)
	}, 10*time.Second, 5*time.Millisecond)
	return s
}

func (p *probing) snapshot() Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.published
}

func TestProbes_nobodyToProbe(t *testing.T) {
	p := newProbing(t, "{}", nil)
	s := p.sample()
	assert.Equal(t, []sample.Probe{}, s.Probes)
	assert.NotContains(t, s.Unavailable, "probes")
	assert.True(t, p.engine.Ended(), "no goroutine")
	assert.Equal(t, uint64(UnknownCount), p.snapshot().RTTP50Nanoseconds)
	assert.True(t, p.snapshot().LossRatio != p.snapshot().LossRatio)
}

func TestProbes_inSamples(t *testing.T) {
	p := newProbing(t, `{"targets": ["10.0.0.2", "icmp://10.0.1.2", "icmp://10.9.9.9", "nobody", "udp://10.0.0.2"],
		"probe_interval_seconds": 0.02, "probe_timeout_seconds": 0.05}`, nil)
	require.Len(t, p.newest().Probes, 5, "who is probed stands in the first sample")
	s := p.until(func(s *sample.Sample) bool {
		return s.Probes[0].Received > 3 && s.Probes[1].Lost > 3 && s.Probes[2].Lost > 3 && s.Probes[3].Error != nil && s.Probes[4].Error != nil
	})

	good := s.Probes[0]
	assert.Equal(t, "10.0.0.2", good.Target)
	assert.Equal(t, "10.0.0.2", *good.Address)
	assert.Equal(t, "icmp", *good.Method)
	assert.Nil(t, good.Port)
	assert.Equal(t, map[string]string{}, good.MethodsRefused)
	assert.InDelta(t, 1e-3, *good.RTTP50Seconds, 1e-12)
	assert.InDelta(t, 0, *good.JitterSeconds, 1e-12)
	assert.Zero(t, *good.LossRatio)
	assert.Nil(t, good.Error)
	assert.GreaterOrEqual(t, *good.AgeSeconds, 0.0)
	assert.Less(t, *good.AgeSeconds, 10.0)
	assert.Greater(t, *good.WindowSeconds, 0.05)

	silent := s.Probes[1]
	assert.Equal(t, "no answer within 0.05 s", *silent.Error)
	assert.InDelta(t, 1, *silent.LossRatio, 0)
	assert.Nil(t, silent.RTTP50Seconds)
	assert.Contains(t, *s.Probes[2].Error, "no route to host")
	assert.Contains(t, *s.Probes[3].Error, "NXDOMAIN")
	assert.Nil(t, s.Probes[3].Address)
	assert.Equal(t, int64(29541), *s.Probes[4].Port)
	assert.Contains(t, *s.Probes[4].Error, "unsupported")

	assert.Contains(t, s.Unavailable["probes.rtt_p50_seconds"], "no answer within 0.05 s: icmp://10.0.1.2")
	assert.Contains(t, s.Unavailable["probes.rtt_p50_seconds"], "NXDOMAIN: nobody")
	assert.Contains(t, s.Unavailable["probes.address"], "NXDOMAIN: nobody")
	assert.NotContains(t, s.Unavailable["probes.loss_ratio"], "10.0.1.2")
	assert.NotZero(t, s.Self.ProbeBytesTotal)
	assert.Equal(t, "ok", s.Self.Health, "what a target does is no problem of the monitor")
	assert.InDelta(t, 1e6, float64(p.snapshot().RTTP50Nanoseconds), 1)
	assert.Greater(t, p.snapshot().LossRatio, 0.5)
	assert.Less(t, p.snapshot().LossRatio, 0.9)

	var health, stats bytes.Buffer
	require.NoError(t, p.Query([]byte(`{"view": "health"}`), &health))
	assert.NotContains(t, health.String(), `"probe_bytes_total":0,`)
	require.NoError(t, p.Query([]byte(`{"view": "stats", "metric": "probes.10.0.0.2.rtt_p50_seconds"}`), &stats))
	assert.Contains(t, stats.String(), `"p50":0.001`)

	var onDemand bytes.Buffer
	require.NoError(t, p.Sample(&onDemand))
	var document struct {
		Probes []map[string]any
	}
	require.NoError(t, json.Unmarshal(onDemand.Bytes(), &document))
	require.Len(t, document.Probes, 5)
	for _, field := range []string{"target", "peer", "address", "port", "method", "methods_refused", "sent", "received", "lost", "loss_ratio",
		"rtt_min_seconds", "rtt_p50_seconds", "rtt_p99_seconds", "rtt_last_seconds", "jitter_seconds", "window_seconds", "age_seconds", "error"} {
		assert.Contains(t, document.Probes[3], field)
	}
	assert.Len(t, document.Probes[0], 18)
}

func TestProbes_namesAtMostEightTargets(t *testing.T) {
	var targets []string
	for i := range 20 {
		targets = append(targets, fmt.Sprintf("%q", fmt.Sprintf("host%d", i)))
	}
	p := newProbing(t, `{"targets": [`+strings.Join(targets, ",")+`]}`, nil)
	s := p.until(func(s *sample.Sample) bool { return s.Probes[0].Error != nil })
	assert.Equal(t, "name does not resolve: NXDOMAIN: host0, host1, host2, host3, host4, host5, host6, host7 and 12 more",
		s.Unavailable["probes.rtt_min_seconds"])
}

func TestProbes_sharedWhileNothingChanges(t *testing.T) {
	p := newProbing(t, `{"targets": ["10.0.0.2"], "probe_interval_seconds": 3600}`, nil)
	one := p.until(func(s *sample.Sample) bool { return s.Probes[0].Received == 1 })
	_, before, _, _ := p.history.extent()
	two := p.sample()
	_, after, _, _ := p.history.extent()
	assert.Greater(t, *two.Probes[0].AgeSeconds, *one.Probes[0].AgeSeconds)
	assert.Same(t, one.Probes[0].Address, two.Probes[0].Address)
	assert.Less(t, after-before, 2*documentBytes, "only numbers are new")
}

// What probes take in the history is counted: 256 targets that change all the time fill it.
func TestProbes_countInTheHistory(t *testing.T) {
	results := func(n int) *reach.Results {
		all := &reach.Results{}
		for i := range n {
			all.Targets = append(all.Targets, &reach.Result{Target: fmt.Sprint(i), Sent: 2, Received: 2, Method: probe.ICMP})
		}
		return all
	}
	var table probeTable
	d := &document{}
	table.fill(d, &reach.Results{Targets: []*reach.Result{{Target: "a"}, {Target: "b"}}}, time.Hour)
	assert.Contains(t, d.lacking, missing{"probes.age_seconds", "no probe has ended yet: a, b"})
	assert.Contains(t, d.lacking, missing{"probes.address", "not looked up yet: a, b"})
	bytes := table.fill(&document{}, results(256), time.Hour)
	assert.InDelta(t, 256*(sample.KeptProbeBytes+80), bytes, 256*40)
	for _, same := range []*reach.Results{table.of, results(256)} {
		assert.Equal(t, 256*sample.KeptProbeBytes, table.fill(&document{}, same, time.Hour), "texts that did not change are counted once")
	}
	assert.Zero(t, table.fill(&document{passing: true}, results(256), time.Hour), "on demand nothing is kept")
	assert.LessOrEqual(t, sample.KeptProbeBytes, 64)
}

func TestProbes_notInSources(t *testing.T) {
	network := &fakeNetwork{}
	p := newProbing(t, `{"targets": ["10.0.0.2"], "sources": ["tcp"], "job": {"master_address": "10.0.0.3"}}`, network)
	s := p.sample()
	assert.Nil(t, s.Probes)
	assert.Equal(t, "not in sources", s.Unavailable["probes"])
	assert.True(t, p.engine.Ended())
	assert.Empty(t, network.addresses())
	var answer bytes.Buffer
	require.NoError(t, probeBy(p, []byte(`{"target": "10.0.0.2"}`), &answer), "what is asked for by name is done")
	assert.Contains(t, answer.String(), `"received":1`)
}

func TestProbes_ofTheJob(t *testing.T) {
	network := &fakeNetwork{own: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	p := newProbing(t, `{"job": {"master_address": "10.0.0.1", "master_port": 29500}, "probe_interval_seconds": 0.02}`, network)
	time.Sleep(50 * time.Millisecond)
	assert.Empty(t, p.sample().Probes, "the master is this host")
	assert.Empty(t, network.addresses())
	set := func(text string) {
		t.Helper()
		identity, variables, err := ParseJob([]byte(text))
		require.NoError(t, err)
		require.NoError(t, p.SetJob(identity, variables))
	}
	targets := func(want ...string) {
		t.Helper()
		p.until(func(s *sample.Sample) bool {
			var got []string
			for _, r := range s.Probes {
				got = append(got, r.Target)
			}
			return strings.Join(got, " ") == strings.Join(want, " ")
		})
	}
	set(`{"peers": ["10.0.0.1", "10.0.0.2", {"rank": 2, "address": "10.0.0.3"}, "10.0.0.2"]}`)
	targets("10.0.0.2", "10.0.0.3")
	set(`{"master_address": "10.0.0.9"}`)
	targets("10.0.0.9", "10.0.0.2", "10.0.0.3")
	p.until(func(s *sample.Sample) bool { return s.Probes[0].Received > 0 && s.Probes[2].Received > 0 })
	set(`{"peers": [], "environment": {"MASTER_ADDR": "10.0.0.8"}}`)
	targets("10.0.0.9")
	assert.NotContains(t, network.addresses(), "10.0.0.1")

	set(`{"master_address": "http://10.0.0.9"}`)
	targets()
	p.until(func(s *sample.Sample) bool { return strings.Contains(s.Self.Health, `"http://10.0.0.9"`) })
	blind := newProbing(t, `{"sources": ["probes"], "job": {"master_address": "a b"}}`, nil)
	assert.Contains(t, blind.sample().Self.Health, `the job's master cannot be probed: target "a b"`)
}

func TestProbes_aMasterOfThisHostsNameIsNotLookedUp(t *testing.T) {
	hostname, err := os.Hostname()
	require.NoError(t, err)
	for _, name := range []string{hostname, strings.ToUpper(hostname) + "."} {
		job := fmt.Sprintf(`{"job": {"master_address": %q, "peers": [%q]}}`, name, name)
		p := newProbing(t, job, &fakeNetwork{own: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
		time.Sleep(50 * time.Millisecond)
		assert.Empty(t, p.sample().Probes, "nor is a name server asked, and nobody probed")
		assert.True(t, p.engine.Ended())
	}
	named := newProbing(t, fmt.Sprintf(`{"targets": [%q], "job": {"master_address": %q}}`, hostname, hostname), &fakeNetwork{})
	assert.Len(t, named.sample().Probes, 1, "who names it has it probed")
}

// prober is what answers requests for probes.
type prober interface {
	Probe([]byte) (Pending, error)
	AwaitProbe(*Pending, time.Duration, io.Writer) (bool, error)
}

// probeBy answers a request, waiting in slices as the C half does.
func probeBy(m prober, request []byte, w io.Writer) error {
	p, err := m.Probe(request)
	for answered := false; err == nil && !answered; {
		answered, err = m.AwaitProbe(&p, 100*time.Millisecond, w)
	}
	return err
}

func TestProbes_targetsToldLater(t *testing.T) {
	network := &fakeNetwork{own: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	p := newProbing(t, `{"targets": ["10.0.0.7"], "job": {"master_address": "10.0.0.1", "peers": ["10.0.0.2"]},
		"probe_interval_seconds": 0.02}`, network)
	targets := func(want string) *sample.Sample {
		t.Helper()
		return p.until(func(s *sample.Sample) bool {
			var got []string
			for _, r := range s.Probes {
				text := r.Target
				if r.Peer {
					text += " peer"
				}
				got = append(got, text)
			}
			return strings.Join(got, ", ") == want
		})
	}
	set := func(text string) {
		t.Helper()
		identity, variables, err := ParseJob([]byte(text))
		require.NoError(t, err)
		require.NoError(t, p.SetJob(identity, variables))
	}
	targets("10.0.0.7, 10.0.0.2 peer")
	p.until(func(s *sample.Sample) bool { return s.Probes[1].Received > 2 })
	set(`{"targets": ["10.0.0.1", "10.0.0.2", "10.0.0.9"]}`)
	s := targets("10.0.0.1, 10.0.0.2 peer, 10.0.0.9")
	assert.Greater(t, s.Probes[1].Received, uint64(2), "what stays keeps its window, also when it is named besides")
	assert.Equal(t, "configuration", *s.Job.Source)
	set(`{"rank": 1, "world_size": 2}`)
	set(`{"targets": []}`)
	targets("10.0.0.2 peer")
	assert.NotNil(t, p.sample().Job.Rank)

	_, _, err := ParseJob([]byte(`{"targets": ["http://a"]}`))
	assert.ErrorContains(t, err, `job key "targets" has a wrong entry 1`)
}

func ask(t *testing.T, p *probing, request string) (answer map[string]any) {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, probeBy(p, []byte(request), &text), request)
	require.NoError(t, json.Unmarshal(text.Bytes(), &answer))
	return answer
}

func TestProbe_onDemand(t *testing.T) {
	p := newProbing(t, "{}", nil)
	answer := ask(t, p, `{"target": "10.0.0.2", "count": 3}`)
	assert.Equal(t, true, answer["done"])
	assert.EqualValues(t, 3, answer["received"])
	assert.InDelta(t, 0.001, answer["rtt_p50_seconds"], 1e-12)
	assert.Nil(t, answer["error"])
	assert.Len(t, answer, 20)

	answer = ask(t, p, `{"target": "icmp://10.0.1.2", "count": 1000, "wait_seconds": 0}`)
	assert.Equal(t, false, answer["done"])
	assert.Nil(t, answer["rtt_p50_seconds"])
	id := answer["id"].(float64)
	began := time.Now()
	answer = ask(t, p, fmt.Sprintf(`{"id": %v, "wait_seconds": 0.05}`, id))
	assert.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
	assert.Equal(t, false, answer["done"])
	answer = ask(t, p, fmt.Sprintf(`{"id": %v, "cancel": true}`, id))
	assert.Equal(t, true, answer["done"])
	err := probeBy(p, fmt.Appendf(nil, `{"id": %v}`, id), &bytes.Buffer{})
	var wrong *TextError
	require.ErrorAs(t, err, &wrong)
	assert.Equal(t, "id", wrong.Key)
	assert.Contains(t, err.Error(), "is no request")

	for range probe.MostRequestsAtATime {
		ask(t, p, `{"target": "icmp://10.0.1.2", "count": 1000, "wait_seconds": 0}`)
	}
	require.ErrorIs(t, probeBy(p, []byte(`{"target": "10.0.0.2"}`), &bytes.Buffer{}), ErrBusy)
	p.Close()
	require.ErrorIs(t, probeBy(p, []byte(`{"target": "10.0.0.2"}`), &bytes.Buffer{}), ErrClosed)
}

func TestProbe_closeEndsTheWaiting(t *testing.T) {
	p := newProbing(t, "{}", nil)
	ended := make(chan error)
	go func() { ended <- probeBy(p, []byte(`{"target": "icmp://10.0.1.2", "count": 1000}`), &bytes.Buffer{}) }()
	require.Eventually(t, func() bool { return p.engine.Bytes() > 0 }, 10*time.Second, time.Millisecond)
	p.Close()
	require.ErrorIs(t, <-ended, ErrClosed)
}

func TestParseProbeRequest(t *testing.T) {
	q, err := parseProbeRequest([]byte(`{"target": "10.0.0.2"}`))
	require.NoError(t, err)
	assert.Equal(t, probe.Auto, q.Method)
	assert.Equal(t, 1, q.Count)
	assert.Equal(t, time.Second, q.Timeout)
	assert.Equal(t, 20*time.Millisecond, q.Interval)
	assert.Greater(t, q.wait, time.Minute)
	q, err = parseProbeRequest([]byte(`{"target": "node7", "method": "udp", "count": 1000, "timeout_seconds": 60, "interval_seconds": 60,
		"wait_seconds": 0}`))
	require.NoError(t, err)
	assert.Equal(t, probe.UDP, q.Method)
	assert.Equal(t, uint16(probe.DefaultUDPPort), q.Port)
	assert.Zero(t, q.wait)
	q, err = parseProbeRequest([]byte(`{"target": "tcp://node7:80", "method": "path"}`))
	require.NoError(t, err)
	assert.True(t, q.Path)
	assert.Equal(t, 3, q.Count)
	q, err = parseProbeRequest([]byte(`{"id": 3, "cancel": false, "target": null}`))
	require.NoError(t, err)
	assert.Equal(t, uint64(3), q.id)

	for text, parts := range map[string][]string{
		``:                                  {`"target"`, "is missing", `{"id": 7}`},
		`{}`:                                {`"target"`, "is missing"},
		`{"count": 1}`:                      {`"target"`, "is missing"},
		`{"target": 1}`:                     {`"target"`, "string"},
		`{"target": ""}`:                    {`"target"`, "is empty"},
		`{"target": "http://a"}`:            {`"target"`, "known are icmp://"},
		`{"target": "a", "method": "ping"}`: {`"method"`, `"ping"`, `"icmp"`},
		`{"target": "a", "method": 1}`:      {`"method"`, "string"},
		`{"target": "a", "count": 0}`:       {`"count"`, "1 to 1000"},
		`{"target": "a", "count": 1001}`:    {`"count"`, "1 to 1000"},
		`{"target": "a", "count": 1.5}`:     {`"count"`, "whole number"},
		`{"target": "a", "method": "path", "count": 11}`:    {`"count"`, "1 to 10"},
		`{"target": "a", "timeout_seconds": 0}`:             {`"timeout_seconds"`, "0.01 to 60"},
		`{"target": "a", "timeout_seconds": 61}`:            {`"timeout_seconds"`, "0.01 to 60"},
		`{"target": "a", "interval_seconds": 0.019}`:        {`"interval_seconds"`, "0.02 to 60"},
		`{"target": "a", "wait_seconds": -1}`:               {`"wait_seconds"`, "0 to 60"},
		`{"target": "a", "wait_seconds": 61}`:               {`"wait_seconds"`, "0 to 60"},
		`{"target": "tcp://a", "method": "icmp"}`:           {`"method"`, `"tcp"`, "leave one of them out"},
		`{"target": "10.0.0.2", "method": "dns"}`:           {`"method"`, "is no name"},
		`{"target": "gateway", "method": "dns"}`:            {`"method"`, "is no name"},
		`{"target": "dns://a", "method": "path"}`:           {`"method"`, "no path"},
		`{"target": "a:80", "method": "icmp"}`:              {`"method"`, "names one"},
		`{"id": 0}`:                                         {`"id"`, "whole number"},
		`{"id": "7"}`:                                       {`"id"`, "whole number"},
		`{"id": 7, "target": "a"}`:                          {`"target"`, "with an id"},
		`{"id": 7, "count": 1}`:                             {`"count"`, "with an id"},
		`{"id": 7, "cancel": 1}`:                            {`"cancel"`, "true or false"},
		`{"cancel": true, "target": "a"}`:                   {`"id"`, "is missing"},
		`{"target": "a", "retries": 1}`:                     {`"retries"`, "is not known", "timeout_seconds"},
		`{"target": "a", "target": "b"}`:                    {`"target"`, "given twice"},
		`[]`:                                                {"is a list", "JSON object"},
		`{"target": "` + strings.Repeat("x", 100000) + `"}`: {`"target"`, "can be looked up"},
	} {
		_, err := parseProbeRequest([]byte(text))
		var wrong *TextError
		require.ErrorAs(t, err, &wrong, "%.60s", text)
		for _, part := range parts {
			assert.ErrorContains(t, err, part, "%.60s", text)
		}
		assert.Less(t, len(err.Error()), 400, "%.60s", text)
	}
}
