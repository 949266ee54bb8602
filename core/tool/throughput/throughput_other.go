//go:build !linux

package throughput

import (
	"errors"
	"net/netip"
	"time"

	"netmon/core/clock"
	"netmon/core/tool"
)

// Server cannot serve on this system.
type Server struct{}

// Listen says errors.ErrUnsupported.
func Listen(netip.AddrPort, clock.Clock) (*Server, error) { return nil, errors.ErrUnsupported }

// Addr is nowhere.
func (s *Server) Addr() netip.AddrPort { return netip.AddrPort{} }

// CPU is nothing.
func (s *Server) CPU() time.Duration { return 0 }

// Close does nothing.
func (s *Server) Close() {}

// Serve says errors.ErrUnsupported.
func (s *Server) Serve() error { return errors.ErrUnsupported }

// Measure says errors.ErrUnsupported for each direction.
func Measure(r Request, _ clock.Clock) (results []tool.Result) {
	for _, direction := range r.Directions {
		results = append(results, tool.Result{Direction: direction, Err: errors.ErrUnsupported})
	}
	return results
}
