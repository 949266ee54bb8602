package icmp

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEcho_thereAndBack(t *testing.T) {
	want := echo{kind: echoReply4, identifier: 0x1234, number: 0xabcd, nonce: 1 << 60, sequence: 0x5abcd, complete: true}
	var b [packetBytes]byte
	want.put(&b)
	got, ok := parseEcho(b[:])
	assert.True(t, ok)
	assert.Equal(t, want, got)
	assert.Zero(t, checksum(b[:]), "a message with its checksum sums up to nothing")

	got, ok = parseEcho(b[:headerBytes]) // as routers quote it
	assert.True(t, ok)
	assert.Equal(t, echo{kind: echoReply4, identifier: 0x1234, number: 0xabcd}, got)
	_, ok = parseEcho(b[:headerBytes-1])
	assert.False(t, ok)
	b[1] = 1
	_, ok = parseEcho(b[:])
	assert.False(t, ok, "echo has no other code")
}

// RFC 1071, section 3.
func TestChecksum_ofTheRFC(t *testing.T) {
	assert.Equal(t, ^uint16(0xddf2), checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}))
	assert.Equal(t, ^uint16(0x0100), checksum([]byte{0x01}))
	assert.Equal(t, ^uint16(0), checksum(nil))
}

func TestCutIPv4(t *testing.T) {
	packet := make([]byte, 60+8)
	packet[0] = 0x4f
	rest, ok := cutIPv4(packet)
	assert.True(t, ok)
	assert.Len(t, rest, 8)
	for _, bad := range [][]byte{nil, packet[:19], packet[:59], append([]byte{0x65}, packet...), append([]byte{0x44}, packet...)} {
		_, ok = cutIPv4(bad)
		assert.False(t, ok)
	}
}

func FuzzParseEcho(f *testing.F) {
	var b [packetBytes]byte
	(&echo{kind: echoReply6, nonce: 7, sequence: 8}).put(&b)
	for _, seed := range [][]byte{nil, b[:], b[:headerBytes], b[:23], append([]byte{0x45, 0}, b[:]...), make([]byte, 192)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if rest, ok := cutIPv4(packet); ok {
			assert.LessOrEqual(t, len(rest), len(packet)-ipv4Header)
			packet = rest
		}
		e, ok := parseEcho(packet)
		if ok && e.complete && len(packet) == packetBytes {
			var again [packetBytes]byte
			e.put(&again)
			assert.Equal(t, packet[4:24], again[4:24])
		}
	})
}
