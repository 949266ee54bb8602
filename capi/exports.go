// Package main is netmon's C ABI: hidden Go exports behind the C functions of include/netmon.h.
//
// It is the only package with cgo and has no measurement logic: each export finds its monitor, calls core, and converts. The C
// files of this folder check arguments, forks and signals before they call in here, and publish what netmon_latest reads.
package main

/*
#cgo CFLAGS: -std=gnu11 -fvisibility=hidden
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"netmon/core/collective"
	"netmon/core/exercise"
	"netmon/core/monitor"
)

func main() {}

func init() {
	// The library is a guest: one thread of Go at a time is enough, because samples take turns anyway, and a small heap is
	// collected early. With a second one the runtime's own watching thread would go on for 10 ms after each sample, waking 15
	// times: as much CPU time as the sample takes. GOGC and the like in the environment are meant for other programs.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	ballast = make([]byte, ballastBytes)
	debug.SetGCPercent(1)
	debug.SetMemoryLimit(ballastBytes + 64<<20)
}

// ballast is never touched, so it takes addresses and no memory. It is counted as live: garbage is collected after every MiB or
// so, whatever the monitors hold. And what they hold is a small part of the whole, so that the heap never shrinks by the tenth
// at which the runtime would begin to give memory back on a timer; twenty monitors that are closed together, or a host that closes
// every descriptor again and again, free some 4 MiB. Its first timer opens an epoll and an event descriptor for good, and the
// runtime ends the process if the host closes these, as os.closerange does.
var ballast []byte

const ballastBytes = 128 << 20

// fail hands a sentence to the caller.
func fail(errorOut **C.char, status C.int32_t, err error) C.int32_t {
	if errorOut == nil {
		return status
	}
	// C.CString would end the process where there is no memory; here the status goes out without a sentence.
	var text cText
	defer text.free()
	if _, failed := text.Write([]byte(strings.ToValidUTF8(err.Error(), "?"))); failed != nil {
		return status
	}
	if sentence, failed := text.hand(); failed == nil {
		*errorOut = sentence
	}
	return status
}

// refuse hands out why core refused a text; wrongText is the status for that. A text that is wrong as a whole is called by the
// name of its argument, other errors name their key.
func refuse(errorOut **C.char, argument string, wrongText C.int32_t, err error) C.int32_t {
	var text *monitor.TextError
	if errors.As(err, &text) && text.Key == "" {
		return fail(errorOut, wrongText, fmt.Errorf("%s: %s", argument, text.Text))
	}
	return fail(errorOut, statusOf(err, wrongText), err)
}

// guard turns a panic into a status: one that left an export would end the host process.
func guard(status *C.int32_t, errorOut **C.char) {
	if p := recover(); p != nil {
		*status = fail(errorOut, C.NETMON_ERR_INTERNAL, fmt.Errorf("internal error: %v", p))
	}
}

// statusOf is the status for an error of core; wrongText is the one for a text that is not understood.
func statusOf(err error, wrongText C.int32_t) C.int32_t {
	var text *monitor.TextError
	switch {
	case err == nil:
		return C.NETMON_OK
	case errors.As(err, &text):
		return wrongText
	case errors.Is(err, monitor.ErrClosed):
		return C.NETMON_ERR_CLOSED
	case errors.Is(err, monitor.ErrNoPhase):
		return C.NETMON_ERR_INVALID_ARGUMENT
	case errors.Is(err, monitor.ErrNoCollectives):
		return C.NETMON_ERR_UNSUPPORTED
	case errors.Is(err, errNoMemory), errors.Is(err, monitor.ErrBusy), errors.Is(err, monitor.ErrBusyTest),
		errors.Is(err, collective.ErrTooManyGroups), errors.Is(err, monitor.ErrTooManyPhases),
		errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE),
		errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOBUFS):
		return C.NETMON_ERR_RESOURCES
	default:
		return C.NETMON_ERR_INTERNAL
	}
}

// bytesOf is a view of C memory, valid during the call.
func bytesOf(text *C.char, length C.size_t) []byte {
	if text == nil || length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(text)), int(length))
}

// turn lets one bandwidth test of the process run at a time.
var turn exercise.Turn

//export goNetmonInit
func goNetmonInit(id C.uint64_t, slot C.uint32_t, config *C.char, length C.size_t, errorOut **C.char) (status C.int32_t) {
	defer guard(&status, errorOut)
	parsed, err := monitor.ParseConfig(bytesOf(config, length))
	if err != nil {
		return refuse(errorOut, "config_json", C.NETMON_ERR_CONFIG, err)
	}
	m, err := monitor.New(parsed, monitor.Options{
		Version:     C.NETMON_VERSION,
		Publish:     func(s *monitor.Snapshot) { publish(slot, s) },
		Released:    func() { C.netmon_slot_release(slot) },
		NVML:        openNVML,
		Spawn:       spawn,
		Turn:        &turn,
		Collectives: &ring{slot: slot, owner: id},
	})
	if err != nil {
		return fail(errorOut, statusOf(err, C.NETMON_ERR_CONFIG), err)
	}
	monitors.put(uint64(id), m)
	return C.NETMON_OK
}

//export goNetmonClose
func goNetmonClose(id C.uint64_t) (status C.int32_t) {
	defer guard(&status, nil)
	if m := monitors.take(uint64(id)); m != nil {
		m.Close()
	}
	return C.NETMON_OK
}

//export goNetmonSample
func goNetmonSample(id C.uint64_t, jsonOut **C.char, errorOut **C.char) (status C.int32_t) {
	defer guard(&status, errorOut)
	return answer(uint64(id), &usualSample, jsonOut, errorOut, func(m *monitor.Monitor, text *cText) error {
		return m.Sample(text)
	})
}

//export goNetmonQuery
func goNetmonQuery(id C.uint64_t, request *C.char, length C.size_t, jsonOut **C.char, errorOut **C.char) (status C.int32_t) {
	defer guard(&status, errorOut)
	return answer(uint64(id), &usualAnswer, jsonOut, errorOut, func(m *monitor.Monitor, text *cText) error {
		return m.Query(bytesOf(request, length), text)
	})
}

//export goNetmonProbe
func goNetmonProbe(
	id C.uint64_t, request *C.char, length C.size_t, call *C.netmon_waiting, jsonOut **C.char, errorOut **C.char,
) (status C.int32_t) {
	defer guard(&status, errorOut)
	return await(uint64(id), call, jsonOut, errorOut, bytesOf(request, length), (*monitor.Monitor).Probe, (*monitor.Monitor).AwaitProbe)
}

//export goNetmonBandwidth
func goNetmonBandwidth(
	id C.uint64_t, request *C.char, length C.size_t, call *C.netmon_waiting, jsonOut **C.char, errorOut **C.char,
) (status C.int32_t) {
	defer guard(&status, errorOut)
	return await(uint64(id), call, jsonOut, errorOut, bytesOf(request, length), (*monitor.Monitor).Test, (*monitor.Monitor).AwaitTest)
}

// waitSlice is how long one entry of a call waits that waits for an answer.
const waitSlice = 100 * time.Millisecond

// errGoesOn means that there is no answer yet.
var errGoesOn = errors.New("not answered yet")

// await is one entry of a call that waits: the first begins what is asked for.
func await(
	id uint64, call *C.netmon_waiting, jsonOut, errorOut **C.char, request []byte,
	begin func(*monitor.Monitor, []byte) (monitor.Pending, error),
	wait func(*monitor.Monitor, *monitor.Pending, time.Duration, io.Writer) (bool, error),
) C.int32_t {
	call.goes_on = 0
	return answer(id, nil, jsonOut, errorOut, func(m *monitor.Monitor, text *cText) (err error) {
		p := monitor.Pending{ID: uint64(call.request), Left: time.Duration(call.left_ns)}
		if p.ID == 0 {
			if p, err = begin(m, request); err != nil {
				return err
			}
		}
		answered, err := wait(m, &p, waitSlice, text)
		if err == nil && !answered {
			*call = C.netmon_waiting{request: C.uint64_t(p.ID), left_ns: C.int64_t(p.Left), goes_on: 1}
			return errGoesOn
		}
		return err
	})
}

//export goNetmonSetJob
func goNetmonSetJob(id C.uint64_t, job *C.char, length C.size_t, errorOut **C.char) (status C.int32_t) {
	defer guard(&status, errorOut)
	m := monitors.get(uint64(id))
	if m == nil {
		return fail(errorOut, C.NETMON_ERR_CLOSED, monitor.ErrClosed)
	}
	identity, variables, err := monitor.ParseJob(bytesOf(job, length))
	if err == nil {
		err = m.SetJob(identity, variables)
	}
	if err != nil {
		return refuse(errorOut, "job_json", C.NETMON_ERR_CONFIG, err)
	}
	return C.NETMON_OK
}

// What the last sample and the last answer to a query took.
var usualSample, usualAnswer atomic.Int64

// answer hands out what write writes for a monitor; usual is what that took the last time.
func answer(
	id uint64, usual *atomic.Int64, jsonOut, errorOut **C.char, write func(*monitor.Monitor, *cText) error,
) C.int32_t {
	m := monitors.get(id)
	if m == nil {
		return fail(errorOut, C.NETMON_ERR_CLOSED, monitor.ErrClosed)
	}
	text := cText{usual: usual}
	defer text.free()
	if err := write(m, &text); errors.Is(err, errGoesOn) {
		return C.NETMON_OK
	} else if err != nil {
		return refuse(errorOut, "request_json", C.NETMON_ERR_INVALID_ARGUMENT, err)
	}
	handed, err := text.hand()
	if err != nil {
		return fail(errorOut, C.NETMON_ERR_RESOURCES, err)
	}
	*jsonOut = handed
	return C.NETMON_OK
}

// publish hands a snapshot to the C half.
func publish(slot C.uint32_t, s *monitor.Snapshot) {
	C.netmon_signals_mend()
	shared := C.netmon_snapshot{
		sequence:                          C.uint64_t(s.Sequence),
		wall_time_ns:                      C.uint64_t(s.WallTimeNanoseconds),
		monotonic_time_ns:                 C.uint64_t(s.MonotonicTimeNanoseconds),
		window_ns:                         C.uint64_t(s.WindowNanoseconds),
		receive_bytes_total:               C.uint64_t(s.ReceiveBytesTotal),
		transmit_bytes_total:              C.uint64_t(s.TransmitBytesTotal),
		receive_bytes_per_second:          C.double(s.ReceiveBytesPerSecond),
		transmit_bytes_per_second:         C.double(s.TransmitBytesPerSecond),
		primary_receive_bytes_per_second:  C.double(s.PrimaryReceiveBytesPerSecond),
		primary_transmit_bytes_per_second: C.double(s.PrimaryTransmitBytesPerSecond),
		errors_in_window:                  C.uint64_t(s.ErrorsInWindow),
		drops_in_window:                   C.uint64_t(s.DropsInWindow),
		tcp_retransmit_ratio:              C.double(s.TCPRetransmitRatio),
		tcp_established:                   C.uint64_t(s.TCPEstablished),
		rtt_p50_ns:                        C.uint64_t(s.RTTP50Nanoseconds),
		loss_ratio:                        C.double(s.LossRatio),
		utilization_ratio:                 C.double(s.UtilizationRatio),
		peer_connections:                  C.uint64_t(s.PeerConnections),
		peer_sent_bytes_per_second:        C.double(s.PeerSentBytesPerSecond),
		peer_received_bytes_per_second:    C.double(s.PeerReceivedBytesPerSecond),
		peer_rtt_p50_ns:                   C.uint64_t(s.PeerRTTP50Nanoseconds),
		peer_retransmit_ratio:             C.double(s.PeerRetransmitRatio),
		rdma_receive_bytes_per_second:     C.double(s.RDMAReceiveBytesPerSecond),
		rdma_transmit_bytes_per_second:    C.double(s.RDMATransmitBytesPerSecond),
		transport_plane:                   C.uint64_t(s.TransportPlane),
	}
	C.netmon_slot_publish(slot, &shared)
}
