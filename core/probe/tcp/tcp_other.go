//go:build !linux

package tcp

import (
	"errors"
	"net/netip"

	"netmon/core/probe"
)

// Prober cannot probe on this system.
type Prober struct{}

// New returns a prober whose Send says errors.ErrUnsupported.
func New() *Prober { return &Prober{} }

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
