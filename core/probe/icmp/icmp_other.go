//go:build !linux || probing

// The tag probing builds this on Linux too, for tests and to compare the two.

package icmp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	probing "github.com/prometheus-community/pro-bing"

	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

// Prober probes by ICMP echo, with pro-bing: user-space time, and ICMP errors are not heard. It has goroutines for each probe under
// way, and nothing to wait for: Receive has to be called now and then.
type Prober struct {
	mu      sync.Mutex // guards what follows
	results []probe.Result
	cancels map[uint64]context.CancelFunc // of probes under way, by token

	running sync.WaitGroup
}

// New returns a prober.
func New() (*Prober, error) { return &Prober{cancels: make(map[uint64]context.CancelFunc)}, nil }

// Send implements probe.Prober. It returns once the system took the packet.
func (p *Prober) Send(to netip.AddrPort, token uint64) (sent int, err error) {
	address := to.Addr().Unmap()
	if !address.IsValid() || address.IsMulticast() {
		return 0, fmt.Errorf("%s is not the address of one host", address)
	}
	// Windows has no ping sockets, and needs no right for what pro-bing does instead.
	err = fs.ErrPermission
	if runtime.GOOS != "windows" {
		err = p.start(address, token, false)
	}
	if errors.Is(err, fs.ErrPermission) {
		err = p.start(address, token, true)
	}
	if err != nil {
		return 0, fmt.Errorf("send to %s: %w", address, err)
	}
	return sentBytes(address.Is6()), nil
}

// start starts one probe, by a raw socket if so told, and waits until it was sent or refused.
func (p *Prober) start(address netip.Addr, token uint64, raw bool) error {
	pinger := probing.New("")
	pinger.SetIPAddr(&net.IPAddr{IP: address.AsSlice(), Zone: address.Zone()})
	pinger.SetPrivileged(raw)
	pinger.SetLogger(probing.NoopLogger{})
	pinger.Count, pinger.Size, pinger.Timeout = 1, payloadBytes, 2*probe.MostTimeout
	handed := make(chan error, 2)
	ctx, cancel := context.WithCancel(context.Background())
	began := time.Now()
	pinger.OnSend = func(*probing.Packet) {
		p.mu.Lock()
		p.cancels[token] = cancel
		p.mu.Unlock()
		handed <- nil
	}
	pinger.OnRecv = func(packet *probing.Packet) { p.answered(token, packet.Rtt, time.Since(began)) }
	p.running.Add(1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				handed <- fmt.Errorf("pro-bing: %v", r)
			}
			cancel()
			p.running.Done()
		}()
		handed <- pinger.RunWithContext(ctx)
	}()
	return <-handed
}

// answered notes the end of a probe. pro-bing subtracts times of day.
func (p *Prober) answered(token uint64, rtt, elapsed time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, waited := p.cancels[token]; !waited {
		return
	}
	delete(p.cancels, token)
	result := probe.Result{Token: token, Method: probe.ICMP, RTT: rtt}
	if rtt < 0 || rtt > elapsed+time.Millisecond {
		result.RTT, result.Err = 0, stamp.ErrStepped
	}
	p.results = append(p.results, result)
}

// Descriptors implements probe.Prober.
func (p *Prober) Descriptors(set []probe.Descriptor) []probe.Descriptor { return set }

// Receive implements probe.Prober.
func (p *Prober) Receive(yield func(probe.Result)) {
	p.mu.Lock()
	results := p.results
	p.results = nil
	p.mu.Unlock()
	for _, r := range results {
		yield(r)
	}
}

// Forget implements probe.Prober.
func (p *Prober) Forget(token uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel, found := p.cancels[token]; found {
		delete(p.cancels, token)
		cancel()
	}
	// Its answer may have come, and not been handed out yet.
	p.results = slices.DeleteFunc(p.results, func(r probe.Result) bool { return r.Token == token })
}

// Close implements probe.Prober. It waits for its goroutines, which end within about 0.1 s.
func (p *Prober) Close() {
	p.mu.Lock()
	for token, cancel := range p.cancels {
		delete(p.cancels, token)
		cancel()
	}
	p.mu.Unlock()
	p.running.Wait()
}
