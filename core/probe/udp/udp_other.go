//go:build !linux

package udp

import (
	"errors"
	"net/netip"

	"netmon/core/probe"
)

// Prober cannot probe on this system.
type Prober struct{}

// New returns errors.ErrUnsupported.
func New() (*Prober, error) { return nil, errors.ErrUnsupported }

// Send returns errors.ErrUnsupported.
func (p *Prober) Send(netip.AddrPort, uint64) (sent int, err error) { return 0, errors.ErrUnsupported }

// Descriptors appends nothing.
func (p *Prober) Descriptors(set []probe.Descriptor) []probe.Descriptor { return set }

// Receive has nothing to hand out.
func (p *Prober) Receive(func(probe.Result)) {}

// Forget does nothing.
func (p *Prober) Forget(uint64) {}

// Close does nothing.
func (p *Prober) Close() {}

// Responder cannot answer on this system.
type Responder struct{}

// Listen returns errors.ErrUnsupported.
func Listen(netip.AddrPort) (*Responder, error) { return nil, errors.ErrUnsupported }

// Addr is no address.
func (r *Responder) Addr() netip.AddrPort { return netip.AddrPort{} }

// Counters are all 0.
func (r *Responder) Counters() Counters { return Counters{} }

// Serve returns errors.ErrUnsupported.
func (r *Responder) Serve() error { return errors.ErrUnsupported }

// Close does nothing.
func (r *Responder) Close() {}
