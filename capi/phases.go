package main

/*
#include "shim.h"
*/
import "C"

import (
	"netmon/core/monitor"
	"netmon/core/phase"
)

//export goNetmonPhaseBegin
func goNetmonPhaseBegin(
	id C.uint64_t, name *C.char, length C.size_t, phaseOut *C.uint64_t, errorOut **C.char,
) (status C.int32_t) {
	defer guard(&status, errorOut)
	m := monitors.get(uint64(id))
	if m == nil {
		return fail(errorOut, C.NETMON_ERR_CLOSED, monitor.ErrClosed)
	}
	number, err := m.BeginPhase(bytesOf(name, length))
	if err != nil {
		return fail(errorOut, statusOf(err, C.NETMON_ERR_INVALID_ARGUMENT), err)
	}
	*phaseOut = C.uint64_t(number)
	return C.NETMON_OK
}

//export goNetmonPhaseEnd
func goNetmonPhaseEnd(id C.uint64_t, number C.uint64_t, phaseOut *C.netmon_phase, errorOut **C.char) (status C.int32_t) {
	defer guard(&status, errorOut)
	m := monitors.get(uint64(id))
	if m == nil {
		return fail(errorOut, C.NETMON_ERR_CLOSED, monitor.ErrClosed)
	}
	f, err := m.EndPhase(uint64(number))
	if err != nil {
		return fail(errorOut, statusOf(err, C.NETMON_ERR_INVALID_ARGUMENT), err)
	}
	*phaseOut = C.netmon_phase{
		verdict:                  verdictOf(f.Verdict),
		duration_ns:              C.uint64_t(f.Duration),
		receive_bytes:            C.uint64_t(f.Receive),
		transmit_bytes:           C.uint64_t(f.Transmit),
		tcp_bytes:                C.uint64_t(f.TCP),
		loopback_bytes:           C.uint64_t(f.Loopback),
		rdma_bytes:               C.uint64_t(f.RDMA),
		segments_sent:            C.uint64_t(f.Sent),
		segments_retransmitted:   C.uint64_t(f.Retransmitted),
		retransmit_ratio:         C.double(f.RetransmitRatio),
		utilization_ratio:        C.double(f.Utilization),
		peak_bytes_per_second:    C.double(f.Peak),
		peak_ratio:               C.double(f.PeakRatio),
		busy_ratio:               C.double(f.Busy),
		full_ratio:               C.double(f.Full),
		plateau_bytes_per_second: C.double(f.Plateau),
		steady_ratio:             C.double(f.Steady),
		waiting_ratio:            C.double(f.Waiting),
	}
	return C.NETMON_OK
}

func verdictOf(v phase.Verdict) C.uint32_t {
	switch v {
	case phase.Idle:
		return C.NETMON_VERDICT_IDLE
	case phase.SoftwareBound:
		return C.NETMON_VERDICT_SOFTWARE_BOUND
	case phase.LinkBound:
		return C.NETMON_VERDICT_LINK_BOUND
	}
	return C.NETMON_VERDICT_UNKNOWN
}
