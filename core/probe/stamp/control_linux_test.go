package stamp

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/clock"
)

// message is one control message, padded.
func message(level, kind int, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	if unix.SizeofCmsghdr == 16 {
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(data))))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(unix.CmsgLen(len(data))))
	}
	binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-8:], uint32(level))
	binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-4:], uint32(kind))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func times(seconds, nanoseconds uint64) []byte {
	b := make([]byte, 48)
	binary.NativeEndian.PutUint64(b, seconds)
	binary.NativeEndian.PutUint64(b[8:], nanoseconds)
	return b
}

func extended(errno uint32, origin, kind, code uint8, info, data uint32, offender Address, ipv6 bool) []byte {
	b := make([]byte, sizeofExtendedError)
	binary.NativeEndian.PutUint32(b, errno)
	b[4], b[5], b[6] = origin, kind, code
	binary.NativeEndian.PutUint32(b[8:], info)
	binary.NativeEndian.PutUint32(b[12:], data)
	if offender.IP.IsValid() {
		var name [unix.SizeofSockaddrInet6]byte
		b = append(b, name[:putSockaddr(&name, offender, ipv6)]...)
	}
	return b
}

func TestParseControl_received(t *testing.T) {
	info := make([]byte, unix.SizeofInet4Pktinfo)
	binary.NativeEndian.PutUint32(info, 3)
	copy(info[8:], []byte{10, 0, 0, 1})
	c := parseControl(append(message(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, times(1_700_000_000, 5)),
		message(unix.SOL_IP, unix.IP_PKTINFO, info)...))
	assert.Equal(t, control{stamp: 1_700_000_000_000_000_005, destination: netip.MustParseAddr("10.0.0.1"), index: 3}, c)

	short := make([]byte, 24) // of a machine with 32-bit words
	binary.NativeEndian.PutUint32(short, 5)
	binary.NativeEndian.PutUint32(short[4:], 6)
	assert.Equal(t, Time(5_000_000_006), parseControl(message(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, short)).stamp)
	assert.Equal(t, Time(5_000_000_006), parseControl(message(unix.SOL_SOCKET, scmTimestampingNew, times(5, 6))).stamp)
	assert.Zero(t, parseControl(message(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, times(1<<62, 0))).stamp, "no time this is")
	assert.Zero(t, parseControl(message(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, times(1, 1e9))).stamp)

	info6 := make([]byte, unix.SizeofInet6Pktinfo)
	info6[0], info6[15] = 0xfd, 1
	binary.NativeEndian.PutUint32(info6[16:], 9)
	c = parseControl(message(unix.SOL_IPV6, unix.IPV6_PKTINFO, info6))
	assert.Equal(t, control{destination: netip.MustParseAddr("fd00::1"), index: 9}, c)
}

func TestEvent_transmitted(t *testing.T) {
	c := parseControl(append(message(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, times(7, 8)),
		message(unix.SOL_IP, unix.IP_RECVERR, extended(uint32(unix.ENOMSG), unix.SO_EE_ORIGIN_TIMESTAMPING, 0, 0, 1, 42, Address{}, false))...))
	e, is := c.event(nil, nil)
	require.True(t, is)
	assert.Equal(t, Key{number: 42, known: true}, e.Key)
	assert.Equal(t, Time(7_000_000_008), e.Sent)
	assert.Nil(t, e.Err)
}

