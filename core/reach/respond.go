package reach

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"netmon/core/clock"
	"netmon/core/probe/udp"
)

// listenAgain is how often a responder tries to get its port: another process of this host may hold it, and end before this one.
const listenAgain = 30 * time.Second

// responder answers the UDP echoes of other monitors. One goroutine serves and, where the socket is lost, opens it again.
type responder struct {
	at      netip.AddrPort
	waker   clock.Waker
	closing atomic.Bool
	state   atomic.Pointer[responding]
	problem atomic.Pointer[string]
}

// responding is what a responder does at the moment.
type responding struct {
	socket *udp.Responder // nil: none could be opened
	// Of sockets that were lost:
	before uint64        // bytes of the answers
	cpu    time.Duration // time used
}

// bytes are those of all answers, from the IP header on.
func (s *responding) bytes(at netip.AddrPort) uint64 {
	if s.socket == nil {
		return s.before
	}
	return s.before + s.socket.Counters().Answered*uint64(udp.AnswerBytes(at.Addr().Is6()))
}

// used is the CPU time of all answers.
func (s *responding) used() time.Duration {
	if s.socket == nil {
		return s.cpu
	}
	return s.cpu + s.socket.Counters().CPU
}

// Respond answers UDP echoes at an address of this host until the engine is closed. It is called once, by a thread in the monitor's
// network namespace. Where the port cannot be had, Problems tells.
func (e *Engine) Respond(at netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.responder.Load() != nil {
		return
	}
	r := &responder{at: at}
	r.state.Store(&responding{})
	r.listen()
	e.responder.Store(r)
	e.loops++
	go e.respond(r)
}

// listen opens the socket, in the namespace of the thread.
func (r *responder) listen() {
	socket, err := udp.Listen(r.at)
	if err != nil {
		r.tell(fmt.Sprintf("udp_responder: %v", err))
		return
	}
	lost := r.state.Load()
	r.state.Store(&responding{socket: socket, before: lost.before, cpu: lost.cpu})
	r.tell("")
}

func (r *responder) tell(problem string) { r.problem.Store(&problem) }

// close makes the goroutine end.
func (r *responder) close() {
	r.closing.Store(true)
	if socket := r.state.Load().socket; socket != nil {
		socket.Close()
	}
	r.waker.Wake()
}

// respond is the goroutine.
func (e *Engine) respond(r *responder) {
	defer e.endResponding(r)
	runtime.LockOSThread()
	leave, err := e.namespace.enter()
	if leave != nil {
		defer leave() // and the thread ends with the goroutine
	} else {
		defer runtime.UnlockOSThread()
	}
	for !r.closing.Load() {
		s := r.state.Load()
		if s.socket == nil {
			r.waker.Wait(listenAgain)
		} else {
			if r.closing.Load() {
				s.socket.Close() // close may have missed it
			}
			if failed := s.socket.Serve(); failed != nil {
				r.tell(fmt.Sprintf("udp_responder: %v", failed))
			}
			r.state.Store(&responding{before: s.bytes(r.at), cpu: s.used()})
		}
		if err == nil && !r.closing.Load() {
			r.listen()
		}
	}
}

// endResponding is the end of the goroutine. A defect must not end the host.
func (e *Engine) endResponding(r *responder) {
	if p := recover(); p != nil {
		r.tell(fmt.Sprintf("internal error, UDP echoes are not answered any more: %v", p))
	}
	if socket := r.state.Load().socket; socket != nil {
		socket.Close()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended()
}
