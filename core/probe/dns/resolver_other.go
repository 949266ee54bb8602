//go:build !linux

package dns

import (
	"errors"
	"time"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe"
)

// Resolver looks names up; on this system it cannot.
type Resolver struct{ ready []Answer }

// New returns a resolver that answers every name with errors.ErrUnsupported.
func New(kernelfs.FS, clock.Clock) *Resolver { return &Resolver{} }

// Lookup ends with errors.ErrUnsupported.
func (r *Resolver) Lookup(_ string, token uint64, _ time.Duration) {
	r.ready = append(r.ready, Answer{Token: token, Err: errors.ErrUnsupported})
}

// Descriptors appends nothing.
func (r *Resolver) Descriptors(set []probe.Descriptor) []probe.Descriptor { return set }

// Due is when Receive wants to be called.
func (r *Resolver) Due() (at time.Duration, ok bool) { return 0, len(r.ready) > 0 }

// Receive hands out the lookups that ended since the last call.
func (r *Resolver) Receive(yield func(Answer)) (sent int) {
	for _, answer := range r.ready {
		yield(answer)
	}
	r.ready = nil
	return 0
}

// Forget gives a lookup up.
func (r *Resolver) Forget(token uint64) {
	kept := r.ready[:0]
	for _, answer := range r.ready {
		if answer.Token != token {
			kept = append(kept, answer)
		}
	}
	r.ready = kept
}

// Close gives up all lookups.
func (r *Resolver) Close() { r.ready = nil }
