// Package dns resolves names the way the system's resolver is configured to, and times it: hosts file, name servers, search list.
//
// It exists because Go's own resolver opens descriptors that the host process may close over it, runs on Go's timers, and tells no
// time but that of a busy process; and the C library's resolver cannot be bounded. A Resolver never blocks: like a probe.Prober it
// lives in its owner's poll(2) loop. Resolve is the same for a caller that may wait.
//
// What a program that calls getaddrinfo(3) would wait for is what it does: both address families are asked for at once, a server that
// does not answer is given its whole timeout before the next is asked, and a name in the hosts file costs no packet. What it does not
// do: other services of nsswitch.conf than files and dns (multicast DNS, sssd, systemd's own), the order of RFC 6724, caching,
// internationalised names, RES_OPTIONS and LOCALDOMAIN of the environment.
//
// Source: resolv.conf(5), hosts(5), nsswitch.conf(5); RFC 1035, RFC 7766 (TCP), RFC 6891 (EDNS), RFC 6761 (localhost). Needs no
// privilege.
package dns

import (
	"errors"
	"net/netip"
	"time"
)

// Answer is how looking up a name ended.
type Answer struct {
	Token uint64
	// Addresses, IPv4 first, each family in the order of the server. There may be some beside an error: one family was answered
	// and the other was not.
	Addresses []netip.Addr
	// RTT is the time of the whole resolution, also of one that ended in an error: from the first question's leaving to the last
	// answer's arriving, by the kernel's stamps where it gives them; questions to several servers and names included. For a name
	// that took no question it is what reading the hosts file took.
	RTT time.Duration
	// Server answered last; invalid where none was asked or none answered.
	Server netip.AddrPort
	// Hosts: the name is in the hosts file, or means this host by definition; no server was asked.
	Hosts bool
	// Err is a sentence. It wraps ErrNotFound, probe.ErrLost where a server did not answer in time, probe.ErrVoid where something on
	// this host spoilt the lookup, or an errno.
	Err error
	// Sent are the bytes put on the wire for it, from the IP header on.
	Sent int
}

// ErrNotFound means that the resolver answered: there is no such name, or it has no address.
var ErrNotFound = errors.New("name does not resolve")

// Limits that no configuration lifts.
const (
	mostServers   = 3 // as the C library's MAXNS
	mostSearch    = 32
	mostNdots     = 15
	mostTimeout   = 30 * time.Second
	mostAttempts  = 5
	mostAddresses = 64 // kept of one answer
	mostAliases   = 16 // followed from a name to its address
	mostAtATime   = 32 // lookups under way; others wait their turn
)
