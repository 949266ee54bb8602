package monitor

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"netmon/core/clock"
	"netmon/core/link"
)

// LinkSource tells what interfaces there are: a link.Watcher with route.Defaults, or a test's own.
type LinkSource interface {
	// Changed never blocks.
	Changed() link.Change
	// Read may wait for programs that configure interfaces.
	Read() ([]*link.Link, error)
	Route(netip.Addr) int
	DefaultRoute() (interfaceName string)
	Close()
}

// topology is what was read last of a namespace's links. It is not changed after it was made.
type topology struct {
	version uint64
	links   []*link.Link
	byName  map[string]int // place in links
	counted []bool
	primary *link.Link
	problem string // why links are not known, or the master's address is not

	capacityBits              uint64 // of counted interfaces that are up, 0 where that is not known
	noCapacity, noUtilization string // why, where links are known
}

// addresses are all that this host's interfaces have; none where links are not known.
func (t *topology) addresses() map[netip.Addr]bool {
	addresses := make(map[netip.Addr]bool)
	if t != nil {
		for _, l := range t.links {
			for _, cidr := range l.Addresses {
				if prefix, err := netip.ParsePrefix(cidr); err == nil {
					addresses[prefix.Addr()] = true
				}
			}
		}
	}
	return addresses
}

// same tells whether two readings say the same, so that what was derived from the older one still holds.
func (t *topology) same(other *topology) bool {
	primary := func(t *topology) string {
		if t.primary == nil {
			return ""
		}
		return t.primary.Name
	}
	return t.problem == other.problem && slices.Equal(t.counted, other.counted) && primary(t) == primary(other) &&
		reflect.DeepEqual(t.links, other.links)
}

// watchedTopology keeps a topology up to date beside the sampling path: reading links may wait for a lock of the kernel, and no
// sample waits for that. One goroutine reads; a sample that finds a change asks it to and gives it a moment.
type watchedTopology struct {
	resolve  resolve
	source   LinkSource
	patterns []string
	current  atomic.Pointer[topology]
	done     atomic.Uint64 // readings finished
	asked    atomic.Uint64 // readings asked for
	work     chan struct{} // holds one token while a reading is asked for; a parked goroutine costs no thread
	readAt   atomic.Int64  // when the last reading ended, monotonic nanoseconds
	resting  clock.Waker   // waits between two readings, cut short by close
	closing  atomic.Bool
	stopped  chan struct{}

	mu       sync.Mutex // guards what follows
	master   string     // as the job gives it
	address  netip.Addr // what the name means, invalid while that is not known
	problem  string     // why it is not known
	lookedUp time.Time  // when the name was looked up last
}

// resolve finds out what the master's name means, none for a name of this host that has no address of its own. It gives up once
// givenUp says so.
type resolve func(name string, givenUp func() bool) ([]netip.Addr, error)

const (
	// patience is how long a sample waits for changed links to be read: 0.2 ms are usual for 4 interfaces, 3 ms for 400.
	patience = 20 * time.Millisecond
	// Reading may take one part in restShare of the time, however often links change.
	restShare = 20
	mostRest  = time.Second
	// Speeds may change without a word, and a master's name may come to mean another address.
	refreshPeriod = time.Minute
	// The resolver's configuration may give the first of its servers 5 s before another is asked.
	resolveTimeout = 15 * time.Second
)

// watchTopology starts watching and waits at most most for the first reading.
func watchTopology(source LinkSource, patterns []string, master string, resolve resolve, most time.Duration) *watchedTopology {
	t := &watchedTopology{resolve: resolve, source: source, patterns: patterns, stopped: make(chan struct{}), work: make(chan struct{}, 1)}
	t.current.Store(&topology{problem: "links were not read yet"})
	t.setMaster(master)
	go t.run()
	t.refresh(most)
	return t
}

// setMaster says which address the job's traffic goes to, "" for none.
func (t *watchedTopology) setMaster(master string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.master == master {
		return
	}
	t.master, t.address, t.problem, t.lookedUp = master, netip.Addr{}, "", time.Time{}
	if address, err := netip.ParseAddr(master); err == nil {
		t.address = address.Unmap()
	}
}

// refresh asks for a new reading and waits at most most for it.
func (t *watchedTopology) refresh(most time.Duration) { t.await(t.ask(), most) }

