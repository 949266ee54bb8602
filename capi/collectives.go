package main

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"math"
	"time"

	"netmon/core/collective"
	"netmon/core/monitor"
)

// ring is the ring of a slot, as far as it holds records of one handle.
type ring struct {
	slot  C.uint32_t
	owner C.uint64_t
	room  [256]C.netmon_collective
}

// Drain implements monitor.CollectiveSource.
func (r *ring) Drain(now time.Duration, into []collective.Record) (got int, lost uint64) {
	var gone C.uint64_t
	most := min(len(into), len(r.room))
	got = int(C.netmon_ring_drain(r.slot, r.owner, C.uint64_t(now), &r.room[0], C.uint32_t(most), &gone))
	for i := range got {
		into[i] = recordOf(&r.room[i])
	}
	return got, uint64(gone)
}

// Pending implements monitor.CollectiveSource.
func (r *ring) Pending() (oldest collective.Record, count int, told bool) {
	var c C.netmon_collective
	var many C.uint32_t
	if C.netmon_ring_pending(r.slot, r.owner, &c, &many) == 0 {
		return oldest, 0, false
	}
	return recordOf(&c), int(many), true
}

func recordOf(c *C.netmon_collective) collective.Record {
	return collective.Record{
		Op: collective.Op(c.op), Group: uint32(c.group), End: collective.End(c.end), Bytes: uint64(c.bytes),
		Enter: timeOf(c.enter_ns), Duration: timeOf(c.duration_ns), DurationError: timeOf(c.duration_error_ns),
		Sequence: uint64(c.sequence),
	}
}

// timeOf is a time in nanoseconds; NETMON_UNKNOWN_U64, and what no clock shows, are unknown.
func timeOf(ns C.uint64_t) time.Duration {
	if ns > math.MaxInt64 {
		return collective.Unknown
	}
	return time.Duration(ns)
}

//export goNetmonCollectiveGroup
func goNetmonCollectiveGroup(
	id C.uint64_t, group *C.char, length C.size_t, groupOut *C.uint32_t, errorOut **C.char,
) (status C.int32_t) {
	defer guard(&status, errorOut)
	m := monitors.get(uint64(id))
	if m == nil {
		return fail(errorOut, C.NETMON_ERR_CLOSED, monitor.ErrClosed)
	}
	number, err := m.CollectiveGroup(bytesOf(group, length))
	if err != nil {
		return refuse(errorOut, "group_json", C.NETMON_ERR_INVALID_ARGUMENT, fmt.Errorf("netmon_collective_group: %w", err))
	}
	*groupOut = C.uint32_t(number)
	return C.NETMON_OK
}
