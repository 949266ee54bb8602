package monitor

import (
	"netmon/core/probe/path"
	"netmon/core/reach"
	"netmon/core/sample"
	"netmon/core/units"
)

// pathAnswer is the answer to a request for the path.
func pathAnswer(answer *reach.Answer) sample.PathAnswer {
	d := sample.PathAnswer{
		ID: answer.ID, Done: answer.Done, Target: answer.Target, MethodsRefused: map[string]string{}, Hops: []sample.Hop{},
		Error: known(answer.Error),
	}
	if answer.Address.IsValid() {
		d.Address = known(answer.Address.String())
	}
	p := answer.Path
	if p == nil {
		d.PathMTUReason = known(or(answer.Error, "the trace has not begun"))
		return d
	}
	d.Method = known(string(p.Method))
	if p.NoICMP != "" {
		d.MethodsRefused["icmp"] = p.NoICMP
	}
	if p.Reached || p.Done {
		d.Reached = &p.Reached
	}
	if p.PathMTU > 0 {
		bytes := int64(p.PathMTU)
		d.PathMTUBytes, d.PathMTUBlackHole = &bytes, &p.BlackHole
	} else {
		d.PathMTUReason = known(or(p.NoPathMTU, "not found yet"))
	}
	if p.Err != nil {
		d.Error = known(p.Err.Error())
	}
	for i := range p.Hops {
		d.Hops = append(d.Hops, hop(&p.Hops[i]))
	}
	return d
}

func hop(h *path.Hop) sample.Hop {
	d := sample.Hop{TTL: int64(h.TTL), OtherAddresses: []string{}, Sent: uint64(h.Sent), Received: uint64(h.Received)}
	if h.Address.IsValid() {
		d.Address = known(h.Address.String())
	}
	for _, other := range h.Others {
		d.OtherAddresses = append(d.OtherAddresses, other.String())
	}
	if h.Timed > 0 {
		least, median := units.Seconds(h.MinRTT), units.Seconds(h.P50RTT)
		d.RTTMinSeconds, d.RTTP50Seconds = &least, &median
	}
	if h.Err != nil {
		d.Error = known(h.Err.Error())
	}
	return d
}
