// Command probing probes with pro-bing alone, as its README does, for comparison: its time is that of user space.
//
//	probing -raw -count N -interval D -timeout D -size BYTES ADDRESS...
//
// It prints a JSON object of what was found of each address: {"sent": 3, "seconds": [0.0001, ...]}.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	probing "github.com/prometheus-community/pro-bing"
)

type found struct {
	Sent    int       `json:"sent"`
	Seconds []float64 `json:"seconds"` // of the round trips
}

func main() {
	raw := flag.Bool("raw", false, "use raw sockets, not ping sockets")
	count := flag.Int("count", -1, "probes of each address, -1 for no end")
	interval := flag.Duration("interval", time.Second, "between two probes of an address")
	timeout := flag.Duration("timeout", time.Second, "after the last probe")
	size := flag.Int("size", 56, "bytes behind the ICMP header")
	flag.Parse()

	all := make(map[string]*found)
	var running sync.WaitGroup
	for _, address := range flag.Args() {
		pinger, err := probing.NewPinger(address)
		if err != nil {
			fail(err)
		}
		f := &found{Seconds: []float64{}}
		all[address] = f
		pinger.SetPrivileged(*raw)
		pinger.SetLogger(probing.NoopLogger{})
		pinger.Count, pinger.Interval, pinger.Size, pinger.RecordRtts = *count, *interval, *size, false
		if *count > 0 {
			pinger.Timeout = time.Duration(*count)*(*interval) + *timeout
		}
		pinger.OnRecv = func(p *probing.Packet) { f.Seconds = append(f.Seconds, p.Rtt.Seconds()) }
		running.Add(1)
		go func() {
			defer running.Done()
			if err := pinger.Run(); err != nil {
				fail(err)
			}
			f.Sent = pinger.Statistics().PacketsSent
		}()
	}
	running.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "probing:", err)
	os.Exit(1)
}
