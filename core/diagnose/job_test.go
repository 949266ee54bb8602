package diagnose

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/cluster"
	"netmon/core/sample"
)

// words are findings in short: class, host, direction, peer.
func words(found []sample.Finding) string {
	var all []string
	for _, f := range found {
		text := f.Class
		for _, p := range []*string{f.Host, f.Direction, f.Peer} {
			if p != nil {
				text += " " + *p
			}
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

func TestJob_healthy(t *testing.T) {
	for _, n := range []int{2, 3, 4, 64} {
		for _, limited := range []bool{true, false} {
			for _, allPairs := range []bool{false, n <= 8} {
				j := newJob(n)
				j.limited, j.allPairs = limited, allPairs
				assert.Empty(t, j.after(cleanViews-1, nil), "said before it was measured enough: %d hosts", n)
				for range 100 {
					require.Equal(t, "network_clean", words(j.after(1, nil)), "%d hosts", n)
				}
			}
		}
	}
}

func TestJob_faults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(host string) func(*cluster.View)
		want  string // HOST stands for it
		two   string // with two hosts
	}{
		{"transmit at a tenth", func(h string) func(*cluster.View) { return slowLink(h, Transmit, 0.1) }, "slow_link HOST transmit", "slow_link HOST transmit OTHER"},
		{"transmit at half", func(h string) func(*cluster.View) { return slowLink(h, Transmit, 0.5) }, "slow_link HOST transmit", "slow_link HOST transmit OTHER"},
		{"receive at a tenth", func(h string) func(*cluster.View) { return slowLink(h, Receive, 0.1) }, "slow_link HOST receive", "slow_link OTHER transmit HOST"},
		{"receive at half", func(h string) func(*cluster.View) { return slowLink(h, Receive, 0.5) }, "slow_link HOST receive", "slow_link OTHER transmit HOST"},
		{"both at half", func(h string) func(*cluster.View) { return slowLink(h, "", 0.5) }, "slow_link HOST", "slow_link host0 host1"},
		{"loses what it sends", func(h string) func(*cluster.View) { return lossyLink(h, Transmit, 0.01) }, "lossy_link HOST transmit", "lossy_link HOST transmit OTHER"},
		{"loses what it receives", func(h string) func(*cluster.View) { return lossyLink(h, Receive, 0.01) }, "lossy_link HOST receive", "lossy_link OTHER transmit HOST"},
		{"5 ms more", func(h string) func(*cluster.View) { return longWay(h, 5e-3) }, "high_latency HOST", "high_latency host0 host1"},
		{"slow host", slowHost, "slow_host HOST; network_clean", "slow_host HOST; network_clean"},
		{"stopped", stopped, "stalled_rank HOST", "stalled_rank HOST"},
	} {
		for _, n := range []int{2, 3, 4, 64} {
			for _, host := range hostsOf(n) {
				for _, limited := range []bool{true, false} {
					for _, probes := range []bool{true, false} {
						for _, before := range []int{0, 20} {
							name := fmt.Sprintf("%s/%d hosts, host %d, limited %v, probes %v, after %d", c.name, n, host, limited, probes, before)
							t.Run(name, func(t *testing.T) {
								j := newJob(n)
								j.limited, j.probes = limited, probes
								j.after(before, nil)
								want := c.want
								if n == 2 {
									want = c.two
								}
								if n == 2 && strings.HasPrefix(c.name, "both") && !(limited && before > 0) {
									want = "network_clean" // nothing to compare with, now or before: no link stands out
								}
								if strings.HasPrefix(c.name, "5 ms") && !probes {
									// Without probes a longer path looks like a queue where TCP was slowed down by it. Two hosts are silent.
									if n == 2 {
										want = ""
									}
									if limited && (n > 2 || before > 0) {
										want = strings.Replace(want, "high_latency", "slow_link", 1)
									}
									if n == 2 {
										return
									}
								}
								want = strings.NewReplacer("HOST", hostName(host), "OTHER", hostName(1-min(host, 1))).Replace(want)
								assert.Equal(t, want, words(j.after(10, c.fault(hostName(host)))))
							})
						}
					}
				}
			}
		}
	}
}

// hostsOf are those that are tried: the first, one in the middle and the last, of many one.
func hostsOf(n int) []int {
	switch n {
	case 2:
		return []int{0, 1}
	case 64:
		return []int{17}
	}
	return []int{0, 1, n - 1}
}
