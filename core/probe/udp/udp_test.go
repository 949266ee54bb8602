package udp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestMessage_thereAndBack(t *testing.T) {
	for _, want := range []message{
		{kind: question, nonce: 1 << 63, sequence: 7},
		{kind: answer, nonce: 5, sequence: 1 << 40, dwell: 50 * time.Millisecond},
		{kind: answer, nonce: 5, sequence: 6, dwell: -1},
	} {
		var b [messageBytes]byte
		want.put(&b)
		got, ok := parse(b[:])
		assert.True(t, ok)
		assert.Equal(t, want, got)
		got, ok = parseHead(b[:head])
		assert.True(t, ok)
		assert.Equal(t, message{kind: want.kind, nonce: want.nonce, sequence: want.sequence}, got)
		_, ok = parseHead(b[:head-1])
		assert.False(t, ok)
	}
}

func TestParse_garbage(t *testing.T) {
	var good [messageBytes]byte
	(&message{kind: question}).put(&good)
	for name, spoil := range map[string]func([]byte) []byte{
		"empty":         func(b []byte) []byte { return b[:0] },
		"truncated":     func(b []byte) []byte { return b[:messageBytes-1] },
		"longer":        func(b []byte) []byte { return append(b, 0) },
		"other magic":   func(b []byte) []byte { b[0] ^= 1; return b },
		"other version": func(b []byte) []byte { b[4] = 2; return b },
		"unknown kind":  func(b []byte) []byte { b[5] = 3; return b },
		"no kind":       func(b []byte) []byte { b[5] = 0; return b },
		"zeros":         func(b []byte) []byte { clear(b); return b },
		"a DNS question?": func(b []byte) []byte {
			return []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x00\x00\x01\x00\x01")
		},
	} {
		b := good
		_, ok := parse(spoil(b[:]))
		assert.False(t, ok, name)
	}
}

func FuzzParse(f *testing.F) {
	var b [messageBytes]byte
	(&message{kind: answer, nonce: 1, sequence: 2, dwell: 3}).put(&b)
	f.Add(b[:])
	f.Add(b[:head])
	f.Add([]byte{})
	f.Add(make([]byte, 192))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parse(b)
		if ok {
			var again [messageBytes]byte
			m.put(&again)
			assert.Equal(t, b[:6], again[:6])
			assert.Equal(t, b[8:24], again[8:24])
			assert.True(t, m.kind == question || m.kind == answer)
		}
		if _, ok := parseHead(b); ok {
			assert.GreaterOrEqual(t, len(b), head)
		}
	})
}

func TestBucket(t *testing.T) {
	var b bucket
	now := time.Hour
	taken := func(tries int) (n int) {
		for range tries {
			if b.take(now, 10*time.Millisecond, 5) {
				n++
			}
		}
		return n
	}
	assert.Equal(t, 5, taken(100), "a burst")
	now += 10 * time.Millisecond
	assert.Equal(t, 1, taken(100), "then at the rate")
	now += 25 * time.Millisecond
	assert.Equal(t, 2, taken(100))
	now += time.Hour
	assert.Equal(t, 5, taken(100), "no more than a burst is saved up")
}

func TestLimiter(t *testing.T) {
	l := newLimiter()
	now := time.Hour
	ask := func(source string, times int) (allowed int) {
		for range times {
			if l.allow(netip.MustParseAddr(source), now) {
				allowed++
			}
		}
		return allowed
	}
	assert.Equal(t, burstToOne, ask("10.0.0.1", 10_000))
	assert.Equal(t, burstToOne, ask("fd00::1", 10_000))
	assert.Zero(t, ask("fd00::2", 1), "of the same network")
	now += time.Second
	assert.Equal(t, burstToOne, ask("10.0.0.1", 10_000), "a burst after a second of silence, not a second's worth")

	now += time.Minute
	total := 0
	for i := range 60_000 { // a spoofed flood: each packet from somewhere else
		if l.allow(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), now) {
			total++
		}
	}
	assert.Equal(t, burst, total)
}