// ask asks for a new reading and returns its ticket.
func (t *watchedTopology) ask() (ticket uint64) {
	ticket = t.asked.Add(1)
	select {
	case t.work <- struct{}{}:
	default:
	}
	return ticket
}

// renew asks for a new reading when the last one is old.
func (t *watchedTopology) renew(now time.Duration) {
	if now-time.Duration(t.readAt.Load()) > refreshPeriod && t.asked.Load() == t.done.Load() {
		t.ask()
	}
}

func (t *watchedTopology) await(ticket uint64, most time.Duration) {
	const step = 100 * time.Microsecond
	for waited := time.Duration(0); waited < most && t.done.Load() < ticket && !t.closing.Load(); waited += step {
		clock.Sleep(step)
	}
}

// survive keeps a defect from ending the host: links are not read any more, and every sample says so.
func (t *watchedTopology) survive() {
	if p := recover(); p != nil {
		t.current.Store(&topology{
			version: t.current.Load().version + 1, problem: fmt.Sprintf("internal error, links are not read any more: %v", p),
		})
	}
}

func (t *watchedTopology) run() {
	defer t.survive()
	defer close(t.stopped)
	system := clock.System()
	for range t.work {
		if t.closing.Load() {
			return
		}
		ticket := t.asked.Load()
		began := system.Monotonic()
		t.read()
		ended := system.Monotonic()
		t.readAt.Store(int64(ended))
		t.done.Store(ticket)
		t.resting.Wait(min((ended-began)*(restShare-1), mostRest))
	}
}

func (t *watchedTopology) read() {
	before := t.current.Load()
	next := &topology{version: before.version + 1}
	defer func() {
		if p := recover(); p != nil {
			next = &topology{version: before.version + 1, problem: fmt.Sprintf("internal error while reading links: %v", p)}
		}
		if !next.same(before) {
			t.current.Store(next)
		}
	}()
	links, err := t.source.Read()
	if err != nil {
		next.problem = err.Error()
		return
	}
	next.links = links
	next.byName = make(map[string]int, len(links))
	for i, l := range links {
		next.byName[l.Name] = i
	}
	next.counted = link.Counted(links, t.patterns)
	next.capacityBits, next.noCapacity, next.noUtilization = capacity(links, next.counted)
	address, problem := t.masterAddress()
	next.problem = problem
	next.primary = link.Primary(links, next.counted, address, t.source.Route, t.source.DefaultRoute())
}

// masterAddress is what the master's name means as far as that is known. A name is looked up beside, and again after a while.
func (t *watchedTopology) masterAddress() (netip.Addr, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := netip.ParseAddr(t.master)
	if isName := err != nil && t.master != ""; isName && time.Since(t.lookedUp) > refreshPeriod/2 {
		t.lookedUp = time.Now()
		go t.lookUp(t.master)
	}
	return t.address, t.problem
}

// knownMaster is the master's address as far as it is known.
func (t *watchedTopology) knownMaster() netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.address
}

// lookUp asks the system's resolver for the job's own master. IPv4 comes first, as in torch's stores.
func (t *watchedTopology) lookUp(name string) {
	defer func() {
		if p := recover(); p != nil {
			t.mu.Lock()
			t.problem = fmt.Sprintf("internal error while looking up %q: %v", name, p)
			t.mu.Unlock()
		}
	}()
	addresses, err := t.resolve(name, t.closing.Load)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.master != name || t.closing.Load() {
		return
	}
	address, problem := t.address, t.problem
	switch {
	case err != nil:
		t.problem = fmt.Sprintf("the master address %q is not known: %v", name, err)
	case len(addresses) > 0:
		t.address, t.problem = addresses[0], ""
	default:
		t.address, t.problem = netip.Addr{}, ""
	}
	if t.address != address || t.problem != problem {
		t.ask()
	}
}

// close stops the reading goroutine and closes the source once it has; it does not wait. Samples that are under way use the
// source under the lock sampling.
func (t *watchedTopology) close(sampling sync.Locker) {
	t.closing.Store(true)
	t.resting.Wake()
	t.ask()
	go func() {
		defer t.survive()
		<-t.stopped
		sampling.Lock()
		defer sampling.Unlock()
		t.source.Close()
	}()
}
