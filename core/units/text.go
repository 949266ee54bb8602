package units

import (
	"fmt"
	"strings"
)

// AmountText is an amount of bytes for people: 0 bytes, 812 bytes, 1.5 kB, 9.8 GB; a kB is 1000 bytes.
func AmountText(bytes uint64) string {
	if bytes < 1000 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return scaled(float64(bytes), "B")
}

// SpeedText is a speed in bits per second for people: 100 Mbit/s, 2.5 Gbit/s.
func SpeedText(bitsPerSecond uint64) string { return scaled(float64(bitsPerSecond), "bit/s") }

func scaled(value float64, unit string) string {
	const prefixes = "kMGTPE"
	prefix := ""
	for i := 0; i < len(prefixes) && value >= 999.5; i++ {
		value /= 1000
		prefix = prefixes[i : i+1]
	}
	text := fmt.Sprintf("%.0f", value)
	if value < 99.95 {
		text = strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0")
	}
	return text + " " + prefix + unit
}
