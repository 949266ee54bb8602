// Package units converts between the units kernel interfaces use and netmon's base units.
//
// It is the only place where a conversion factor is written. Sample documents carry base units (bytes, seconds, bits per
// second for link speeds, ratios); the rldk-compatible classes carry Mbit/s, GB/s and milliseconds.
package units

import "time"

// BitsPerMegabit is the size of a megabit in network units: 1 Mbit/s = 1e6 bits/s = 125,000 bytes/s.
const BitsPerMegabit = 1_000_000

// BitsPerByte is the number of bits in an octet.
const BitsPerByte = 8

// MegabitsToBits converts a link speed in Mbit/s, as ethtool reports it, to bits per second.
func MegabitsToBits(megabitsPerSecond uint32) uint64 {
	return uint64(megabitsPerSecond) * BitsPerMegabit
}

// BytesToBits converts a rate or an amount in bytes to bits.
func BytesToBits(bytes float64) float64 { return bytes * BitsPerByte }

// BitsToBytes converts a rate or an amount in bits to bytes.
func BitsToBytes(bits float64) float64 { return bits / BitsPerByte }

// Seconds converts a duration to seconds.
func Seconds(d time.Duration) float64 { return float64(d) / float64(time.Second) }

// Duration converts seconds to a duration.
func Duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
