package probe_test

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/nettest"
	"netmon/core/probe"
)

// BenchmarkProbe is what one answered probe costs, with its wait in poll(2): the time of this thread, that of the kernel's work on
// both ends of the link included, which is done in it.
func BenchmarkProbe(b *testing.B) {
	for _, m := range []struct {
		name string
		open func(*testing.B) (probe.Prober, netip.AddrPort)
	}{
		{"icmp", func(b *testing.B) (probe.Prober, netip.AddrPort) { return openICMP(b), to(nettest.There4, 0) }},
		{"tcp", func(b *testing.B) (probe.Prober, netip.AddrPort) {
			return openTCP(b), to(nettest.There4, acceptingPort)
		}},
		{"tcp_refused", func(b *testing.B) (probe.Prober, netip.AddrPort) { return openTCP(b), to(nettest.There4, 1) }},
		{"udp", func(b *testing.B) (probe.Prober, netip.AddrPort) { return openUDP(b), to(nettest.There4, udpPort) }},
	} {
		b.Run(m.name, func(b *testing.B) {
			here, there := nettest.Pair(b)
			everyone(here)
			listen(there, acceptingPort)
			echo(there, udpPort)
			p, target := m.open(b)
			one(b, p, target, 0)
			var set []unix.PollFd
			var descriptors []probe.Descriptor
			token, ended := uint64(1), 0
			yield := func(r probe.Result) {
				if r.Err != nil {
					b.Fatal(r.Err)
				}
				ended++
			}
			b.ReportAllocs()
			before := threadCPU(b)
			for b.Loop() {
				_, err := p.Send(target, token)
				require.NoError(b, err)
				token++
				for ended = 0; ended == 0; p.Receive(yield) {
					set = set[:0]
					for _, d := range p.Descriptors(descriptors[:0]) {
						events := int16(unix.POLLIN)
						if d.Write {
							events = unix.POLLOUT
						}
						set = append(set, unix.PollFd{Fd: int32(d.FD), Events: events})
					}
					if p.Receive(yield); ended == 0 {
						_, _ = unix.Poll(set, 1000)
					}
				}
			}
			b.ReportMetric(float64(threadCPU(b)-before)/float64(b.N), "cpu-ns/op")
			runtime.KeepAlive(p)
		})
	}
}

// echo answers questions without a limit and without taking its own time off, which a benchmark does not look at.
func echo(h *nettest.Host, port int) {
	fd := forge(h, port)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 200)
		for {
			n, from, err := unix.Recvfrom(fd, buffer, 0)
			if n == 0 || err != nil { // shut down
				return
			}
			buffer[5] = 2 // an answer
			_ = unix.Sendto(fd, buffer[:n], 0, from)
		}
	}()
	h.T.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RD)
		<-done
	})
}

func threadCPU(b *testing.B) int64 {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_THREAD, &usage))
	return usage.Utime.Nano() + usage.Stime.Nano()
}