func TestEvent_unreachable(t *testing.T) {
	router := netip.MustParseAddr("10.0.0.1")
	target := Address{IP: netip.MustParseAddr("10.1.0.1"), Port: 5}
	var name [unix.SizeofSockaddrInet6]byte
	length := putSockaddr(&name, target, false)
	c := parseControl(append(message(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, times(7, 8)), message(unix.SOL_IP, unix.IP_RECVERR,
		extended(uint32(unix.EHOSTUNREACH), unix.SO_EE_ORIGIN_ICMP, 3, 1, 0, 0, Address{IP: router}, false))...))
	e, is := c.event([]byte("payload"), name[:length])
	require.True(t, is)
	assert.Equal(t, &Unreachable{Errno: syscall.EHOSTUNREACH, Type: 3, Code: 1, By: router}, e.Err)
	assert.Equal(t, target, e.To)
	assert.Equal(t, Time(7_000_000_008), e.Received)
	assert.Equal(t, "payload", string(e.Payload()))
	assert.Zero(t, e.Sent)

	c = parseControl(message(unix.SOL_IP, unix.IP_RECVERR, extended(uint32(unix.EREMOTEIO), unix.SO_EE_ORIGIN_ICMP, 4, 0, 0, 0, Address{}, false)))
	_, is = c.event(nil, nil)
	assert.False(t, is, "source quench is no error")
	c = parseControl(message(unix.SOL_IP, unix.IP_RECVERR, extended(uint32(unix.EMSGSIZE), unix.SO_EE_ORIGIN_LOCAL, 0, 0, 0, 0, Address{}, false)))
	_, is = c.event(nil, nil)
	assert.False(t, is)
}

func TestSockaddr_thereAndBack(t *testing.T) {
	for _, a := range []Address{
		{IP: netip.MustParseAddr("10.0.0.1"), Port: 0x1234},
		{IP: netip.MustParseAddr("fe80::1"), Port: 0x1234, Scope: 7},
	} {
		var name [unix.SizeofSockaddrInet6]byte
		length := putSockaddr(&name, a, a.IP.Is6())
		assert.Equal(t, a, parseSockaddr(name[:length]))
		for short := range 8 {
			assert.Equal(t, Address{}, parseSockaddr(name[:short]))
		}
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add(message(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, times(1, 2)), []byte("data"), []byte{2, 0, 0, 7, 10, 0, 0, 1})
	f.Add(append(message(unix.SOL_IPV6, unix.IPV6_RECVERR, extended(113, unix.SO_EE_ORIGIN_ICMP6, 1, 3, 0, 0,
		Address{IP: netip.MustParseAddr("fd00::1")}, true)), message(unix.SOL_IP, unix.IP_PKTINFO, make([]byte, 12))...), make([]byte, 100), []byte{})
	whole := message(unix.SOL_IP, unix.IP_RECVERR, extended(42, unix.SO_EE_ORIGIN_TIMESTAMPING, 0, 0, 1, 42, Address{}, false))
	for cut := range whole {
		f.Add(whole[:cut], []byte{}, []byte{})
	}
	f.Fuzz(func(t *testing.T, text, data, name []byte) {
		c := parseControl(text)
		assert.GreaterOrEqual(t, c.stamp, Time(0))
		e, is := c.event(data, name)
		if is {
			assert.True(t, (e.Sent != 0) != (e.Err != nil))
			assert.LessOrEqual(t, len(e.Payload()), len(data))
			if e.Err != nil {
				assert.NotEmpty(t, e.Err.Error())
			}
		}
	})
}

// The kernel begins to stamp some time after it was asked to; by then the socket is not given out.
func TestOpen_stampsFromTheFirstPacketOn(t *testing.T) {
	for range 5 {
		s, err := OpenReceiving(unix.AF_INET, unix.SOCK_DGRAM, 0)
		require.NoError(t, err)
		require.NoError(t, s.Bind(Address{IP: netip.MustParseAddr("127.0.0.1")}))
		self, err := s.Local()
		require.NoError(t, err)
		before := Now(clock.System())
		_, _, err = s.Send([]byte("x"), self, before)
		require.NoError(t, err)
		set := []unix.PollFd{{Fd: int32(s.Number()), Events: unix.POLLIN}}
		_, err = unix.Poll(set, 5000)
		require.NoError(t, err)
		p, err := s.Receive()
		require.NoError(t, err)
		assert.Equal(t, self, p.From)
		assert.Equal(t, self.IP, p.Destination)
		assert.Equal(t, "x", string(p.Data))
		assert.GreaterOrEqual(t, p.Received, before.Wall)
		s.Close()
		time.Sleep(20 * time.Millisecond) // so that the kernel stops
	}
}
