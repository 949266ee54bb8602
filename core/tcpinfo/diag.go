package tcpinfo

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// ErrMessage means that the kernel's answer is not as documented.
var ErrMessage = errors.New("tcpinfo: malformed message")

// Sizes of structures of linux/inet_diag.h, and the attributes that hold struct tcp_info and struct inet_diag_sockopt.
const (
	sizeofRequest    = 56 // struct inet_diag_req_v2
	sizeofMessage    = 72 // struct inet_diag_msg
	infoAttribute    = 2  // INET_DIAG_INFO
	optionsAttribute = 22 // INET_DIAG_SOCKOPT, since Linux 5.10
	attributeMask    = 1<<14 - 1
	sizeofNlattr     = 4
)

// multicastOptions are mc_loop and mc_all in the first byte of struct inet_diag_sockopt. Both are off in sockets that netmon has
// marked (stamp.Mark).
const multicastOptions = 1<<4 | 1<<6

// appendRequest appends a struct inet_diag_req_v2 for all connections of a family, with their struct tcp_info.
func appendRequest(to []byte, family byte) []byte {
	const protocolTCP = 6
	at := len(to)
	to = append(to, make([]byte, sizeofRequest)...)
	to[at], to[at+1], to[at+2] = family, protocolTCP, 1<<(infoAttribute-1)
	binary.NativeEndian.PutUint32(to[at+4:], connected)
	return to
}

// parseMessage reads a struct inet_diag_msg and its attributes. ok is false for what is no connection, and for netmon's own.
//
// Errors: ErrMessage.
func parseMessage(text []byte, s *Socket) (ok bool, err error) {
	if len(text) < sizeofMessage {
		return false, ErrMessage
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(text[at:]) }
	address := func(at int) netip.Addr {
		if text[0] == familyInet {
			return netip.AddrFrom4([4]byte(text[at : at+4]))
		}
		return zoned(netip.AddrFrom16([16]byte(text[at:at+16])), u32(40))
	}
	if text[0] != familyInet && text[0] != familyInet6 {
		return false, nil
	}
	*s = Socket{
		Local:  netip.AddrPortFrom(address(8), binary.BigEndian.Uint16(text[4:])),
		Remote: netip.AddrPortFrom(address(24), binary.BigEndian.Uint16(text[6:])),
		Cookie: uint64(u32(44)) | uint64(u32(48))<<32,
		Inode:  u32(68),
	}
	marked := false
	// NLA_ALIGN(4): attributes begin at multiples of 4.
	for rest := text[sizeofMessage:]; len(rest) >= sizeofNlattr; {
		length := int(binary.NativeEndian.Uint16(rest))
		kind := binary.NativeEndian.Uint16(rest[2:]) & attributeMask
		if length < sizeofNlattr || length > len(rest) {
			return false, ErrMessage
		}
		switch value := rest[sizeofNlattr:length]; {
		case kind == infoAttribute:
			ok = s.Info.ParseInfo(value) && s.Info.State.Connected()
		case kind == optionsAttribute && len(value) > 0:
			marked = value[0]&multicastOptions == 0
		}
		rest = rest[min((length+3)&^3, len(rest)):]
	}
	return ok && !marked, nil
}
