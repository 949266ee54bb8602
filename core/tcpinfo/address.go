package tcpinfo

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Address families of Linux.
const (
	familyInet  = 2
	familyInet6 = 10
)

// parseAddress reads a struct sockaddr_in or sockaddr_in6.
func parseAddress(raw []byte) (address netip.AddrPort, ok bool) {
	if len(raw) < 16 {
		return address, false
	}
	port := binary.BigEndian.Uint16(raw[2:])
	switch binary.NativeEndian.Uint16(raw) {
	case familyInet:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:8])), port), true
	case familyInet6:
		if len(raw) < sizeofAddress {
			return address, false
		}
		return netip.AddrPortFrom(zoned(netip.AddrFrom16([16]byte(raw[8:24])), binary.NativeEndian.Uint32(raw[24:])), port), true
	default:
		return address, false
	}
}

// zoned is an address as people write it: IPv4 as such, link-local with the index of its interface as zone.
func zoned(ip netip.Addr, scope uint32) netip.Addr {
	if ip.Is4In6() {
		return ip.Unmap()
	}
	if ip.IsLinkLocalUnicast() && scope != 0 {
		return ip.WithZone(strconv.FormatUint(uint64(scope), 10))
	}
	return ip
}
