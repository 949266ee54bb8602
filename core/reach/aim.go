package reach

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"syscall"
	"time"

	"netmon/core/kernelfs"
	"netmon/core/probe"
)

const (
	// defaultPort is TCP's where neither target nor job names one: echo (RFC 862), which answers or is refused.
	defaultPort = 7
	// mostSilent is how many probes of a method that has never answered are lost before another is tried.
	mostSilent = 3
	// trialPeriod is how often a better method than the chosen one is tried again.
	trialPeriod = 60 * time.Second
)

// aim is a target with what is known of it. A request on demand has one of its own.
type aim struct {
	target     probe.Target
	peer       bool   // that nobody named
	job        bool   // a host of the job
	port       uint16 // of TCP where the target names none
	candidates []probe.Method
	silence    int // probes that a method may lose before another is tried
	name       *name

	choice   int          // the method in use, a place in candidates
	address  netip.Addr   // whom to probe, invalid while that is not known
	answered bool         // by the method in use, at this address
	silent   int          // probes that the method in use lost, while it has not answered
	tried    int          // methods given up since the last answer
	method   probe.Method // that the window's round trips are measured by, "" for none
	refused  map[string]string
	told     map[string]string // of refused, in the newest result
	trial    time.Duration     // when to try a better method, 0 for never
	error    string
	mixed    bool // the window holds losses of a method that was given up
	own      bool // a host of the job that is this one
	hidden   bool // a peer that is this host or another target
	standIn  bool // for a peer that is hidden

	window window
	flying int           // probes under way
	due    time.Duration // when to send the next
	hold   time.Duration // and not before this
	phase  time.Duration // of its sending times in the interval
	quick  bool          // its first probe is yet to be sent

	result *Result // as published; nil where something changed since
}

func newAim(target probe.Target, port uint16) *aim {
	a := &aim{target: target, port: port, silence: mostSilent, candidates: []probe.Method{target.Method}, address: target.Address}
	if target.Method == probe.Auto {
		a.candidates = []probe.Method{probe.ICMP, probe.TCP}
	}
	return a
}

// enlist takes over whether the target is one of the job, and named.
func (a *aim) enlist(t Aim) {
	if a.job != t.Peer {
		a.job, a.result = t.Peer, nil
	}
	a.peer = t.Peer && !t.Named
}

func (a *aim) current() probe.Method { return a.candidates[a.choice] }

// to is where a probe by a method goes.
func (a *aim) to(method probe.Method) netip.AddrPort {
	return netip.AddrPortFrom(a.address, a.portOf(method))
}

func (a *aim) portOf(method probe.Method) uint16 {
	switch {
	case method != probe.TCP && method != probe.TCPRefused && method != probe.UDP:
		return 0
	case a.target.Port != 0:
		return a.target.Port
	case a.port != 0:
		return a.port
	default:
		return defaultPort
	}
}

// aimAt takes over a new address, for which nothing holds that was known, and tells whether it is one.
func (a *aim) aimAt(address netip.Addr) bool {
	if a.address == address {
		return false
	}
	a.address, a.result = address, nil
	a.window.clear()
	a.choice, a.answered, a.silent, a.tried, a.mixed = 0, false, 0, 0, false
	a.method, a.refused, a.trial, a.error = "", nil, 0, ""
	return true
}

// fail notes why there is no answer.
func (a *aim) fail(sentence string) {
	if a.error != sentence {
		a.error, a.result = sentence, nil
	}
}

// refuse gives the method in use up for a reason, and tells whether there is another to use instead.
func (a *aim) refuse(reason string) (another bool) {
	method := a.current()
	a.result = nil
	if len(a.candidates) == 1 {
		a.fail(reason)
		return false
	}
	refused := maps.Clone(a.refused)
	if refused == nil {
		refused = make(map[string]string)
	}
	refused[string(method)] = reason
	a.refused = refused
	a.choice = (a.choice + 1) % len(a.candidates)
	a.answered, a.silent, a.mixed = false, 0, a.window.sent() > 0
	a.tried++
	if a.tried%len(a.candidates) == 0 {
		// None works: the next round begins with the best again.
		a.fail(fmt.Sprintf("%s: %s; %s: %s", a.candidates[0], refused[string(a.candidates[0])], method, reason))
		return false
	}
	return true
}

