package path

import (
	"encoding/binary"

	"netmon/core/probe"
)

// A probe carries, behind the header of its protocol, a nonce of the trace, its number, and the number's complement, which keeps the
// checksum the same in all probes of a trace: routers may choose the way by it.
//
//	0  nonce       8 bytes
//	8  number      2 bytes, big-endian; 0 in an echo, whose header has it
//	10 complement  2 bytes
//	12 zeros, where it has to be longer
const (
	bodyBytes    = 12
	icmpHeader   = 8
	udpHeader    = 8
	echoRequest4 = 8
	echoReply4   = 0
	echoRequest6 = 128
	echoReply6   = 129
	ipv4Header   = 20
	ipv6Header   = 40
	leastPacket  = bodyBytes + icmpHeader // from behind the IP header on, the same for both protocols
	mostPacket4  = 65535
	mostPacket6  = 65535 + ipv6Header
	leastMTU4    = 68   // RFC 791
	leastMTU6    = 1280 // RFC 8200
	numberAt     = 8
	complementAt = 10
	icmpNumberAt = 6
	tracePort    = 33434 // of traceroute, since 1988
	defaultTTL   = 64
)

// format says how probes of a trace look.
type format struct {
	method probe.Method // ICMP or UDP
	ipv6   bool
	nonce  uint64
}

func (f format) ipHeader() int {
	if f.ipv6 {
		return ipv6Header
	}
	return ipv4Header
}

// leastMTU is what every link must carry.
func (f format) leastMTU() int {
	if f.ipv6 {
		return leastMTU6
	}
	return leastMTU4
}

// mostMTU is the longest packet there is.
func (f format) mostMTU() int {
	if f.ipv6 {
		return mostPacket6
	}
	return mostPacket4
}

// put writes what the socket takes of a probe: an ICMP message, or what UDP carries. size is that of the packet with its headers,
// 0 for as short as can be.
func (f format) put(buffer []byte, number uint16, size int) []byte {
	length := max(size-f.ipHeader(), leastPacket)
	if f.method == probe.UDP {
		length -= udpHeader
	}
	body := buffer[:0]
	if f.method == probe.ICMP {
		kind := byte(echoRequest4)
		if f.ipv6 {
			kind = echoRequest6
		}
		// The kernel fills in identifier and checksum.
		body = append(body, kind, 0, 0, 0, 0, 0)
		body = binary.BigEndian.AppendUint16(body, number)
	}
	body = binary.BigEndian.AppendUint64(body, f.nonce)
	if f.method == probe.ICMP {
		body = binary.BigEndian.AppendUint16(body, 0)
	} else {
		body = binary.BigEndian.AppendUint16(body, number)
	}
	body = binary.BigEndian.AppendUint16(body, ^number)
	return append(body, make([]byte, length-len(body))...)
}

// quoted is the number of the probe that an ICMP error quotes. It quotes at least 8 bytes behind the IP header: of an echo they have
// the number, of a datagram they do not.
func (f format) quoted(quote []byte) (number uint16, known, foreign bool) {
	if f.method == probe.ICMP {
		if len(quote) < icmpHeader {
			return 0, false, false
		}
		kind := byte(echoRequest4)
		if f.ipv6 {
			kind = echoRequest6
		}
		number = binary.BigEndian.Uint16(quote[icmpNumberAt:])
		return number, true, quote[0] != kind || !f.fits(quote[icmpHeader:], number)
	}
	if len(quote) < bodyBytes {
		return 0, false, false
	}
	number = binary.BigEndian.Uint16(quote[numberAt:])
	return number, true, !f.fits(quote, number)
}

// fits tells whether a body, as much as there is of it, is that of a probe of this trace.
func (f format) fits(body []byte, number uint16) bool {
	if len(body) >= numberAt && binary.BigEndian.Uint64(body) != f.nonce {
		return false
	}
	return len(body) < bodyBytes || binary.BigEndian.Uint16(body[complementAt:]) == ^number
}

// reply is the number of the echo that a message answers.
func (f format) reply(message []byte) (number uint16, ok bool) {
	kind := byte(echoReply4)
	if f.ipv6 {
		kind = echoReply6
	}
	if len(message) < leastPacket || message[0] != kind {
		return 0, false
	}
	number = binary.BigEndian.Uint16(message[icmpNumberAt:])
	return number, f.fits(message[icmpHeader:], number)
}
