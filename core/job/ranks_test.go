package job

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRanks(t *testing.T) {
	rank := func(n int64) *int64 { return &n }
	resolve := func(name string) (netip.Addr, bool) {
		address, known := map[string]netip.Addr{"node3": netip.MustParseAddr("10.0.0.3")}[name]
		return address, known
	}
	got := Ranks([]Peer{
		{Rank: rank(5), Address: "10.0.0.2"}, {Rank: rank(1), Address: "10.0.0.2"}, {Rank: rank(1), Address: "10.0.0.2"},
		{Rank: rank(2), Address: "node3"}, {Rank: rank(3), Address: "::ffff:10.0.0.3"}, {Rank: rank(4), Address: "nobody"},
		{Rank: rank(6), Address: "fe80::1%eth0"}, {Address: "10.0.0.9"}, {Rank: rank(7), Address: "10.0.0.2"},
	}, rank(7), "10.0.0.1", resolve)
	assert.Equal(t, map[netip.Addr][]int64{
		netip.MustParseAddr("10.0.0.1"): {0}, netip.MustParseAddr("10.0.0.2"): {1, 5}, netip.MustParseAddr("10.0.0.3"): {2, 3},
		netip.MustParseAddr("fe80::1"): {6},
	}, got)
	assert.Empty(t, Ranks(nil, rank(0), "10.0.0.1", resolve), "the master is this process")
	assert.Equal(t, []int64{0}, Ranks([]Peer{{Rank: rank(0), Address: "10.0.0.4"}}, nil, "10.0.0.1", resolve)[netip.MustParseAddr("10.0.0.4")])
	assert.Len(t, Ranks([]Peer{{Rank: rank(0), Address: "10.0.0.4"}}, nil, "10.0.0.1", resolve), 1, "told is told")
}

func TestFromEnvironment_ray(t *testing.T) {
	assert.Equal(t, Ray{}, FromEnvironment(Map(nil)).Ray)
	assert.Equal(t, Ray{Worker: true, Raylet: 4711}, FromEnvironment(Map(map[string]string{"RAY_RAYLET_PID": "4711"})).Ray)
	assert.Equal(t, Ray{Worker: true}, FromEnvironment(Map(map[string]string{"RAY_JOB_ID": "01000000", "RAY_RAYLET_PID": "x"})).Ray)
}
