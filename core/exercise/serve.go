package exercise

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"netmon/core/clock"
	"netmon/core/tool/throughput"
)

// listenAgain is how often a server tries to get its port: another process of this host may hold it, and end before this one.
const listenAgain = 30 * time.Second

// server serves the tests of other monitors. One goroutine serves and, where the socket is lost, opens it again.
type server struct {
	at      netip.AddrPort
	clock   clock.Clock
	waker   clock.Waker
	closing atomic.Bool
	socket  atomic.Pointer[throughput.Server] // nil: none could be opened
	before  atomic.Int64                      // nanoseconds of CPU time, of sockets that were lost
	problem atomic.Pointer[string]            // "" for none
}

// Serve serves tests at an address of this host until the engine is closed. It is called once, by a thread in the monitor's network
// namespace. Where the port cannot be had, Problems tells.
func (e *Engine) Serve(at netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing.Load() || e.server.Load() != nil {
		return
	}
	s := &server{at: at, clock: e.Clock}
	s.listen()
	e.server.Store(s)
	e.running++
	go e.serve(s)
}

// Problems are what keeps tests from being served.
func (e *Engine) Problems() []string {
	if s := e.server.Load(); s != nil {
		if p := s.problem.Load(); *p != "" {
			return []string{*p}
		}
	}
	return nil
}

// Serving is where tests are served; invalid for nowhere.
func (e *Engine) Serving() netip.AddrPort {
	if s := e.server.Load(); s != nil {
		if socket := s.socket.Load(); socket != nil {
			return socket.Addr()
		}
	}
	return netip.AddrPort{}
}

// listen opens the socket, in the namespace of the thread.
func (s *server) listen() {
	socket, err := throughput.Listen(s.at, s.clock)
	if err != nil {
		s.tell(fmt.Sprintf("bandwidth_server: %v", err))
		return
	}
	s.socket.Store(socket)
	s.tell("")
}

func (s *server) tell(problem string) { s.problem.Store(&problem) }

func (s *server) used() time.Duration {
	used := time.Duration(s.before.Load())
	if socket := s.socket.Load(); socket != nil {
		used += socket.CPU()
	}
	return used
}

// close makes the goroutine end.
func (s *server) close() {
	s.closing.Store(true)
	if socket := s.socket.Load(); socket != nil {
		socket.Close()
	}
	s.waker.Wake()
}

// serve is the goroutine.
func (e *Engine) serve(s *server) {
	defer e.endServing(s)
	runtime.LockOSThread()
	refused := e.Inside(func() {
		for !s.closing.Load() {
			socket := s.socket.Load()
			if socket == nil {
				s.waker.Wait(listenAgain)
				if !s.closing.Load() {
					s.listen()
				}
				continue
			}
			if s.closing.Load() {
				socket.Close() // close may have missed it
			}
			if failed := socket.Serve(); failed != nil {
				s.tell(fmt.Sprintf("bandwidth_server: %v", failed))
			}
			s.before.Add(int64(socket.CPU()))
			s.socket.Store(nil)
			if !s.closing.Load() {
				s.listen()
			}
		}
	})
	if refused != nil && !s.closing.Load() {
		s.tell(fmt.Sprintf("bandwidth_server: %v", refused))
	}
}

// endServing is the end of the goroutine. A defect must not end the host.
func (e *Engine) endServing(s *server) {
	if p := recover(); p != nil {
		s.tell(fmt.Sprintf("internal error, bandwidth tests are not served any more: %v", p))
	}
	if socket := s.socket.Swap(nil); socket != nil {
		socket.Close()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running--
}
