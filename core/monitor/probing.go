package monitor

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unsafe"

	"netmon/core/probe"
	"netmon/core/reach"
	"netmon/core/sample"
	"netmon/core/units"
)

// ErrBusy means that a monitor has as many requests for probes as it takes.
var ErrBusy = errors.New("16 probe requests of this monitor are unfinished or not fetched; fetch or cancel one first")

// plan is whom to probe in the background, with what cannot be.
func (m *Monitor) plan(j *jobState) (plan reach.Plan, problem string) {
	plan = reach.Plan{Interval: m.config.ProbeInterval, Timeout: m.config.ProbeTimeout}
	if m.config.Sources&Probes == 0 {
		return plan, ""
	}
	if port := j.document.MasterPort; port != nil {
		plan.Port = uint16(*port)
	}
	place := make(map[string]int)
	add := func(aim reach.Aim) {
		if i, seen := place[aim.Text]; seen {
			plan.Targets[i].Peer = plan.Targets[i].Peer || aim.Peer
		} else if len(plan.Targets) < probe.MostTargets {
			place[aim.Text] = len(plan.Targets)
			plan.Targets = append(plan.Targets, aim)
		}
	}
	for _, t := range m.named(j) {
		add(reach.Aim{Target: t, Named: true})
	}
	if address := master(j); address != "" {
		if t, wrong := peerTarget(address); wrong == "" {
			add(reach.Aim{Target: t, Peer: true})
		} else if m.topology == nil { // which tells the same
			problem = "the job's master cannot be probed: " + wrong
		}
	}
	for _, peer := range j.peers {
		if t, wrong := peerTarget(peer.Address); wrong == "" {
			add(reach.Aim{Target: t, Peer: true})
		}
	}
	return plan, problem
}

// named are the targets that somebody named: those told since the monitor was made, else those of the configuration.
func (m *Monitor) named(j *jobState) []probe.Target {
	if j.identity.Targets == nil {
		return m.config.Targets
	}
	return j.identity.Targets
}

// aim makes the engine follow what is known of the job.
func (m *Monitor) aim() {
	plan, problem := m.plan(m.job.Load())
	m.aimProblem.Store(&problem)
	m.engine.Follow(plan)
}

// probeProblems are what keeps probes, or the answering of others' probes, from working.
func (m *Monitor) probeProblems() (problems []string) {
	problems = m.engine.Problems()
	if problem := *m.aimProblem.Load(); problem != "" {
		problems = append(problems, problem)
	}
	return problems
}

// probeRow is a row of the section with room for what its pointers point to.
type probeRow struct {
	sample.Reach
	address string
	method  string
	error   string
	port    int64
	reals   [7]float64
}

// newProbeRow makes a row; before is one of the same target, whose texts it shares, or nil.
func newProbeRow(of *reach.Result, before *probeRow) *probeRow {
	r := &probeRow{method: string(of.Method), error: of.Error, port: int64(of.Port)}
	r.Target, r.Peer, r.MethodsRefused = of.Target, of.Peer, of.Refused
	r.Sent, r.Received, r.Lost = of.Sent, of.Received, of.Lost
	if of.Address.IsValid() {
		if r.address = of.Address.String(); before != nil && before.address == r.address {
			r.address = before.address
		}
		r.Address = &r.address
	}
	if r.method != "" {
		r.Method = &r.method
	}
	if r.port != 0 {
		r.Port = &r.port
	}
	if r.error != "" {
		r.Error = &r.error
	}
	next := 0
	real := func(value float64) *float64 {
		p := &r.reals[next]
		next++
		*p = value
		return p
	}
	if of.Sent == 0 {
		return r
	}
	r.LossRatio = real(float64(of.Lost) / float64(of.Sent))
	r.WindowSeconds = real(units.Seconds(of.Window))
	if of.Received == 0 {
		return r
	}
	r.RTTMinSeconds, r.RTTP50Seconds, r.RTTP99Seconds = real(of.Min), real(of.P50), real(of.P99)
	r.RTTLastSeconds = real(of.Last)
	if of.Received > 1 {
		r.JitterSeconds = real(of.Jitter)
	}
	return r
}

