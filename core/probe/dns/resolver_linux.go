package dns

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

// Resolver looks names up. It never blocks, starts no goroutine, and is used by one goroutine, which waits for its descriptors and
// for the time it is due. Its sockets are those of the network namespace that the calling thread is in whenever it is used.
type Resolver struct {
	fs    kernelfs.FS
	clock clock.Clock

	config      config
	configFile  watched
	hosts       map[string][]netip.Addr // by name, those looked up since the file changed
	hostsFile   watched
	services    []string // other than files and dns
	serviceFile watched

	turn    int // that rotates servers
	waiting []*lookup
	asking  []*lookup
	ready   []Answer
	sent    int // bytes, since Receive told of them
}

// New returns a resolver by the configuration below fs, which is read when it is first needed and again when it changes.
func New(fs kernelfs.FS, c clock.Clock) *Resolver {
	return &Resolver{fs: fs, clock: c, hosts: make(map[string][]netip.Addr)}
}

// watched is a file that is read again when it changes.
type watched struct {
	info os.FileInfo // nil: there was no such file
	read bool
}

// changed tells whether the file is another than when it was asked last.
func (w *watched) changed(fs kernelfs.FS, path string) bool {
	info, err := fs.Stat(path)
	if err != nil {
		info = nil
	}
	before := w.info
	same := w.read && (info == nil) == (before == nil) &&
		(info == nil || os.SameFile(info, before) && info.Size() == before.Size() && info.ModTime().Equal(before.ModTime()))
	w.info, w.read = info, true
	return !same
}

// load reads what has changed.
func (r *Resolver) load() {
	if r.configFile.changed(r.fs, configPath) {
		text, _ := r.fs.ReadFile(configPath) // none: the resolver of this host, as resolv.conf(5) says
		hostname, _ := r.fs.ReadFile(hostnamePath)
		r.config = parseConfig(text, strings.TrimSpace(string(hostname)))
	}
	if r.serviceFile.changed(r.fs, switchPath) {
		text, _ := r.fs.ReadFile(switchPath)
		r.services = parseSwitch(text)
	}
	if r.hostsFile.changed(r.fs, hostsPath) {
		clear(r.hosts)
	}
}

