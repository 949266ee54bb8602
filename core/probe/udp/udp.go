// Package udp probes by UDP echo between two instances of netmon: a prober, and a responder that somebody chose to start.
//
// The responder says how long it held the question, and that is subtracted: what is left is the network's, however busy either host
// is. The prober sends from several source ports, so that it gets to see all the paths that routers choose among by port.
//
// The responder answers only what is exactly a question, with as many bytes and at a limited rate, so it amplifies nothing and
// costs its host little whatever is sent to it. Needs no privilege. There is no prober and no responder on other systems than Linux.
package udp

import (
	"encoding/binary"
	"math"
	"time"
)

const (
	messageBytes = 48
	udpHeader    = 8
	ipv4Header   = 20
	ipv6Header   = 40

	magic   = 0x6e6d6f6e // "nmon"
	version = 1
)

// kind tells questions from answers. Nobody answers an answer.
type kind uint8

const (
	question kind = 1
	answer   kind = 2
)

// message is a question or an answer. On the wire, in network byte order: magic (4 bytes), version, kind, 2 bytes of 0, nonce (8),
// sequence (8), dwell in ns (8), and zeros up to 48 bytes.
type message struct {
	kind     kind
	nonce    uint64 // of the prober, which an answer repeats
	sequence uint64
	dwell    time.Duration // how long the responder held the question; negative: it does not know
}

const unknownDwell = math.MaxUint64

func (m *message) put(b *[messageBytes]byte) {
	clear(b[:])
	binary.BigEndian.PutUint32(b[:], magic)
	b[4], b[5] = version, byte(m.kind)
	binary.BigEndian.PutUint64(b[8:], m.nonce)
	binary.BigEndian.PutUint64(b[16:], m.sequence)
	dwell := uint64(unknownDwell)
	if m.dwell >= 0 {
		dwell = uint64(m.dwell)
	}
	binary.BigEndian.PutUint64(b[24:], dwell)
}

// head is how much of a message tells which it is.
const head = 24

// parse reads a whole message.
func parse(b []byte) (m message, ok bool) {
	if len(b) != messageBytes {
		return m, false
	}
	m, ok = parseHead(b)
	m.dwell = -1
	if dwell := binary.BigEndian.Uint64(b[24:]); dwell <= math.MaxInt64 {
		m.dwell = time.Duration(dwell)
	}
	return m, ok && (m.kind == question || m.kind == answer)
}

// parseHead reads which message it is of one that may have been cut off, as the quotation in an ICMP error.
func parseHead(b []byte) (m message, ok bool) {
	if len(b) < head || binary.BigEndian.Uint32(b) != magic || b[4] != version {
		return m, false
	}
	m.kind = kind(b[5])
	m.nonce = binary.BigEndian.Uint64(b[8:])
	m.sequence = binary.BigEndian.Uint64(b[16:])
	return m, true
}

// sentBytes is what one probe puts on the wire.
func sentBytes(ipv6 bool) int {
	if ipv6 {
		return ipv6Header + udpHeader + messageBytes
	}
	return ipv4Header + udpHeader + messageBytes
}

// AnswerBytes is what a responder puts on the wire for one answer, from the IP header on.
func AnswerBytes(ipv6 bool) int { return sentBytes(ipv6) }

// Counters are what a responder has done since it was opened.
type Counters struct {
	Answered uint64
	Garbage  uint64        // ignored: no question
	Limited  uint64        // ignored: too many, from one source or in total
	Failed   uint64        // the system refused to send the answer
	CPU      time.Duration // of Serve's thread
}