// probeTable makes rows of the engine's results. Samples share rows of targets about which nothing new is known. Not safe for
// concurrent use.
type probeTable struct {
	of      *reach.Results
	rows    []*probeRow // of the targets of of
	kept    []bool      // their memory is counted in the history
	lacking []missing
	passing []sample.Probe // room for those of a sample on demand
	ages    []float64
}

func (t *probeTable) update(results *reach.Results) {
	before := t.of
	if before == results {
		return
	}
	rows, kept := make([]*probeRow, len(results.Targets)), make([]bool, len(results.Targets))
	for i, of := range results.Targets {
		var old *probeRow
		if before != nil && i < len(t.rows) && before.Targets[i].Target == of.Target {
			if before.Targets[i] == of {
				rows[i], kept[i] = t.rows[i], t.kept[i]
				continue
			}
			old = t.rows[i]
		}
		rows[i] = newProbeRow(of, old)
	}
	t.of, t.rows, t.kept = results, rows, kept
	t.lacking = probesLack(results)
}

// probesLack says why fields of the section are null, naming the targets.
func probesLack(results *reach.Results) (lacking []missing) {
	var unresolved, unsent, unanswered, single named
	for _, r := range results.Targets {
		name := r.Target
		if !r.Address.IsValid() {
			unresolved.add(or(r.Error, "not looked up yet"), name)
		}
		switch {
		case r.Sent == 0:
			unsent.add(or(r.Error, "no probe has ended yet"), name)
		case r.Received == 0:
			unanswered.add(or(r.Error, "no answer in the window"), name)
		case r.Received == 1:
			single.add("needs two answers", name)
		}
	}
	lack := func(all []named, fields string) {
		var reasons []string
		for _, n := range all {
			if len(n.order) > 0 {
				reasons = append(reasons, n.String())
			}
		}
		if len(reasons) == 0 {
			return
		}
		for field := range strings.FieldsSeq(fields) {
			lacking = append(lacking, missing{"probes." + field, strings.Join(reasons, "; ")})
		}
	}
	lack([]named{unresolved}, "address")
	lack([]named{unsent}, "method loss_ratio window_seconds age_seconds")
	lack([]named{unsent, unanswered}, "rtt_min_seconds rtt_p50_seconds rtt_p99_seconds rtt_last_seconds")
	lack([]named{unsent, unanswered, single}, "jitter_seconds")
	return lacking
}

