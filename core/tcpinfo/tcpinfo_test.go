package tcpinfo

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// message is a struct inet_diag_msg with a struct tcp_info of a length, as net/ipv4/inet_diag.c writes them.
func message(infoLength int) []byte {
	text := make([]byte, sizeofMessage)
	text[0], text[1] = familyInet, byte(Established)
	binary.BigEndian.PutUint16(text[4:], 40000)
	binary.BigEndian.PutUint16(text[6:], 29500)
	copy(text[8:], []byte{10, 0, 0, 1})
	copy(text[24:], []byte{10, 0, 0, 2})
	binary.NativeEndian.PutUint32(text[44:], 7)
	binary.NativeEndian.PutUint32(text[48:], 1)
	binary.NativeEndian.PutUint32(text[68:], 4711)
	info := make([]byte, infoLength)
	info[0] = byte(Established)
	for at := 8; at+4 <= infoLength; at += 4 {
		binary.NativeEndian.PutUint32(info[at:], uint32(at))
	}
	text = binary.NativeEndian.AppendUint16(text, uint16(sizeofNlattr+infoLength))
	text = binary.NativeEndian.AppendUint16(text, infoAttribute)
	return append(text, info...)
}

func TestParseMessage(t *testing.T) {
	var s Socket
	ok, err := parseMessage(message(infoBytes), &s)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, netip.MustParseAddrPort("10.0.0.1:40000"), s.Local)
	assert.Equal(t, netip.MustParseAddrPort("10.0.0.2:29500"), s.Remote)
	assert.Equal(t, uint64(1<<32+7), s.Cookie)
	assert.Equal(t, uint32(4711), s.Inode)
	assert.Equal(t, uint32(68), s.Info.RTT)
	assert.Equal(t, uint32(148), s.Info.MinRTT)
	assert.Equal(t, uint64(204)<<32|200, s.Info.BytesSent)
	assert.Equal(t, uint32(216), s.Info.DuplicatesReported)
}

// Kernels know more fields from version to version; those that one lacks are not known, and not 0.
func TestParseInfo_olderKernels(t *testing.T) {
	for length, has := range map[int][]bool{
		104: {false, false, false, false, false, false}, 136: {true, false, false, false, false, false},
		144: {true, true, false, false, false, false}, 160: {true, true, true, false, false, false},
		168: {true, true, true, true, false, false}, 192: {true, true, true, true, true, false},
		232: {true, true, true, true, true, true}, 400: {true, true, true, true, true, true},
	} {
		var i Info
		require.True(t, i.ParseInfo(make([]byte, length)), length)
		assert.Equal(t, has, []bool{i.HasBytes(), i.HasSegments(), i.HasUnsent(), i.HasDelivery(), i.HasLimits(), i.HasSent()}, length)
	}
	var i Info
	assert.False(t, i.ParseInfo(make([]byte, 103)))
	require.True(t, i.ParseInfo(make([]byte, 104)))
	assert.Equal(t, uint32(NoRTT), i.MinRTT)
}

func FuzzParseMessage(f *testing.F) {
	f.Add(message(infoBytes))
	f.Add(message(104))
	f.Add(message(20))
	f.Add(make([]byte, sizeofMessage))
	six := message(400)
	six[0] = familyInet6
	f.Add(six)
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Socket
		ok, err := parseMessage(text, &s)
		if ok && (err != nil || !s.Local.IsValid() || !s.Remote.IsValid() || !s.Info.State.Connected()) {
			t.Errorf("%v %v", s, err)
		}
		_, _ = parseAddress(text)
	})
}
