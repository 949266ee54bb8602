package exercise

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"netmon/core/tool"
	"netmon/core/tool/throughput"
)

// measure runs a test; there is a result for each direction.
func (e *Engine) measure(r *Request, stop func() bool) []tool.Result {
	results, err := e.by(r, stop)
	if err != nil {
		results = nil
		for _, direction := range r.Directions {
			results = append(results, tool.Result{Direction: direction, Parallel: r.Parallel, Err: err})
		}
	}
	return results
}

func (e *Engine) by(r *Request, stop func() bool) ([]tool.Result, error) {
	switch r.Tool {
	case Netmon:
		return e.netmon(r, stop)
	default:
		return nil, fmt.Errorf("%s: %w", r.Tool, errors.ErrUnsupported)
	}
}

func (e *Engine) netmon(r *Request, stop func() bool) ([]tool.Result, error) {
	address := r.Address
	if !address.IsValid() {
		all, err := e.Resolve(r.Host, stop)
		if err != nil {
			return nil, err
		}
		for i := range all {
			all[i] = all[i].Unmap()
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("%s has no address", r.Host)
		}
		address = all[max(0, slices.IndexFunc(all, netip.Addr.Is4))] // as probes choose
	}
	return throughput.Measure(throughput.Request{
		To: netip.AddrPortFrom(address, r.Port), Directions: r.Directions, Duration: r.Duration, Bytes: r.Bytes,
		Connections: r.Parallel, Timeout: r.Timeout, Stop: stop,
	}, e.Clock), nil
}
