package exercise

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"netmon/core/tool"
	"netmon/core/tool/iperf3"
	"netmon/core/tool/speedtest"
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
	case IPerf3:
		return e.iperf3(r, stop)
	case Speedtest:
		out, err := e.run(r, speedtest.Name, speedtest.Arguments(r.Directions, r.Target), r.Timeout, stop)
		if err != nil {
			return nil, err
		}
		return speedtest.Results(out, r.Directions), nil
	default:
		return e.netmon(r, stop)
	}
}

// iperf3 runs it once for each direction, until one fails.
func (e *Engine) iperf3(r *Request, stop func() bool) (results []tool.Result, err error) {
	end := e.Clock.Monotonic() + r.Timeout
	for _, direction := range r.Directions {
		if err != nil {
			results = append(results, tool.Result{Direction: direction, Parallel: r.Parallel, Err: err})
			continue
		}
		left := end - e.Clock.Monotonic()
		var out tool.Output
		if left <= 0 {
			err = fmt.Errorf("the other direction took all %.0f s", r.Timeout.Seconds())
		} else {
			out, err = e.run(r, iperf3.Name, iperf3.Arguments(iperf3.Options{
				Host: r.Host, Port: r.Port, Direction: direction, Seconds: int(r.Duration / time.Second), Parallel: r.Parallel,
				Connect: min(connecting, left),
			}), left, stop)
		}
		result := tool.Result{Direction: direction, Parallel: r.Parallel, Err: err}
		if err == nil {
			if result = iperf3.Result(out, direction); result.Err != nil {
				result.Parallel = r.Parallel
			}
			err = result.Err
		}
		results = append(results, result)
	}
	return results, nil
}

// connecting is how long iperf3 tries to reach its server.
const connecting = 5 * time.Second

// run runs a tool's program.
func (e *Engine) run(r *Request, name string, arguments []string, timeout time.Duration, stop func() bool) (out tool.Output, err error) {
	if e.Spawn == nil {
		return out, fmt.Errorf("%s: programs cannot be run here: %w", name, errors.ErrUnsupported)
	}
	program := name
	if r.Program != "" {
		program = r.Program
	}
	searched, _ := e.Variable("PATH")
	path, err := tool.Find(program, searched)
	if err != nil {
		return out, err
	}
	return tool.Run(e.Spawn, name, tool.Program{Path: path, Arguments: arguments, Environment: tool.Environment(e.Variable)},
		tool.Limits{Timeout: timeout, Stop: stop}, e.Clock)
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
