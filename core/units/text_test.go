package units

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAmountText(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 bytes", 999: "999 bytes", 1000: "1 kB", 1550: "1.6 kB", 65_536: "65.5 kB", 99_949: "99.9 kB", 99_951: "100 kB", 999_499: "999 kB",
		999_500: "1 MB", 9_800_000_000: "9.8 GB", 12_345_678_901_234: "12.3 TB", math.MaxUint64: "18.4 EB",
	} {
		assert.Equal(t, want, AmountText(bytes))
	}
}

func TestSpeedText(t *testing.T) {
	for bits, want := range map[uint64]string{0: "0 bit/s", 100_000_000: "100 Mbit/s", 2_500_000_000: "2.5 Gbit/s", 400_000_000_000: "400 Gbit/s"} {
		assert.Equal(t, want, SpeedText(bits))
	}
}