// local are the addresses of a name that no server has to be asked for.
func (r *Resolver) local(name string) []netip.Addr {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	addresses, known := r.hosts[name]
	if !known {
		const mostNames = 1024
		if len(r.hosts) >= mostNames {
			clear(r.hosts)
		}
		text, _ := r.fs.ReadFile(hostsPath)
		addresses = parseHosts(text, name)
		r.hosts[name] = addresses
	}
	if len(addresses) == 0 && (name == "localhost" || strings.HasSuffix(name, ".localhost")) { // RFC 6761
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return addresses
}

// Lookup starts looking a name up. Its end comes from Receive under the same token, after timeout at the latest; the caller never
// uses a token twice. Call Receive after it and before waiting.
func (r *Resolver) Lookup(name string, token uint64, timeout time.Duration) {
	now := r.clock.Monotonic()
	r.waiting = append(r.waiting, &lookup{r: r, name: name, token: token, asked: now, deadline: now + timeout})
	r.advance()
}

// advance starts as many of the lookups that wait as may be under way.
func (r *Resolver) advance() {
	for len(r.waiting) > 0 && len(r.asking) < mostAtATime {
		l := r.waiting[0]
		r.waiting = slices.Delete(r.waiting, 0, 1)
		r.asking = append(r.asking, l)
		l.begin()
	}
}

// Descriptors appends what to wait for now.
func (r *Resolver) Descriptors(set []probe.Descriptor) []probe.Descriptor {
	for _, l := range r.asking {
		for _, e := range l.exchanges {
			set = e.descriptors(set)
		}
	}
	return set
}

// Due is when Receive wants to be called although nothing came, on the monotonic clock; false for never.
func (r *Resolver) Due() (at time.Duration, ok bool) {
	if len(r.ready) > 0 {
		return 0, true
	}
	sooner := func(t time.Duration) {
		if !ok || t < at {
			at, ok = t, true
		}
	}
	for _, l := range r.waiting {
		sooner(l.deadline)
	}
	for _, l := range r.asking {
		sooner(l.deadline)
		for _, e := range l.exchanges {
			if e.under() {
				sooner(e.until)
			}
		}
	}
	return at, ok
}

// Receive hands out the lookups that ended since the last call, and tells the bytes that were sent since, of all lookups. yield must
// not use the Resolver.
func (r *Resolver) Receive(yield func(Answer)) (sent int) {
	r.receive()
	now := r.clock.Monotonic()
	for _, l := range slices.Clone(r.asking) {
		l.tick(now)
	}
	r.waiting = slices.DeleteFunc(r.waiting, func(l *lookup) bool {
		if now < l.deadline {
			return false
		}
		r.ready = append(r.ready, Answer{Token: l.token, Err: &failure{text: "too many names were looked up before this one", cause: probe.ErrVoid}})
		return true
	})
	// Sending takes messages that come meanwhile, and no descriptor tells of them again.
	for again := true; again; again = len(r.waiting) > 0 && len(r.asking) < mostAtATime {
		r.advance()
		r.receive()
	}
	for _, answer := range r.ready {
		yield(answer)
	}
	r.ready = r.ready[:0]
	sent, r.sent = r.sent, 0
	return sent
}

func (r *Resolver) receive() {
	for _, l := range slices.Clone(r.asking) {
		l.receive()
	}
}

// Forget gives a lookup up; nothing comes of it any more.
func (r *Resolver) Forget(token uint64) {
	is := func(l *lookup) bool { return l.token == token }
	r.waiting = slices.DeleteFunc(r.waiting, is)
	if i := slices.IndexFunc(r.asking, is); i >= 0 {
		r.asking[i].close()
		r.asking = slices.Delete(r.asking, i, i+1)
	}
	r.ready = slices.DeleteFunc(r.ready, func(a Answer) bool { return a.Token == token })
}

// Close gives up all lookups and closes their sockets.
func (r *Resolver) Close() {
	for _, l := range r.asking {
		l.close()
	}
	r.waiting, r.asking, r.ready = nil, nil, nil
}

// lookup is a name being looked up.
type lookup struct {
	r               *Resolver
	name            string
	token           uint64
	asked, deadline time.Duration
	config          config
	first           int      // place of the server to ask first
	names           []string // full names to ask for, those before place are done
	place           int
	exchanges       []*exchange // of the name at place: one for each family

	before  stamp.Moment // just before the first question
	left    stamp.Time   // when that left, 0 where the kernel did not say
	started bool         // it was sent
	rtt     time.Duration
	spoilt  error // why rtt does not hold
	server  netip.AddrPort
	denied  netip.AddrPort // the server that said there is no such name, or no address
	bare    bool           // one of the names exists and has no address
	failed  []failure      // of names whose servers could not say
	sent    int
}

// begin answers what needs no server, and asks for what does.
func (l *lookup) begin() {
	r := l.r
	l.before = stamp.Now(r.clock)
	if address, err := netip.ParseAddr(l.name); err == nil {
		l.end(Answer{Addresses: []netip.Addr{address.Unmap()}, Hosts: true, RTT: r.clock.Monotonic() - l.before.Monotonic})
		return
	}
	if err := probe.CheckName(l.name); err != nil {
		l.end(Answer{Err: &failure{text: ErrNotFound.Error() + ": " + err.Error(), cause: ErrNotFound}})
		return
	}
	r.load()
	if addresses := r.local(l.name); len(addresses) > 0 {
		l.end(Answer{Addresses: addresses, Hosts: true, RTT: r.clock.Monotonic() - l.before.Monotonic})
		return
	}
	l.config = r.config
	if l.config.rotate {
		l.first = r.turn
		r.turn++
	}
	l.names = l.config.names(l.name)
	l.before = stamp.Now(r.clock)
	l.ask()
}

// ask asks for the name at place.
func (l *lookup) ask() {
	kinds := []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	if l.config.noIPv6 {
		kinds = kinds[:1]
	}
	l.exchanges = nil
	for i, kind := range kinds {
		e := newExchange(l, l.names[l.place], kind)
		l.exchanges = append(l.exchanges, e)
		if i == 0 || !l.config.single {
			e.ask()
		}
	}
	l.step()
}

// receive takes what has come for its questions.
func (l *lookup) receive() {
	for _, e := range l.exchanges {
		if !e.receive() {
			l.end(Answer{Err: stamp.ErrForeign})
			return
		}
	}
	l.step()
}

// tick gives up what has waited long enough.
func (l *lookup) tick(now time.Duration) {
	if now >= l.deadline {
		l.expire(now)
		return
	}
	for _, e := range l.exchanges {
		if e.under() && now >= e.until {
			e.silent(now)
		}
	}
	l.step()
}

// step goes on once all questions about the present name have ended.
func (l *lookup) step() {
	for _, e := range l.exchanges {
		if !e.began {
			e.ask() // one at a time
		}
		if e.under() {
			return
		}
	}
	if len(l.exchanges) == 0 {
		return // ended
	}
	if addresses := l.found(); len(addresses) > 0 {
		l.end(l.timed(Answer{Addresses: addresses}))
		return
	}
	var failures []failure
	answers, denied := true, false
	for _, e := range l.exchanges {
		switch e.verdict {
		case noName:
			denied, l.denied = true, e.server
		case answered:
			l.denied, l.bare = e.server, true
		default:
			failures = append(failures, e.failures...)
			answers = answers && e.answers
		}
	}
	if len(failures) > 0 && !denied {
		l.failed = append(l.failed, failures...)
		if !answers { // silence: with another name it would be the same
			l.end(Answer{Err: joined(l.failed)})
			return
		}
	}
	if l.place++; l.place < len(l.names) {
		l.ask()
		return
	}
	if len(l.failed) > 0 {
		l.end(Answer{Err: joined(l.failed)})
		return
	}
	l.end(l.timed(Answer{Err: l.notFound()}))
}

// found are the addresses that its questions about the present name were answered with.
func (l *lookup) found() (addresses []netip.Addr) {
	for _, e := range l.exchanges {
		addresses = append(addresses, e.addresses...)
	}
	return tidy(addresses)
}

// timed adds the time of the resolution.
func (l *lookup) timed(a Answer) Answer {
	a.RTT, a.Server = l.rtt, l.server
	if a.Err == nil && l.spoilt != nil {
		a.Err = l.spoilt
	}
	return a
}

// expire ends a lookup whose time is over.
func (l *lookup) expire(now time.Duration) {
	failures := l.failed
	for _, e := range l.exchanges {
		if e.under() {
			e.note(e.silence(now))
		}
		failures = append(failures, e.failures...)
	}
	l.end(Answer{Addresses: l.found(), Server: l.server, Err: joined(failures)})
}

// end hands the answer over.
func (l *lookup) end(a Answer) {
	l.close()
	a.Token, a.Sent = l.token, l.sent
	l.r.ready = append(l.r.ready, a)
	l.r.asking = slices.DeleteFunc(l.r.asking, func(other *lookup) bool { return other == l })
}

func (l *lookup) close() {
	for _, e := range l.exchanges {
		e.close()
	}
	l.exchanges = nil
}

// count notes bytes that were sent.
func (l *lookup) count(bytes int) {
	l.sent += bytes
	l.r.sent += bytes
}

// heard notes that a server's answer came: received by the kernel's stamp, 0 where there is none.
func (l *lookup) heard(server netip.AddrPort, received stamp.Time) {
	rtt, err := stamp.RoundTrip(l.before, l.left, received, stamp.Now(l.r.clock))
	l.server = server
	l.rtt, l.spoilt = max(l.rtt, rtt), err
}

// notFound says that the name has no address.
func (l *lookup) notFound() error {
	what := "NXDOMAIN"
	if l.bare {
		what = "the name has no address"
	}
	text := ErrNotFound.Error() + ": " + what + ", said by " + show(l.denied)
	if others := l.r.services; len(others) > 0 {
		text += "; nsswitch.conf names services besides, which only the C library can ask: " + strings.Join(others, ", ")
	} else if strings.HasSuffix(strings.TrimSuffix(l.name, "."), ".local") {
		text += "; names that only multicast DNS knows cannot be resolved here"
	}
	return &failure{text: text, cause: ErrNotFound}
}
