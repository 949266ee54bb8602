package udp

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// Hard limits of what a responder does. One source is an IPv4 address or the /64 network of an IPv6 address: a host with eight
// ranks that all probe as fast as netmon lets them sends 400 questions a second.
const (
	answersPerSecondToOne, burstToOne = 500, 100
	answersPerSecond, burst           = 5000, 500
	packetsPerSecond, burstOfPackets  = 20000, 2000 // read at all; beyond that the kernel drops them

	sources = 1024 // that are told apart; more share what is one source's
)

// bucket limits a rate: it is the time at which it is full again (the virtual scheduling form of GCRA, ITU-T I.371).
type bucket time.Duration

// take takes one out, and tells whether one was there.
func (b *bucket) take(now, interval time.Duration, burst int) bool {
	full := max(time.Duration(*b), now)
	if full-now > time.Duration(burst-1)*interval {
		return false
	}
	*b = bucket(full + interval)
	return true
}

// limiter limits the answers to each source and in total. Its size is fixed: which bucket is a source's is a hash of its address.
type limiter struct {
	seed  maphash.Seed
	total bucket
	each  [sources]bucket
}

func newLimiter() *limiter { return &limiter{seed: maphash.MakeSeed()} }

// allow tells whether a source may be answered now. now never goes back.
func (l *limiter) allow(source netip.Addr, now time.Duration) bool {
	if source.Is6() {
		if network, err := source.WithZone("").Prefix(64); err == nil {
			source = network.Addr()
		}
	}
	own := &l.each[maphash.Comparable(l.seed, source)%sources]
	return own.take(now, time.Second/answersPerSecondToOne, burstToOne) && l.total.take(now, time.Second/answersPerSecond, burst)
}