// answer counts a round trip.
func (a *aim) answer(f *flight, r probe.Result, now time.Duration) {
	if f.method != a.current() {
		if a.answered && !f.trial {
			return // an answer by a method that was given up
		}
		a.choose(f.method)
	}
	// Round trips by two methods do not compare, and what a method lost that does not work here was not lost on the way.
	if a.method != "" && r.Method != a.method || a.mixed && a.choice != 0 {
		a.window.clear()
	}
	a.mixed = false
	if !a.answered {
		a.settle(now)
	}
	a.method, a.answered, a.silent, a.tried, a.error, a.result = r.Method, true, 0, 0, "", nil
	a.window.add(outcome{sent: f.sent, ended: now, rtt: r.RTT})
}

// settle takes the first answer by the method in use for the end of the choice.
func (a *aim) settle(now time.Duration) {
	refused := make(map[string]string)
	for _, better := range a.candidates[:a.choice] {
		if reason, found := a.refused[string(better)]; found {
			refused[string(better)] = reason
		}
	}
	a.refused, a.trial = refused, 0
	if a.choice > 0 {
		a.trial = now // at once: what was silent may have been the target, not the method
	}
}

func (a *aim) choose(method probe.Method) {
	for i, candidate := range a.candidates {
		if candidate == method {
			a.choice, a.answered, a.silent, a.result = i, false, 0, nil
		}
	}
}

// lose counts a probe without an answer. The sentence says what came instead.
func (a *aim) lose(f *flight, sentence, reason string, now time.Duration) {
	a.result = nil
	a.window.add(outcome{sent: f.sent, ended: now, rtt: lost})
	a.fail(sentence)
	if a.answered || f.method != a.current() {
		return
	}
	if a.silent++; a.silent >= a.silence && len(a.candidates) > 1 {
		if reason == "" {
			reason = silenceOf(f.method, a.silent)
		}
		a.refuse(reason)
		a.fail(sentence)
	}
}

// silenceOf is the reason for giving a method up that never answered.
func silenceOf(method probe.Method, times int) string {
	what, plural := "connection attempt", "s"
	if method == probe.ICMP {
		what = "echo request"
	}
	if times == 1 {
		plural = ""
	}
	return fmt.Sprintf("no answer to %d %s%s", times, what, plural)
}

// publish makes the result of what is known now.
func (a *aim) publish() *Result {
	if a.result != nil {
		return a.result
	}
	r := &Result{Target: a.target.Text, Peer: a.job && !a.own || a.standIn, Address: a.address, Error: a.error}
	a.window.describe(r)
	if r.Method = a.method; r.Method == "" && (r.Sent > 0 || len(a.candidates) == 1) {
		r.Method = a.current()
	}
	r.Port = a.portOf(r.Method)
	r.Refused = a.tell(r.Method)
	a.result = r
	return r
}

// tell is what was refused beside the method in use. Results share one map as long as it says the same.
func (a *aim) tell(method probe.Method) map[string]string {
	if a.told != nil && len(a.told) == 0 && len(a.refused) == 0 {
		return a.told
	}
	refused := make(map[string]string)
	for other, reason := range a.refused {
		if other != string(method) && !(other == string(probe.TCP) && method == probe.TCPRefused) {
			refused[other] = reason
		}
	}
	if a.told == nil || !maps.Equal(a.told, refused) {
		a.told = refused
	}
	return a.told
}

// verdict is what an error means for a probe.
type verdict int

const (
	unanswered verdict = iota // the network said or did something: lost
	notAllowed                // this method does not work for this process
	spoilt                    // this host's own trouble: neither lost nor a round trip
)

// judge tells what an error of Send, or of a Result, means.
func judge(err error) verdict {
	is := func(all ...error) bool {
		for _, one := range all {
			if errors.Is(err, one) {
				return true
			}
		}
		return false
	}
	switch {
	case is(probe.ErrVoid, kernelfs.ErrForeign, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN):
		return spoilt
	case is(syscall.EACCES, syscall.EPERM, syscall.EPROTONOSUPPORT, syscall.EAFNOSUPPORT, errors.ErrUnsupported):
		return notAllowed
	default:
		return unanswered
	}
}
