package monitor

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"netmon/core/probe"
	"netmon/core/probe/dns"
	"netmon/core/reach"
	"netmon/core/sample"
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
	addPeer := func(t probe.Target) {
		if !m.isOwnName(t.Host) {
			add(reach.Aim{Target: t, Peer: true})
		}
	}
	if address := master(j); address != "" {
		if t, wrong := peerTarget(address); wrong == "" {
			addPeer(t)
		} else if m.topology == nil { // which tells the same
			problem = "the job's master cannot be probed: " + wrong
		}
	}
	for _, peer := range j.peers {
		if t, wrong := peerTarget(peer.Address); wrong == "" {
			addPeer(t)
		}
	}
	return plan, problem
}

// isOwnName tells whether a name is this host's own, as a job on one host calls its master. Then no name server has to be asked what
// it means: many would not know.
func (m *Monitor) isOwnName(name string) bool {
	return m.host.Hostname != nil && strings.EqualFold(strings.TrimSuffix(name, "."), *m.host.Hostname)
}

// named are the targets that somebody named: those told since the monitor was made, else those of the configuration.
func (m *Monitor) named(j *jobState) []probe.Target {
	if j.identity.Targets == nil {
		return m.config.Targets
	}
	return j.identity.Targets
}

// resolve finds out what the master's name means, as the resolver of this host says and in the monitor's network namespace.
func (m *Monitor) resolve(name string, givenUp func() bool) (addresses []netip.Addr, err error) {
	if m.isOwnName(name) {
		return dns.Hosts(*m.options.FS, name), nil
	}
	refused := m.engine.Inside(func() (sent int) {
		addresses, sent, err = dns.Resolve(*m.options.FS, name, resolveTimeout, givenUp)
		return sent
	})
	if refused != nil {
		return nil, refused
	}
	return addresses, err
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

// sameTexts tells whether two results say the same but for numbers.
func sameTexts(a, b *reach.Result) bool {
	return a == b || a.Target == b.Target && a.Peer == b.Peer && a.Address == b.Address && a.Port == b.Port &&
		a.Method == b.Method && a.Error == b.Error && maps.Equal(a.Refused, b.Refused)
}

// textsOf and numbersOf are the two halves of what samples tell of a result.
func textsOf(r *reach.Result) *sample.ProbeTexts {
	address := ""
	if r.Address.IsValid() {
		address = r.Address.String()
	}
	var port *int64
	if r.Port != 0 {
		number := int64(r.Port)
		port = &number
	}
	t := &sample.ProbeTexts{
		Target: r.Target, Peer: r.Peer, Address: known(address), Port: port, Method: known(string(r.Method)), MethodsRefused: r.Refused,
		Error: known(r.Error),
	}
	if t.MethodsRefused == nil {
		t.MethodsRefused = map[string]string{}
	}
	return t
}

func numbersOf(r *reach.Result) (n sample.ProbeNumbers) {
	const unknown = sample.UnknownTime
	n = sample.ProbeNumbers{
		Sent: uint32(r.Sent), Received: uint32(r.Received),
		Min: unknown, P50: unknown, P99: unknown, Last: unknown, Jitter: unknown, Window: unknown, Age: unknown,
	}
	if r.Sent > 0 {
		n.Window = r.Window
	}
	if r.Received > 0 {
		n.Min, n.P50, n.P99, n.Last = nanoseconds(r.Min), nanoseconds(r.P50), nanoseconds(r.P99), nanoseconds(r.Last)
	}
	if r.Received > 1 {
		n.Jitter = nanoseconds(r.Jitter)
	}
	return n
}

// nanoseconds are seconds to the nearest nanosecond.
func nanoseconds(seconds float64) time.Duration { return time.Duration(math.Round(seconds * 1e9)) }

// ageOf is how long ago a result's last probe ended.
func ageOf(r *reach.Result, now time.Duration) time.Duration {
	if r.Sent == 0 {
		return sample.UnknownTime
	}
	return max(0, now-r.Ended)
}

// probeTable makes the section of samples of the engine's results. Not safe for concurrent use.
type probeTable struct {
	of        *reach.Results
	texts     []*sample.ProbeTexts // of the targets of of
	counted   []bool               // the texts' memory is counted in the history
	numbers   []sample.ProbeNumbers
	lacking   []missing
	lackingOf *reach.Results
	passing   []sample.Probe // room for those of a sample on demand
}

func (t *probeTable) update(results *reach.Results) {
	before := t.of
	if before == results {
		return
	}
	n := len(results.Targets)
	texts, counted := make([]*sample.ProbeTexts, n), make([]bool, n)
	t.numbers = slices.Grow(t.numbers[:0], n)[:n]
	same := before != nil && len(t.texts) == n
	for i, of := range results.Targets {
		t.numbers[i] = numbersOf(of)
		if i < len(t.texts) && sameTexts(before.Targets[i], of) {
			texts[i], counted[i] = t.texts[i], t.counted[i]
			continue
		}
		texts[i], same = textsOf(of), false
	}
	if t.of = results; same {
		return
	}
	t.texts, t.counted = texts, counted
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
	if t.update(results); t.lackingOf != results {
		t.lacking, t.lackingOf = probesLack(results), results
	}
	d.lacking = append(d.lacking, t.lacking...)
	for i, r := range results.Targets {
		t.numbers[i].Age = ageOf(r, now)
	}
	if d.passing {
		t.passing = slices.Grow(t.passing[:0], len(t.texts))[:len(t.texts)]
		for i := range t.passing {
			t.passing[i].Set(t.texts[i], &t.numbers[i])
		}
		if d.Probes = t.passing; d.Probes == nil {
			d.Probes = []sample.Probe{}
		}
		return 0
	}
	d.KeepProbes(t.texts, slices.Clone(t.numbers))
	bytes = len(t.texts) * sample.KeptProbeBytes
	for i, texts := range t.texts {
		if !t.counted[i] {
			t.counted[i] = true
			bytes += texts.Bytes()
		}
	}
	return bytes
}

// fillSnapshot writes what readers get of probes without waiting.
func fillSnapshot(s *Snapshot, results *reach.Results) {
	if results.Received > 0 {
		s.RTTP50Nanoseconds = uint64(nanoseconds(results.P50))
	}
	if results.Sent > 0 {
		s.LossRatio = float64(results.Lost) / float64(results.Sent)
	}
}

// probeRequest is what the caller of netmon_probe asks for.
type probeRequest struct {
	reach.Request
	requestWait
}

// Bounds and defaults of a request.
const (
	defaultPerHop    = 3
	mostPerHop       = 10
	defaultTimeout   = time.Second
	mostProbeSpacing = 60 * time.Second
)

func parseProbeRequest(text []byte) (q probeRequest, err error) {
	d := decoder{what: "request", example: `{"target": "127.0.0.1"}`}
	method := probe.Auto
	q.Timeout, q.Interval = defaultTimeout, probe.LeastInterval
	given, err := q.read(&d, text, map[string]func(string, []byte) error{
		"target": func(key string, value []byte) error {
			word, err := d.string(key, value)
			if err != nil {
				return err
			}
			if q.Target, err = probe.ParseTarget(word); err != nil {
				return d.fail(key, "is wrong: %v", err)
			}
			return nil
		},
		"method": func(key string, value []byte) error {
			word, err := d.string(key, value)
			if err != nil {
				return err
			}
			if method = probe.Method(word); !slices.Contains(requestMethods(), method) {
				return d.fail(key, "is %q; it must be \"auto\", \"icmp\", \"tcp\", \"udp\", \"dns\" or \"path\"", shorten(word))
			}
			return nil
		},
		"count": func(key string, value []byte) error {
			number, err := d.integer(key, value, 1, probe.MostCount)
			if err == nil {
				q.Count = int(*number)
			}
			return err
		},
		"timeout_seconds": func(key string, value []byte) (err error) {
			q.Timeout, err = d.duration(key, value, probe.LeastTimeout, probe.MostTimeout)
			return err
		},
		"interval_seconds": func(key string, value []byte) (err error) {
			q.Interval, err = d.duration(key, value, probe.LeastInterval, mostProbeSpacing)
			return err
		},
	})
	switch {
	case err != nil:
		return q, err
	case q.id != 0:
	case !given["target"]:
		return q, d.fail("target", "is missing; say whom to probe, as {\"target\": \"10.0.0.2\"}, or which request to wait for, as {\"id\": 7}")
	default:
		if err := q.choose(&d, method); err != nil {
			return q, err
		}
	}
	if !given["wait_seconds"] {
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

// Probe begins to answer a request for probes on demand. AwaitProbe waits for the answer.
//
// Errors: *TextError for a request that is not understood, ErrClosed, ErrBusy.
func (m *Monitor) Probe(request []byte) (Pending, error) {
	q, err := parseProbeRequest(request)
	if err != nil {
		return Pending{}, err
	}
	if m.closing.Load() {
		return Pending{}, ErrClosed
	}
	p := q.pending()
	if p.ID == 0 {
		if p.ID, err = m.engine.Start(q.Request); err != nil {
			return p, probeError(err, p.ID)
		}
	}
	return p, nil
}

// AwaitProbe waits, at most so long, for a request to be done or its time to be over. Then it writes the answer to w, as JSON.
//
// Errors: *TextError for an id that does not hold, ErrClosed, and what w returns.
func (m *Monitor) AwaitProbe(p *Pending, most time.Duration, w io.Writer) (answered bool, err error) {
	if m.closing.Load() {
		return false, ErrClosed
	}
	var answer *reach.Answer
	if p.cancel {
		answer, err = m.engine.Cancel(p.ID)
	} else {
		answer, err = m.engine.Wait(p.ID, p.slice(most))
	}
	switch {
	case err != nil:
		return false, probeError(err, p.ID)
	case !answer.Done && p.Left > 0:
		return false, nil
	case answer.OfPath:
		document := pathAnswer(answer)
		return true, document.WriteJSON(w)
	default:
		return true, m.writeAnswer(answer, w)
	}
}

func probeError(err error, id uint64) error {
	switch {
	case errors.Is(err, reach.ErrClosed):
		return ErrClosed
	case errors.Is(err, reach.ErrBusy):
		return ErrBusy
	case errors.Is(err, reach.ErrUnknown):
		return &TextError{What: "request", Key: "id", Text: fmt.Sprintf(
			"is %d, which is no request that is unfinished or not fetched; start one with {\"target\": \"10.0.0.2\"}", id)}
	default:
		return err
	}
}

func (m *Monitor) writeAnswer(answer *reach.Answer, w io.Writer) error {
	numbers := numbersOf(answer.Result)
	numbers.Age = ageOf(answer.Result, m.clock.Monotonic())
	document := sample.ProbeAnswer{ID: answer.ID, Done: answer.Done}
	document.Set(textsOf(answer.Result), &numbers)
	return document.WriteJSON(w)
}
