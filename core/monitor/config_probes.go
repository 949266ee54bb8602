package monitor

import (
	"fmt"
	"net/netip"

	"github.com/goccy/go-json"

	"netmon/core/job"
	"netmon/core/probe"
)

// targets reads a list of targets; each is kept once.
func (d *decoder) targets(key string, value []byte) ([]probe.Target, error) {
	words, err := d.strings(key, value, probe.MostTargets, nil)
	if err != nil {
		return nil, err
	}
	targets := make([]probe.Target, 0, len(words))
	seen := make(map[string]bool)
	for i, word := range words {
		target, err := probe.ParseTarget(word)
		if err != nil {
			return nil, d.fail(key, "has a wrong entry %d: %v", i+1, err)
		}
		if !seen[word] {
			targets = append(targets, target)
		}
		seen[word] = true
	}
	return targets, nil
}

// listener reads where something listens: UDP echoes are answered, bandwidth tests are served.
func (d *decoder) listener(key string, value []byte, usual uint16) (at netip.AddrPort, err error) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	var on bool
	switch kindOf(value) {
	case "true or false":
		if json.Unmarshal(value, &on) != nil {
			return at, d.fail(key, "is %s; it must be true, false or an object", describe(value))
		}
		if on {
			at = netip.AddrPortFrom(loopback, usual)
		}
		return at, nil
	case "an object":
	default:
		return at, d.fail(key, "is %s; it must be true, false or an object such as {\"address\": \"127.0.0.1\", \"port\": %d}",
			describe(value), usual)
	}
	address, port := loopback, usual
	inner := decoder{what: d.what, prefix: d.prefix + key + ".", example: fmt.Sprintf(`{"address": "127.0.0.1", "port": %d}`, usual)}
	err = inner.object(value, MaxConfigBytes, map[string]func(string, []byte) error{
		"address": func(key string, value []byte) error {
			text, err := inner.string(key, value)
			if err != nil {
				return err
			}
			if address, err = netip.ParseAddr(text); err != nil {
				return inner.fail(key, "is %q; it must be an address of this host such as 127.0.0.1, or 0.0.0.0 for all", shorten(text))
			}
			return nil
		},
		"port": func(key string, value []byte) error {
			number, err := inner.integer(key, value, 1, 65535)
			if err == nil {
				port = uint16(*number)
			}
			return err
		},
	})
	return netip.AddrPortFrom(address, port), err
}

// peers reads the hosts of the job's ranks, each as an address, or as an object with its rank.
func (d *decoder) peers(key string, value []byte) ([]job.Peer, error) {
	items, err := d.list(key, value, maxPeers, `such as ["10.0.0.2", {"rank": 1, "address": "10.0.0.3"}]`)
	if err != nil {
		return nil, err
	}
	peers := make([]job.Peer, len(items))
	for i, item := range items {
		p := &peers[i]
		switch kindOf(item) {
		case "a string":
			if json.Unmarshal(item, &p.Address) != nil {
				return nil, d.fail(key, "has %s as entry %d; it must be an address", describe(item), i+1)
			}
		case "an object":
			var rank *int64
			inner := decoder{what: d.what, prefix: d.prefix + key + ".", example: `{"rank": 1, "address": "10.0.0.3"}`}
			err := inner.object(item, MaxConfigBytes, map[string]func(string, []byte) error{
				"rank": func(key string, value []byte) (err error) {
					rank, err = inner.integer(key, value, 0, 1<<31-1)
					return err
				},
				"address": func(key string, value []byte) (err error) {
					p.Address, err = inner.string(key, value)
					return err
				},
			})
			if err != nil {
				return nil, err
			}
			p.Rank = rank
		default:
			return nil, d.fail(key, "has %s as entry %d; it must be an address or an object with rank and address", describe(item), i+1)
		}
		if _, wrong := peerTarget(p.Address); wrong != "" {
			return nil, d.fail(key, "has a wrong entry %d: %s", i+1, wrong)
		}
	}
	return peers, nil
}

// peerTarget is the target that a peer's, or the master's, address is, or what is wrong with it.
func peerTarget(address string) (t probe.Target, wrong string) {
	t, err := probe.ParseTarget(address)
	switch {
	case err != nil:
		return t, err.Error()
	case t.Method != probe.Auto:
		return t, "it must be an address or a name such as 10.0.0.2 or node7, not a target of another kind"
	}
	t.Gateway = false // a host of that name
	return t, ""
}
