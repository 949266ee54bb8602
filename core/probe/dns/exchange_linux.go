package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

// exchange is one question and what the servers do with it: they are asked in turn until one answers.
type exchange struct {
	l        *lookup
	question question
	began    bool
	try      int // servers asked so far
	server   netip.AddrPort
	edns     bool // asked for in this try

	socket  *stamp.Socket // over UDP, a new one with a new port for each try
	to      stamp.Address
	key     stamp.Key
	timing  bool // the first question of the lookup: when it left counts
	stream  *stream
	since   time.Duration // of this try
	until   time.Duration
	ignored int // datagrams that do not answer the question

	verdict   verdict // answered, noName or refused once it has ended
	ended     bool
	addresses []netip.Addr
	failures  []failure // the last of each server
	answers   bool      // every server answered, with nothing of use
}

// failure is why a server's answer is missing.
type failure struct {
	server netip.AddrPort
	text   string
	cause  error
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() error { return f.cause }

// joined makes one error of what each server did, every sentence once, and of a server's silence to both questions one.
func joined(failures []failure) error {
	if len(failures) == 0 {
		return &failure{text: "no server was asked", cause: probe.ErrVoid}
	}
	var texts []string
	for i, f := range failures {
		said := slices.ContainsFunc(failures[:i], func(earlier failure) bool {
			return earlier.text == f.text || earlier.server == f.server && earlier.cause == probe.ErrLost && f.cause == probe.ErrLost
		})
		if !said {
			texts = append(texts, f.text)
		}
	}
	last := failures[len(failures)-1]
	return &failure{text: strings.Join(texts, "; "), cause: last.cause}
}

// show is a server as people write it.
func show(server netip.AddrPort) string {
	if server.Port() == port {
		return server.Addr().String()
	}
	return server.String()
}

// seconds is a duration as people say it: 0.997 are 1.
func seconds(d time.Duration) string {
	if d >= 100*time.Second {
		return strconv.FormatFloat(d.Seconds(), 'f', 0, 64) + " s"
	}
	return strconv.FormatFloat(d.Seconds(), 'g', 2, 64) + " s"
}

// errAnswer is the cause of a failure that the server itself declared.
var errAnswer = errors.New("the server answers no such question")

func newExchange(l *lookup, name string, kind dnsmessage.Type) *exchange {
	e := &exchange{l: l, edns: l.config.edns, answers: true}
	q, err := newQuestion(name, kind, identifier())
	if err != nil { // checked before
		e.note(failure{text: err.Error(), cause: ErrNotFound})
		e.began, e.ended, e.verdict = true, true, refused
	}
	e.question = q
	return e
}

// identifier is a number that nobody can guess. It is not from crypto/rand, whose first use starts a Go timer, which opens the Go
// runtime's poller (see clock.Waker).
func identifier() uint16 {
	var octets [2]byte
	if n, err := unix.Getrandom(octets[:], 0); err != nil || n < len(octets) {
		return uint16(rand.Uint32())
	}
	return binary.NativeEndian.Uint16(octets[:])
}

// under tells whether it waits for a server.
func (e *exchange) under() bool { return e.began && !e.ended }

// ask asks the next server that can be asked, and ends where none is left.
func (e *exchange) ask() {
	e.began = true
	if e.ended {
		return
	}
	servers := e.l.config.servers
	for ; e.try < len(servers)*e.l.config.attempts; e.try++ {
		e.server = servers[(e.l.first+e.try)%len(servers)]
		e.since = e.l.r.clock.Monotonic()
		e.until = e.since + e.l.config.timeout
		e.ignored = 0
		send := e.sendUDP
		if e.l.config.useTCP {
			send = e.sendTCP
		}
		err := send()
		if err == nil {
			return
		}
		e.unreachable(err)
	}
	e.end(refused)
}

// next gives this server up.
func (e *exchange) next() {
	e.close()
	e.try++
	e.ask()
}

func (e *exchange) end(v verdict) {
	e.close()
	e.ended, e.verdict = true, v
}

func (e *exchange) close() {
	if e.socket != nil {
		e.socket.Close()
		e.socket, e.timing = nil, false
	}
	if e.stream != nil {
		e.l.count(e.stream.close())
		e.stream = nil
	}
}

// note keeps why a server's answer is missing, the last reason of each.
func (e *exchange) note(f failure) {
	f.server = e.server
	e.answers = e.answers && f.cause == errAnswer
	e.failures = slices.DeleteFunc(e.failures, func(old failure) bool { return old.server == e.server })
	e.failures = append(e.failures, f)
}

// unreachable notes that a server cannot be asked.
func (e *exchange) unreachable(err error) {
	e.note(failure{text: fmt.Sprintf("resolver %s cannot be asked: %v", show(e.server), err), cause: err})
}

// silence is what there is to say of a server that has not answered.
func (e *exchange) silence(now time.Duration) failure {
	what := ""
	if slices.ContainsFunc(e.l.exchanges, func(other *exchange) bool { return other.ended && other.verdict == answered }) {
		what = " the question for IPv4 addresses"
		if e.question.kind == dnsmessage.TypeAAAA {
			what = " the question for IPv6 addresses"
		}
	}
	text := fmt.Sprintf("resolver %s did not answer%s in %s", show(e.server), what, seconds(now-e.since))
	if e.ignored > 0 {
		text += fmt.Sprintf("; datagrams that do not answer the question were ignored: %d", e.ignored)
	}
	return failure{text: text, cause: probe.ErrLost}
}

// silent gives a server up that did not answer in its time.
func (e *exchange) silent(now time.Duration) {
	e.note(e.silence(now))
	e.next()
}

// answerBytes is the longest answer over UDP that is understood; no proper server sends more than ednsBytes.
const answerBytes = 4096

func (e *exchange) sendUDP() error {
	family, overhead := unix.AF_INET, 20+8
	if e.server.Addr().Is6() {
		family, overhead = unix.AF_INET6, 40+8
	}
	socket, err := stamp.OpenWide(family, unix.SOCK_DGRAM, 0, answerBytes)
	if err != nil {
		return err
	}
	e.socket = socket
	message, err := e.question.pack(nil, e.edns)
	if err == nil {
		e.to, err = socket.Address(e.server)
	}
	if err != nil {
		e.close()
		return err
	}
	var left stamp.Time
	left, e.key, err = socket.Send(message, e.to, stamp.Now(e.l.r.clock))
	if err != nil {
		e.close()
		return err
	}
	e.l.count(overhead + len(message))
	if !e.l.started {
		e.l.started, e.timing, e.l.left = true, true, left
	}
	return nil
}

func (e *exchange) sendTCP() error {
	message, err := e.question.pack(make([]byte, 2), false)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(message, uint16(len(message)-2))
	e.l.started = true
	e.stream, err = openStream(e.server, message)
	return err
}

func (e *exchange) descriptors(set []probe.Descriptor) []probe.Descriptor {
	switch {
	case e.socket != nil:
		return append(set, probe.Descriptor{FD: e.socket.Number()})
	case e.stream != nil:
		return append(set, probe.Descriptor{FD: e.stream.Number(), Write: len(e.stream.out) > 0})
	}
	return set
}

// receive takes what has come. It returns false where the host process has closed the socket.
func (e *exchange) receive() (ours bool) {
	const most = 64 // datagrams at a time
	for range most {
		switch {
		case e.socket != nil:
			if !e.socket.Owned() {
				return false
			}
			if !e.receiveUDP() {
				return true
			}
		case e.stream != nil:
			if !e.stream.Owned() {
				return false
			}
			if !e.receiveTCP() {
				return true
			}
		default:
			return true
		}
	}
	return true
}

// receiveUDP takes one datagram or error, and tells whether there may be more.
func (e *exchange) receiveUDP() (more bool) {
	var came error
	e.socket.Events(func(event *stamp.Event) {
		switch {
		case event.Sent != 0:
			if e.timing && e.l.left == 0 && event.Key == e.key {
				e.l.left = event.Sent
			}
		case event.To == e.to:
			came = event.Err
		}
	})
	packet, err := e.socket.Receive()
	switch {
	case err == nil:
		if packet.From != e.to || !packet.Whole {
			e.ignored++
			return true
		}
		return e.handle(e.question.read(packet.Data), packet.Received)
	case came != nil:
		e.unreachable(came)
		e.next()
		return true
	case err == unix.EAGAIN:
		return false
	}
	e.unreachable(err)
	e.next()
	return true
}

// receiveTCP goes on with a connection, and tells whether there may be more.
func (e *exchange) receiveTCP() (more bool) {
	message, err := e.stream.receive()
	switch {
	case err == unix.EAGAIN:
		return false
	case err != nil:
		e.unreachable(fmt.Errorf("over TCP: %w", err))
		e.next()
		return true
	}
	const truncationByte, truncationBit = 2, 0x02 // there is no way to get more than what came
	if len(message) > truncationByte {
		message[truncationByte] &^= truncationBit
	}
	r := e.question.read(message)
	if r.verdict == foreign {
		r = reply{verdict: refused, reason: "it answers another question"}
	}
	return e.handle(r, 0)
}

// handle acts on what a message means, and tells whether there may be more.
func (e *exchange) handle(r reply, received stamp.Time) (more bool) {
	switch r.verdict {
	case foreign:
		e.ignored++
		return true
	case answered, noName:
		e.l.heard(e.server, received)
		e.addresses = r.addresses
		e.end(r.verdict)
		return false
	case truncated:
		e.close()
		e.until = e.l.r.clock.Monotonic() + e.l.config.timeout
		if err := e.sendTCP(); err != nil {
			e.unreachable(fmt.Errorf("over TCP: %w", err))
			e.next()
		}
		return true
	case noEDNS:
		if e.edns && e.socket != nil {
			e.close()
			e.edns = false
			if err := e.sendUDP(); err != nil {
				e.unreachable(err)
				e.next()
			}
			return true
		}
	}
	e.note(failure{text: fmt.Sprintf("resolver %s failed: %s", show(e.server), r.reason), cause: errAnswer})
	e.next()
	return true
}

// stream is a connection to a server.
type stream struct {
	kernelfs.Descriptor
	ipv6 bool
	out  []byte // yet to be sent
	in   []byte // received
}

// openStream begins to connect.
func openStream(server netip.AddrPort, out []byte) (*stream, error) {
	family := unix.AF_INET
	if server.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	s := &stream{ipv6: server.Addr().Is6(), out: out}
	if s.Descriptor, err = kernelfs.Own(fd); err != nil {
		return nil, err
	}
	stamp.Mark(fd)
	address, err := stamp.AddressFor(fd, server)
	if err == nil {
		var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(address.Port), ZoneId: address.Scope, Addr: address.IP.As16()}
		if !s.ipv6 {
			to = &unix.SockaddrInet4{Port: int(address.Port), Addr: address.IP.As4()}
		}
		if err = unix.Connect(fd, to); err == unix.EINPROGRESS {
			err = nil
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// errClosed means that the server closed the connection before it had answered.
var errClosed = errors.New("the server closed the connection")

// receive sends what is left to send and returns the answer once it is there.
//
// Errors: EAGAIN while it is not; what send(2) and recv(2) say.
func (s *stream) receive() (message []byte, err error) {
	for len(s.out) > 0 {
		n, err := unix.SendmsgN(s.Number(), s.out, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		} else if err != nil {
			return nil, err
		}
		s.out = s.out[n:]
	}
	var buffer [4096]byte
	for {
		if len(s.in) >= 2 {
			if end := 2 + int(binary.BigEndian.Uint16(s.in)); len(s.in) >= end {
				return s.in[2:end], nil
			}
		}
		n, _, err := unix.Recvfrom(s.Number(), buffer[:], unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n == 0:
			return nil, errClosed
		default:
			s.in = append(s.in, buffer[:n]...)
		}
	}
}

// close ends the connection and returns the bytes that this side put on the wire for it, by the segments that the kernel counted.
func (s *stream) close() (sent int) {
	const (
		header    = 20 + 12 // TCP's, with time stamps
		synOption = 8       // more than that in the first
	)
	ip := 20
	if s.ipv6 {
		ip = 40
	}
	if s.Owned() {
		if info, err := unix.GetsockoptTCPInfo(s.Number(), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			sent = int(info.Segs_out)*(ip+header) + int(info.Bytes_sent)
			const synSent = 2
			if sent += synOption; info.State != synSent {
				sent += ip + header // of the segment that says goodbye
			}
		}
	}
	s.Close()
	return sent
}
