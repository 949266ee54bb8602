package monitor

import (
	"encoding/base64"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/goccy/go-json"

	"netmon/core/cluster"
	"netmon/core/diagnose"
)

// MaxDigestsBytes bounds a request that holds the digests of a job.
const MaxDigestsBytes = 8 << 20

const mostEngineBytes = 64

// aggregation makes views of the job.
type aggregation struct {
	mu         sync.Mutex // guards what follows: one view at a time
	aggregator *cluster.Aggregator
	diagnosis  diagnose.State
}

// Aggregate makes one view of the digests in a request, and writes it to w:
//
//	{"engine": "c10d store", "world_size": 4, "rank": 0, "digests": ["<base64>"], "gone": [2]}
//
// Errors: *TextError for a request that is not understood, ErrClosed, and what w returns.
func (m *Monitor) Aggregate(text []byte, w io.Writer) (err error) {
	if m.closing.Load() {
		return ErrClosed
	}
	m.charge(func() {
		var r cluster.Request
		if r, err = parseAggregate(text); err != nil {
			return
		}
		of := &m.aggregation
		of.mu.Lock()
		defer of.mu.Unlock()
		if of.aggregator == nil {
			of.aggregator = cluster.NewAggregator()
		}
		view := of.aggregator.Aggregate(m.clock.Monotonic(), m.clock.Wall(), r)
		view.Findings = diagnose.Job(view, &of.diagnosis)
		err = view.WriteJSON(w)
	})
	return err
}

func parseAggregate(text []byte) (r cluster.Request, err error) {
	d := decoder{what: "request", example: `{"world_size": 8, "digests": []}`}
	const mostRank = 1<<31 - 1
	err = d.object(text, MaxDigestsBytes, map[string]func(string, []byte) error{
		"engine": func(key string, value []byte) (err error) {
			if r.Engine, err = d.string(key, value); err != nil {
				return err
			}
			if len(r.Engine) > mostEngineBytes || !utf8.ValidString(r.Engine) {
				return d.fail(key, "must be UTF-8 text of at most %d bytes", mostEngineBytes)
			}
			return nil
		},
		"rank": func(key string, value []byte) (err error) {
			r.Aggregator, err = d.integer(key, value, 0, mostRank)
			return err
		},
		"world_size": func(key string, value []byte) (err error) {
			r.WorldSize, err = d.integer(key, value, 1, mostRank)
			return err
		},
		"gone": func(key string, value []byte) error {
			items, err := d.list(key, value, cluster.MostDigests, "of ranks")
			if err != nil {
				return err
			}
			for _, item := range items {
				rank, err := d.integer(key, item, 0, mostRank)
				if err != nil {
					return err
				}
				r.Gone = append(r.Gone, *rank)
			}
			return nil
		},
		"digests": func(key string, value []byte) error {
			items, err := d.list(key, value, cluster.MostDigests, "of digests in base64")
			if err != nil {
				return err
			}
			r.Digests = make([][]byte, 0, len(items))
			for _, item := range items {
				digest, err := decodeDigest(item)
				if err != nil {
					r.Problems = append(r.Problems, err.Error())
					continue
				}
				r.Digests = append(r.Digests, digest)
			}
			return nil
		},
	})
	return r, err
}

// decodeDigest reads a digest in base64; one that is wrong does not spoil the others.
func decodeDigest(item []byte) ([]byte, error) {
	var text string
	if kindOf(item) != "a string" || json.Unmarshal(item, &text) != nil {
		return nil, fmt.Errorf("%s instead of a digest in base64", describe(item))
	}
	digest, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("a text that is no base64: %w", err)
	}
	return digest, nil
}
