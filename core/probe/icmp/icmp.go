// Package icmp probes by ICMP echo (RFC 792, RFC 4443), as ping(8) does.
//
// On Linux it has one socket for all IPv4 targets and one for all IPv6 targets, with kernel time stamps at both ends, so that a
// busy host does not read as a slow network; elsewhere it is pro-bing. Linux needs no privilege where net.ipv4.ping_group_range
// holds one of the process's groups (icmp(7), "ping sockets"), else CAP_NET_RAW. It sends 56 bytes behind the ICMP header, as
// ping does.
package icmp

import (
	"encoding/binary"
)

const (
	payloadBytes = 56
	headerBytes  = 8
	packetBytes  = headerBytes + payloadBytes
	ipv4Header   = 20
	ipv6Header   = 40

	echoRequest4, echoReply4 = 8, 0     // RFC 792
	echoRequest6, echoReply6 = 128, 129 // RFC 4443
)

// sentBytes is what one probe puts on the wire.
func sentBytes(ipv6 bool) int {
	if ipv6 {
		return ipv6Header + packetBytes
	}
	return ipv4Header + packetBytes
}

// echo is a message of an echo: a request or its reply.
type echo struct {
	kind       uint8
	identifier uint16
	number     uint16 // the lower half of sequence, which the ICMP header has room for
	nonce      uint64 // of the prober
	sequence   uint64
	complete   bool // it has nonce and sequence; the quotation in an ICMP error may end before them
}

// put writes the message.
func (e *echo) put(b *[packetBytes]byte) {
	clear(b[:headerBytes])
	b[0] = e.kind
	binary.BigEndian.PutUint16(b[4:], e.identifier)
	binary.BigEndian.PutUint16(b[6:], e.number)
	binary.BigEndian.PutUint64(b[8:], e.nonce)
	binary.BigEndian.PutUint64(b[16:], e.sequence)
	for i := headerBytes + 16; i < packetBytes; i++ {
		b[i] = byte(i)
	}
	// Where the kernel knows better it overwrites the identifier and this.
	binary.BigEndian.PutUint16(b[2:], checksum(b[:]))
}

// parseEcho reads a message from its ICMP header on.
func parseEcho(b []byte) (e echo, ok bool) {
	if len(b) < headerBytes || b[1] != 0 {
		return e, false
	}
	e.kind = b[0]
	e.identifier = binary.BigEndian.Uint16(b[4:])
	e.number = binary.BigEndian.Uint16(b[6:])
	if len(b) >= headerBytes+16 {
		e.nonce = binary.BigEndian.Uint64(b[8:])
		e.sequence = binary.BigEndian.Uint64(b[16:])
		e.complete = true
	}
	return e, true
}

// cutIPv4 removes the IPv4 header, which raw sockets hand out too.
func cutIPv4(b []byte) (rest []byte, ok bool) {
	if len(b) < ipv4Header || b[0]>>4 != 4 {
		return nil, false
	}
	length := int(b[0]&15) * 4
	if length < ipv4Header || length > len(b) {
		return nil, false
	}
	return b[length:], true
}

// checksum is that of RFC 1071 over a message whose own checksum is 0.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
