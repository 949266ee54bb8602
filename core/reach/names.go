package reach

import (
	"net/netip"
	"slices"
	"time"

	"netmon/core/probe"
)

const (
	// Names are looked up again as often, in case they come to mean another address.
	lookupPeriod = 30 * time.Second
	// After an error, and where targets do not answer, sooner.
	lookupAgain   = 5 * time.Second
	lookupTimeout = time.Second
)

// name is a name, or the gateway, that targets are called by.
type name struct {
	host      string
	isGateway bool
	users     int
	address   netip.Addr // invalid while it is not known
	problem   string     // why
	token     uint64     // of the lookup under way, 0 for none
	due       time.Duration
	asked     time.Duration // when it was looked up last
}

// take takes over what a lookup found. An address that still holds is kept.
func (n *name) take(addresses []netip.Addr, err error, now time.Duration) {
	n.token, n.asked = 0, now
	if len(addresses) == 0 {
		n.problem, n.due = err.Error(), now+lookupAgain
		return
	}
	n.problem, n.due = "", now+lookupPeriod // one family may have failed: the other will do
	for i := range addresses {
		addresses[i] = addresses[i].Unmap()
	}
	if slices.Contains(addresses, n.address) {
		return
	}
	n.address = addresses[0]
	// IPv4 first, as torch's stores do.
	if i := slices.IndexFunc(addresses, netip.Addr.Is4); i >= 0 {
		n.address = addresses[i]
	}
}

// hurry looks a name up soon, because targets of that name do not answer.
func (n *name) hurry() {
	if n.token == 0 {
		n.due = min(n.due, n.asked+lookupAgain)
	}
}

// nameOf is the name of a target that has to be looked up, nil for an address.
func (l *loop) nameOf(target probe.Target) *name {
	if target.Address.IsValid() || target.Method == probe.DNS {
		return nil
	}
	for _, n := range l.names {
		if n.host == target.Host && n.isGateway == target.Gateway {
			n.users++
			return n
		}
	}
	n := &name{host: target.Host, isGateway: target.Gateway, users: 1}
	l.names = append(l.names, n)
	return n
}

// dropName forgets a name that nothing uses any more.
func (l *loop) dropName(n *name) {
	if n == nil {
		return
	}
	if n.users--; n.users > 0 {
		return
	}
	if n.token != 0 {
		l.resolver.Forget(n.token)
		delete(l.lookups, n.token)
	}
	l.names = slices.DeleteFunc(l.names, func(other *name) bool { return other == n })
}

// lookUp looks up the names that are due.
func (l *loop) lookUp(now time.Duration) {
	for _, n := range l.names {
		if n.token != 0 || n.due > now {
			continue
		}
		if n.isGateway {
			var found []netip.Addr
			address, err := l.tools.Gateway()
			if err == nil {
				found = []netip.Addr{address}
			}
			n.take(found, err, now)
			l.renamed(n)
			continue
		}
		if !l.spend(now) {
			return
		}
		n.token = l.ask(n.host, lookupTimeout)
		l.lookups[n.token] = n
	}
}

// ask starts looking a name up.
func (l *loop) ask(host string, timeout time.Duration) (token uint64) {
	if l.resolver == nil {
		l.resolver = l.tools.Names()
	}
	l.token++
	l.resolver.Lookup(host, l.token, timeout)
	return l.token
}

// renamed tells the aims of a name what it means now.
func (l *loop) renamed(n *name) {
	moved := false
	tell := func(a *aim) {
		if a.name != n {
			return
		}
		if n.address.IsValid() {
			if a.aimAt(n.address) {
				l.recall(a)
				moved = true
			}
		} else {
			a.fail(n.problem)
		}
	}
	for _, a := range l.aims {
		tell(a)
	}
	for _, r := range l.requests {
		tell(r.aim)
	}
	if moved {
		l.hide()
	}
}
