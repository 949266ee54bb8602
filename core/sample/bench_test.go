package sample

import (
	"fmt"
	"io"
	"testing"
)

// made is a document of so many interfaces with every field known.
func made(interfaces int, keep bool) *Sample {
	number, real, text, yes := uint64(123456789), 12345.678, "eth0", true
	index := int64(7)
	traffic := Traffic{
		&number, &number, &number, &number, &number, &number, &number, &number, &real, &real, &real, &real,
	}
	s := &Sample{
		Schema: Schema, Sequence: 7, TimestampSeconds: 1.7e9, MonotonicSeconds: 1234.5, WindowSeconds: &real,
		Host: &Host{Hostname: &text, OS: "linux", Kernel: &text, BootID: &text, NetworkNamespace: &number},
		Job:  &Job{}, Totals: &Totals{Traffic: traffic},
		TCP: &TCP{&number, &number, &number, &number, &real, &number, &number, &number, &number, &number, &number, &number, &number},
		UDP: &UDP{&number, &number, &number, &number, &number, &number}, IP: &IP{&number, &number, &number, &number, &number},
		Sockets: &Sockets{&number, &number, &number, &number, &number}, Self: &Self{Version: "0.1.0", Health: "ok"},
		Unavailable: map[string]string{},
	}
	for _, name := range []string{"probes", "peers", "rdma", "collectives", "phases", "transport", "bandwidth_tests", "findings"} {
		s.Unavailable[name] = "not measured by this version"
	}
	if keep {
		s.Lack(NewReasons(s.Unavailable))
	}
	for i := range interfaces {
		one := &Interface{
			Name: fmt.Sprintf("veth%d", i), Index: &index, Kind: &text, Counted: &yes, Primary: &yes, State: &text, MTU: &number,
			Addresses: []string{"10.0.0.1/24"}, Resets: &number, Traffic: traffic,
			ReceiveFIFOErrorsTotal: &number, ReceiveFrameErrorsTotal: &number, ReceiveMulticastTotal: &number,
			ReceiveCompressedTotal: &number, TransmitFIFOErrorsTotal: &number, TransmitCarrierErrorsTotal: &number,
			TransmitCollisionsTotal: &number, TransmitCompressedTotal: &number,
		}
		if keep {
			_ = one.Keep()
		}
		s.Interfaces = append(s.Interfaces, one)
	}
	return s
}

func BenchmarkWriteJSON(b *testing.B) {
	for name, keep := range map[string]bool{"kept": true, "fresh": false} {
		for _, interfaces := range []int{4, 400} {
			b.Run(fmt.Sprintf("%s-%d", name, interfaces), func(b *testing.B) {
				s := made(interfaces, keep)
				b.ReportAllocs()
				for b.Loop() {
					if err := s.WriteJSON(io.Discard); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
