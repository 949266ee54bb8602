package throughput

import (
	"encoding/binary"
	"time"
)

// version is that of the messages. Their size, and where magic, version and kind are, stay the same in all versions.
const version = 1

const messageBytes = 64

const magic = "netmonBW"

// kind says what a message is.
type kind uint8

const (
	kindAsk    kind = 1 + iota // asking end, on the control connection: let us test
	kindAnswer                 // server: let us, or why not
	kindData                   // asking end, first on each data connection
	kindResult                 // server, after each direction: its end's figures
)

// code is what the server says.
type code uint8

const (
	codeAgreed code = iota
	codeBusy
	codeVersion
	codeFailed // the test ended early at the server
)

// Bits of directions.
const (
	bitTransmit = 1 << iota // the asking end sends
	bitReceive
)

// message is everything that is said. All numbers are big-endian.
type message struct {
	version     uint16
	kind        kind
	code        code
	directions  uint8 // bits
	connections uint8 // asked for, or agreed
	index       uint8 // of a data connection
	nonce       [16]byte
	duration    time.Duration // asked for or agreed; of a result, from the first byte to the last
	bytes       uint64        // at most; of a result, received or sent
	resent      uint64        // of a sender's result: segments
	rtt         time.Duration // of a sender's result; of an answer, how long the server rests
}

func (m *message) encode() (b [messageBytes]byte) {
	copy(b[:], magic)
	binary.BigEndian.PutUint16(b[8:], version)
	b[10], b[11], b[12], b[13], b[14] = byte(m.kind), byte(m.code), m.directions, m.connections, m.index
	copy(b[16:32], m.nonce[:])
	binary.BigEndian.PutUint64(b[32:], uint64(m.duration))
	binary.BigEndian.PutUint64(b[40:], m.bytes)
	binary.BigEndian.PutUint64(b[48:], m.resent)
	binary.BigEndian.PutUint64(b[56:], uint64(m.rtt))
	return b
}

// decode reads a message. Not ok: it is none of netmon's. Of one in another version only the version and kind hold.
func decode(b []byte) (m message, ok bool) {
	if len(b) != messageBytes || string(b[:len(magic)]) != magic {
		return m, false
	}
	m.version, m.kind = binary.BigEndian.Uint16(b[8:]), kind(b[10])
	if m.version != version {
		return m, true
	}
	m.code, m.directions, m.connections, m.index = code(b[11]), b[12], b[13], b[14]
	copy(m.nonce[:], b[16:32])
	duration, rtt := binary.BigEndian.Uint64(b[32:]), binary.BigEndian.Uint64(b[56:])
	m.bytes, m.resent = binary.BigEndian.Uint64(b[40:]), binary.BigEndian.Uint64(b[48:])
	m.duration, m.rtt = time.Duration(duration), time.Duration(rtt)
	const mostTime = uint64(time.Hour)
	ok = m.kind >= kindAsk && m.kind <= kindResult && m.code <= codeFailed && m.directions <= bitTransmit|bitReceive &&
		m.connections <= MostConnections && m.index < MostConnections && b[15] == 0 && duration <= mostTime && rtt <= mostTime
	return m, ok
}

// limited is an ask as this end will hold it.
func (m message) limited() message {
	m.duration = min(max(m.duration, LeastDuration), MostDuration)
	m.bytes = min(max(m.bytes, 1), MostBytes)
	m.connections = min(max(m.connections, 1), MostConnections)
	return m
}
