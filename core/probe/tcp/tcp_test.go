package tcp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"netmon/core/probe"
)

func TestRoundTrip(t *testing.T) {
	tests := map[string]struct {
		handshake handshake
		elapsed   time.Duration
		rtt       time.Duration
		lost      bool
	}{
		"timed by the kernel, in a busy process":    {handshake{rtt: 24 * time.Microsecond}, 28 * time.Millisecond, 24 * time.Microsecond, false},
		"a kernel that does not tell":               {handshake{}, 90 * time.Microsecond, 90 * time.Microsecond, false},
		"slow":                                      {handshake{rtt: 900 * time.Millisecond}, 900 * time.Millisecond, 900 * time.Millisecond, false},
		"the second SYN was answered":               {handshake{rtt: 24 * time.Microsecond, repeats: 1}, time.Second, 0, true},
		"the answer was repeated before the SYN":    {handshake{rtt: time.Second}, time.Second, 0, true},
		"repeated, and the kernel knows no time":    {handshake{repeats: 1}, 1100 * time.Millisecond, 0, true},
		"refused after a second, by who knows":      {handshake{}, time.Second, 0, true},
		"timed by the kernel, in a stopped process": {handshake{rtt: 24 * time.Microsecond}, time.Hour, 24 * time.Microsecond, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rtt, err := tt.handshake.roundTrip(tt.elapsed)
			assert.Equal(t, tt.rtt, rtt)
			if tt.lost {
				assert.ErrorIs(t, err, probe.ErrLost)
				assert.EqualError(t, err, "no answer to the first SYN")
			} else {
				assert.NoError(t, err)
			}
		})
	}
}
