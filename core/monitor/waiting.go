package monitor

import (
	"maps"
	"slices"
	"strings"
	"time"

	"netmon/core/units"
)

// Pending is a request that is being answered, for probes or for a bandwidth test.
type Pending struct {
	ID     uint64
	Left   time.Duration // to wait at most
	cancel bool
}

// slice is how long to wait now, most at most.
func (p *Pending) slice(most time.Duration) time.Duration {
	now := min(p.Left, most)
	p.Left -= now
	return now
}

// mostWait is how many seconds a call waits that says how long.
const mostWait = 60.0

// requestWait is what all requests have that take their time: which one it is, and how long to wait for it.
type requestWait struct {
	id     uint64 // of a request that was started, 0 for a new one
	cancel bool
	wait   time.Duration
}

func (w *requestWait) pending() Pending { return Pending{ID: w.id, Left: w.wait, cancel: w.cancel} }

// read reads a request: the keys of a new one are its own, and belong to no request with an id. given are all keys that were there.
func (w *requestWait) read(d *decoder, text []byte, own map[string]func(string, []byte) error) (given map[string]bool, err error) {
	given = make(map[string]bool)
	keys := map[string]func(string, []byte) error{
		"wait_seconds": func(key string, value []byte) error {
			given[key] = true
			seconds, err := d.number(key, value, 0, mostWait, "seconds")
			w.wait = units.Duration(seconds)
			return err
		},
		"id": func(key string, value []byte) error {
			number, err := d.integer(key, value, 1, 1<<53)
			if err == nil {
				w.id = uint64(*number)
			}
			return err
		},
		"cancel": func(key string, value []byte) error {
			switch strings.TrimSpace(string(value)) {
			case "true":
				w.cancel = true
			case "false":
			default:
				return d.fail(key, "is %s; it must be true or false", describe(value))
			}
			return nil
		},
	}
	for name, read := range own {
		keys[name] = func(key string, value []byte) error {
			given[key] = true
			return read(key, value)
		}
	}
	if err := d.object(text, MaxConfigBytes, keys); err != nil {
		return given, err
	}
	if w.cancel && w.id == 0 {
		return given, d.fail("id", "is missing; say which request to cancel")
	}
	if w.id == 0 {
		return given, nil
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if given[name] {
			return given, d.fail(name, "does not belong to a request with an id, which goes on waiting for what was asked before")
		}
	}
	return given, nil
}
