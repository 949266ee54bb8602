package job

import (
	"net/netip"
	"slices"
)

// Ranks tells which ranks of a job run at which address, in ascending order, the own one left out. Addresses are without zones.
//
// The host of a rank that is a name counts with the address that resolve knows, if any. Where rank 0's host is not among peers, it is
// the master's.
func Ranks(peers []Peer, own *int64, master string, resolve func(name string) (netip.Addr, bool)) map[netip.Addr][]int64 {
	ranks := make(map[netip.Addr][]int64)
	add := func(rank int64, host string) {
		address, err := netip.ParseAddr(host)
		if err != nil {
			var known bool
			if address, known = resolve(host); !known {
				return
			}
		}
		address = address.Unmap().WithZone("")
		if (own == nil || *own != rank) && !slices.Contains(ranks[address], rank) {
			ranks[address] = append(ranks[address], rank)
		}
	}
	first := false
	for _, p := range peers {
		if p.Rank != nil {
			add(*p.Rank, p.Address)
			first = first || *p.Rank == 0
		}
	}
	if !first && master != "" {
		add(0, master)
	}
	for _, list := range ranks {
		slices.Sort(list)
	}
	return ranks
}
