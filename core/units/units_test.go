package units

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestConversions(t *testing.T) {
	assert.Equal(t, uint64(10_000_000_000), MegabitsToBits(10_000))
	assert.InDelta(t, 1e9, BytesToBits(125e6), 0)
	assert.InDelta(t, 125e6, BitsToBytes(1e9), 0)
	assert.InDelta(t, 1.5, Seconds(1500*time.Millisecond), 0)
	assert.Equal(t, 10*time.Millisecond, Duration(0.01))
}
