package path

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/probe"
)

func formats() []format {
	return []format{
		{method: probe.ICMP, nonce: 0x1122334455667788}, {method: probe.ICMP, ipv6: true, nonce: 0x1122334455667788},
		{method: probe.UDP, nonce: 0x1122334455667788}, {method: probe.UDP, ipv6: true, nonce: 0x1122334455667788},
	}
}

// sum is the Internet checksum's sum (RFC 1071).
func sum(b []byte) uint32 {
	total := uint32(0)
	for ; len(b) >= 2; b = b[2:] {
		total += uint32(binary.BigEndian.Uint16(b))
	}
	for total > 0xffff {
		total = total&0xffff + total>>16
	}
	return total
}

// Routers may choose the way by length and checksum.
func TestFormat_probesLookAlike(t *testing.T) {
	for _, f := range formats() {
		first := f.put(nil, 0, 0)
		for _, number := range []uint16{1, 2, 0x7fff, 0x8000, 0xffff} {
			other := f.put(nil, number, 0)
			assert.NotEqual(t, first, other)
			assert.Len(t, other, len(first))
			assert.Equal(t, sum(first), sum(other))
		}
	}
}

func TestFormat_sizes(t *testing.T) {
	for _, f := range formats() {
		header := f.ipHeader()
		if f.method == probe.UDP {
			header += udpHeader
		}
		for _, size := range []int{f.ipHeader() + leastPacket, 1280, 1500, f.mostMTU()} {
			assert.Len(t, f.put(nil, 7, size), size-header)
		}
		assert.Len(t, f.put(nil, 7, 1), f.ipHeader()+leastPacket-header, "no shorter")
		assert.LessOrEqual(t, len(f.put(nil, 7, 0)), probe.MostPayloadBytes)
	}
}

func TestFormat_quoted(t *testing.T) {
	for _, f := range formats() {
		whole := f.put(nil, 0x1234, 0)
		number, known, foreign := f.quoted(whole)
		assert.True(t, known)
		assert.False(t, foreign)
		assert.EqualValues(t, 0x1234, number)
		for length := range whole {
			number, known, foreign = f.quoted(whole[:length])
			assert.False(t, foreign)
			if known {
				assert.EqualValues(t, 0x1234, number)
			}
			assert.Equal(t, f.method == probe.ICMP && length >= 8 || length >= bodyBytes, known)
		}
		other := f
		other.nonce++
		_, known, foreign = other.quoted(whole)
		assert.True(t, known && foreign, "of another trace")
	}
	_, known, foreign := formats()[0].quoted(make([]byte, 8))
	assert.True(t, known && foreign, "no echo request")
}

func TestFormat_reply(t *testing.T) {
	for _, f := range formats()[:2] {
		message := f.put(nil, 0x1234, 0)
		_, ok := f.reply(message)
		assert.False(t, ok, "a request")
		message[0] = map[bool]byte{false: echoReply4, true: echoReply6}[f.ipv6]
		number, ok := f.reply(message)
		assert.True(t, ok)
		assert.EqualValues(t, 0x1234, number)
		for length := range message {
			_, ok = f.reply(message[:length])
			assert.False(t, ok)
		}
		for place := range bodyBytes {
			if spoilt := append([]byte(nil), message...); place < 8 || place >= complementAt {
				spoilt[icmpHeader+place] ^= 1
				_, ok = f.reply(spoilt)
				assert.False(t, ok, place)
			}
		}
	}
}

func FuzzFormat(f *testing.F) {
	for i, format := range formats() {
		f.Add(format.put(nil, 0x1234, 0), uint8(i))
	}
	f.Fuzz(func(t *testing.T, text []byte, which uint8) {
		format := formats()[which%4]
		number, known, foreign := format.quoted(text)
		require.False(t, foreign && !known)
		if known && !foreign && len(text) >= leastPacket {
			again, _, _ := format.quoted(format.put(nil, number, 0))
			require.Equal(t, number, again)
		}
		if number, ok := format.reply(text); ok {
			require.Equal(t, number, binary.BigEndian.Uint16(text[icmpNumberAt:]))
		}
	})
}
