// Package tcpinfo reads what the kernel knows of TCP sockets: those of this process by their descriptors, those of other processes
// of the network namespace by one inet_diag dump.
//
// Source: getsockopt(2) with SO_COOKIE, TCP_INFO and options that do not change (net/core/sock.c, net/ipv4/tcp.c:tcp_get_info),
// getsockname(2) and getpeername(2); NETLINK_SOCK_DIAG (sock_diag(7), net/ipv4/inet_diag.c). Needs no privilege. Nothing is ever done
// to a socket but reading its state: none is duplicated, shut down, read, polled or given an option. No packet is sent. The package
// keeps no totals and computes no rates (peer does).
package tcpinfo

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// State is a state of TCP (include/net/tcp_states.h).
type State uint8

// The states that matter here.
const (
	Established State = 1
	SynSent     State = 2
	FinWait1    State = 4
	FinWait2    State = 5
	Close       State = 7
	CloseWait   State = 8
	LastAck     State = 9
	Listen      State = 10
	Closing     State = 11
)

// connected is the set of states of a connection whose handshake is done, as bits.
const connected = 1<<Established | 1<<FinWait1 | 1<<FinWait2 | 1<<CloseWait | 1<<LastAck | 1<<Closing

// Connected tells whether the handshake is done and the connection not over.
func (s State) Connected() bool { return s < 32 && connected>>s&1 != 0 }

// FinReceived tells whether the other end has said that it sends no more.
func (s State) FinReceived() bool { return s == CloseWait || s == LastAck || s == Closing }

// Sizes of struct tcp_info (include/uapi/linux/tcp.h) up to and with the fields that came last. Kernels append to it and never change
// what is there.
const (
	withRetransmits   = 104 // tcpi_total_retrans
	withBytesReceived = 136 // tcpi_bytes_acked, tcpi_bytes_received: Linux 4.1
	withSegments      = 144 // tcpi_segs_out, tcpi_segs_in: Linux 4.2
	withUnsent        = 152 // tcpi_notsent_bytes, tcpi_min_rtt: Linux 4.6
	withDelivery      = 168 // tcpi_delivery_rate: Linux 4.9
	withLimits        = 192 // tcpi_busy_time, tcpi_rwnd_limited, tcpi_sndbuf_limited: Linux 4.10
	withBytesSent     = 220 // tcpi_bytes_sent, tcpi_bytes_retrans, tcpi_dsack_dups: Linux 4.19
	infoBytes         = 232 // what is asked for
)

// Info is what the kernel tells of one socket. Fields that its kernel does not have are 0; the Has methods tell.
type Info struct {
	State              State
	AppLimited         bool // tcpi_delivery_rate_app_limited
	length             uint16
	RTT                uint32 // µs, tcpi_rtt: smoothed (RFC 6298); 0 before the first
	RTTVariation       uint32 // µs, tcpi_rttvar
	MinRTT             uint32 // µs, tcpi_min_rtt: over net.ipv4.tcp_min_rtt_wlen, 300 s; NoRTT before the first
	LastDataSent       uint32 // ms ago, tcpi_last_data_sent; since the handshake where nothing was sent
	LastDataReceived   uint32 // ms ago, tcpi_last_data_recv; since the handshake where nothing was received
	Retransmits        uint32 // segments, tcpi_total_retrans; wraps
	SegmentsSent       uint32 // tcpi_segs_out, with retransmits and bare ACKs; wraps
	DuplicatesReported uint32 // segments, tcpi_dsack_dups; wraps
	UnsentBytes        uint32 // tcpi_notsent_bytes
	BytesAcked         uint64 // tcpi_bytes_acked: one more than the data where this end connected, for its SYN, and one for a FIN
	BytesReceived      uint64 // tcpi_bytes_received, one more than the data after a FIN
	BytesSent          uint64 // tcpi_bytes_sent: data, with what was sent again
	BytesRetransmitted uint64 // tcpi_bytes_retrans
	DeliveryRate       uint64 // bytes per second, tcpi_delivery_rate; 0 before the first
	BusyTime           uint64 // µs, tcpi_busy_time: with data to send
	ReceiveWindowTime  uint64 // µs, tcpi_rwnd_limited
	SendBufferTime     uint64 // µs, tcpi_sndbuf_limited
}

// NoRTT is a MinRTT that was not measured.
const NoRTT = 1<<32 - 1

// HasBytes tells whether BytesAcked and BytesReceived are known.
func (i *Info) HasBytes() bool { return i.length >= withBytesReceived }

// HasSegments tells whether SegmentsSent is known.
func (i *Info) HasSegments() bool { return i.length >= withSegments }

// HasUnsent tells whether UnsentBytes and MinRTT are known.
func (i *Info) HasUnsent() bool { return i.length >= withUnsent }

// HasDelivery tells whether DeliveryRate and AppLimited are known.
func (i *Info) HasDelivery() bool { return i.length >= withDelivery }

// HasLimits tells whether BusyTime, ReceiveWindowTime and SendBufferTime are known.
func (i *Info) HasLimits() bool { return i.length >= withLimits }

// HasSent tells whether BytesSent, BytesRetransmitted and DuplicatesReported are known.
func (i *Info) HasSent() bool { return i.length >= withBytesSent }

// Idle is how long ago data was sent or received, or the handshake was done where none was.
func (i *Info) Idle() time.Duration {
	return time.Duration(min(i.LastDataSent, i.LastDataReceived)) * time.Millisecond
}

// ParseInfo reads a struct tcp_info as the kernel wrote it, however long it is on its version.
// ok is false where it ends before the counters of any kernel that has cookies.
func (i *Info) ParseInfo(text []byte) (ok bool) {
	if len(text) < withRetransmits {
		return false
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(text[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(text[at:]) }
	*i = Info{
		State: State(text[0]), length: uint16(min(len(text), infoBytes)), MinRTT: NoRTT,
		LastDataSent: u32(44), LastDataReceived: u32(52), RTT: u32(68), RTTVariation: u32(72), Retransmits: u32(100),
	}
	if i.HasBytes() {
		i.BytesAcked, i.BytesReceived = u64(120), u64(128)
	}
	if i.HasSegments() {
		i.SegmentsSent = u32(136)
	}
	if i.HasUnsent() {
		i.UnsentBytes, i.MinRTT = u32(144), u32(148)
	}
	if i.HasDelivery() {
		i.DeliveryRate, i.AppLimited = u64(160), text[7]&1 != 0 // the lowest bit on little-endian machines
	}
	if i.HasLimits() {
		i.BusyTime, i.ReceiveWindowTime, i.SendBufferTime = u64(168), u64(176), u64(184)
	}
	if i.HasSent() {
		i.BytesSent, i.BytesRetransmitted, i.DuplicatesReported = u64(200), u64(208), u32(216)
	}
	return true
}

// Socket is a TCP socket whose handshake is done. What is not in Info stays the same while it lives.
type Socket struct {
	// Cookie is the kernel's number of the socket: no other has it before the machine is started anew (before Linux 5.10: no other
	// of its network namespace).
	Cookie        uint64
	Local, Remote netip.AddrPort // IPv4 addresses as such, also on IPv6 sockets; a zone is an interface's index
	Info          Info
	Inode         uint32 // as /proc/PID/fd names it; of sockets of other processes only
	// Place is the caller's own, to find again what it knows of an own socket. 0 at first.
	Place int

	seen uint64
	raw  [sizeofAddress]byte // Remote, as getpeername(2) tells it
}

// sizeofAddress is the size of struct sockaddr_in6.
const sizeofAddress = 28

// MostSockets is how many sockets one reading tells of.
const MostSockets = 65536