func or(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

// fill writes the section of a sample and returns the memory it takes.
func (t *probeTable) fill(d *document, results *reach.Results, now time.Duration) (bytes int) {
	t.update(results)
	probes, ages := t.passing[:0], t.ages[:0]
	if !d.passing {
		probes, ages = nil, nil
	}
	probes, ages = slices.Grow(probes, len(t.rows)), slices.Grow(ages, len(t.rows))
	for i, r := range t.rows {
		one := sample.Probe{Reach: &r.Reach}
		if r.Sent > 0 {
			ages = append(ages, units.Seconds(max(0, now-results.Targets[i].Ended)))
			one.AgeSeconds = &ages[len(ages)-1]
		}
		probes = append(probes, one)
		if d.passing {
			continue
		}
		bytes += int(unsafe.Sizeof(one)) + int(unsafe.Sizeof(float64(0)))
		if !t.kept[i] {
			t.kept[i] = true
			bytes += int(unsafe.Sizeof(*r)) + len(r.error)
		}
	}
	if d.passing {
		t.passing, t.ages = probes, ages
	}
	if d.Probes = probes; d.Probes == nil {
		d.Probes = []sample.Probe{}
	}
	d.lacking = append(d.lacking, t.lacking...)
	return bytes
}

// fillSnapshot writes what readers get of probes without waiting.
func fillSnapshot(s *Snapshot, results *reach.Results) {
	if results.Received > 0 {
		s.RTTP50Nanoseconds = uint64(results.P50*1e9 + 0.5)
	}
	if results.Sent > 0 {
		s.LossRatio = float64(results.Lost) / float64(results.Sent)
	}
}

// probeRequest is what the caller of netmon_probe asks for.
type probeRequest struct {
	reach.Request
	id     uint64 // of a request that was started, 0 for a new one
	cancel bool
	wait   time.Duration
}

// Bounds and defaults of a request.
const (
	mostWait         = 60.0 // seconds
	defaultPerHop    = 3
	mostPerHop       = 10
	defaultTimeout   = time.Second
	mostProbeSpacing = 60 * time.Second
)

func parseProbeRequest(text []byte) (q probeRequest, err error) {
	d := decoder{what: "request", example: `{"target": "127.0.0.1"}`}
	given := make(map[string]bool)
	method := probe.Auto
	waits := false
	q.Timeout, q.Interval = defaultTimeout, probe.LeastInterval
	note := func(read func(key string, value []byte) error) func(string, []byte) error {
		return func(key string, value []byte) error {
			given[key] = true
			return read(key, value)
		}
	}
	err = d.object(text, MaxConfigBytes, map[string]func(string, []byte) error{
		"target": note(func(key string, value []byte) error {
			word, err := d.string(key, value)
			if err != nil {
				return err
			}
			if q.Target, err = probe.ParseTarget(word); err != nil {
				return d.fail(key, "is wrong: %v", err)
			}
			return nil
		}),
		"method": note(func(key string, value []byte) error {
			word, err := d.string(key, value)
			if err != nil {
				return err
			}
			if method = probe.Method(word); !slices.Contains(requestMethods(), method) {
				return d.fail(key, "is %q; it must be \"auto\", \"icmp\", \"tcp\", \"udp\", \"dns\" or \"path\"", shorten(word))
			}
			return nil
		}),
		"count": note(func(key string, value []byte) error {
			number, err := d.integer(key, value, 1, probe.MostCount)
			if err == nil {
				q.Count = int(*number)
			}
			return err
		}),
		"timeout_seconds": note(func(key string, value []byte) (err error) {
			q.Timeout, err = d.duration(key, value, probe.LeastTimeout, probe.MostTimeout)
			return err
		}),
		"interval_seconds": note(func(key string, value []byte) (err error) {
			q.Interval, err = d.duration(key, value, probe.LeastInterval, mostProbeSpacing)
			return err
		}),
		"wait_seconds": func(key string, value []byte) error {
			waits = true
			seconds, err := d.number(key, value, 0, mostWait, "seconds")
			q.wait = units.Duration(seconds)
			return err
		},
		"id": func(key string, value []byte) error {
			number, err := d.integer(key, value, 1, 1<<53)
			if err == nil {
				q.id = uint64(*number)
			}
			return err
		},
		"cancel": func(key string, value []byte) error {
			switch strings.TrimSpace(string(value)) {
			case "true":
				q.cancel = true
			case "false":
			default:
				return d.fail(key, "is %s; it must be true or false", describe(value))
			}
			return nil
		},
	})
	switch {
	case err != nil:
		return q, err
	case q.id != 0:
		for _, key := range []string{"target", "method", "count", "timeout_seconds", "interval_seconds"} {
			if given[key] {
				return q, d.fail(key, "does not belong to a request with an id, which goes on waiting for what was asked before")
			}
		}
	case q.cancel:
		return q, d.fail("id", "is missing; say which request to cancel")
	case !given["target"]:
		return q, d.fail("target", "is missing; say whom to probe, as {\"target\": \"10.0.0.2\"}, or which request to wait for, as {\"id\": 7}")
	default:
		if err := q.choose(&d, method); err != nil {
			return q, err
		}
	}
	if !waits {
		q.wait = q.longest()
	}
	return q, nil
}

const methodPath = probe.Method("path")

func requestMethods() []probe.Method {
	return []probe.Method{probe.Auto, probe.ICMP, probe.TCP, probe.UDP, probe.DNS, methodPath}
}

// choose makes the method that was asked for that of the target.
func (q *probeRequest) choose(d *decoder, method probe.Method) error {
	own := q.Target.Method
	switch {
	case method == methodPath:
		if own == probe.DNS {
			return d.fail("method", "is \"path\", but %s asks for the time a name takes to resolve; there is no path to it", q.Target.Text)
		}
		if q.Path = true; q.Count == 0 {
			q.Count = defaultPerHop
		}
		if q.Count > mostPerHop {
			return d.fail("count", "is %d; it must be from 1 to %d probes per hop", q.Count, mostPerHop)
		}
	case method == probe.Auto, method == own:
	case own != probe.Auto:
		return d.fail("method", "is %q, but the target %s says %q; leave one of them out", method, q.Target.Text, own)
	case method == probe.DNS && !q.Target.IsName():
		return d.fail("method", "is \"dns\", but the target %s is no name, and there is nothing to resolve", q.Target.Text)
	case q.Target.Port != 0 && method != probe.TCP && method != probe.UDP:
		return d.fail("method", "is %q, which has no ports, but the target %s names one", method, q.Target.Text)
	default:
		q.Target.Method = method
		if method == probe.UDP && q.Target.Port == 0 {
			q.Target.Port = probe.DefaultUDPPort
		}
	}
	q.Count = max(q.Count, 1)
	return nil
}

// longest bounds the waiting for a request without a bound of its own: that is over before.
func (q *probeRequest) longest() time.Duration {
	const hops = 64
	probes := time.Duration(q.Count)
	if q.Path {
		probes *= hops
	}
	return (probes+10)*max(q.Timeout, q.Interval) + time.Minute
}

// Probe answers a request for probes on demand, in JSON written to w. It waits as long as the request says.
//
// Errors: *TextError for a request that is not understood or an id that does not hold, ErrClosed, ErrBusy, and what w returns.
func (m *Monitor) Probe(request []byte, w io.Writer) error {
	q, err := parseProbeRequest(request)
	if err != nil {
		return err
	}
	if m.closing.Load() {
		return ErrClosed
	}
	id := q.id
	if id == 0 {
		if id, err = m.engine.Start(q.Request); err != nil {
			return probeError(err, q)
		}
	}
	var answer *reach.Answer
	if q.cancel {
		answer, err = m.engine.Cancel(id)
	} else {
		answer, err = m.engine.Wait(id, q.wait)
	}
	if err != nil {
		return probeError(err, q)
	}
	if answer.OfPath {
		document := pathAnswer(answer)
		return document.WriteJSON(w)
	}
	return m.writeAnswer(answer, w)
}

func probeError(err error, q probeRequest) error {
	switch {
	case errors.Is(err, reach.ErrClosed):
		return ErrClosed
	case errors.Is(err, reach.ErrBusy):
		return ErrBusy
	case errors.Is(err, reach.ErrUnknown):
		return &TextError{What: "request", Key: "id", Text: fmt.Sprintf(
			"is %d, which is no request that is unfinished or not fetched; start one with {\"target\": \"10.0.0.2\"}", q.id)}
	default:
		return err
	}
}

func (m *Monitor) writeAnswer(answer *reach.Answer, w io.Writer) error {
	row := newProbeRow(answer.Result, nil)
	document := sample.ProbeAnswer{ID: answer.ID, Done: answer.Done, Probe: sample.Probe{Reach: &row.Reach}}
	if row.Sent > 0 {
		age := units.Seconds(max(0, m.clock.Monotonic()-answer.Ended))
		document.AgeSeconds = &age
	}
	return document.WriteJSON(w)
}
