package dns

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"netmon/core/clock"
	"netmon/core/kernelfs"
)

// query is a question as it reached a server.
type query struct {
	dnsmessage.Message
	question
	tcp  bool
	edns bool
	from net.Addr
}

func (q query) String() string {
	text := strings.TrimSuffix(q.name.String(), ".") + " " + strings.TrimPrefix(q.kind.String(), "Type")
	if q.tcp {
		text += " tcp"
	}
	if q.edns {
		text += " edns"
	}
	return text
}

// server is a name server on a loopback address, or another of the calling thread's namespace.
type server struct {
	t       testing.TB
	udp     *net.UDPConn
	tcp     net.Listener
	address netip.AddrPort
	handle  func(query) [][]byte

	mu    sync.Mutex
	asked []string
}

// serve starts a server that sends for each question what handle returns.
func serve(t testing.TB, at string, handle func(query) [][]byte) *server {
	t.Helper()
	s := &server{t: t, handle: handle}
	var err error
	for range 10 { // until a port is free for both protocols
		s.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		require.NoError(t, err)
		s.address = s.udp.LocalAddr().(*net.UDPAddr).AddrPort()
		if s.tcp, err = net.Listen("tcp", s.address.String()); err == nil {
			break
		}
		s.udp.Close()
	}
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Add(2)
	go func() { defer running.Done(); s.serveUDP() }()
	go func() { defer running.Done(); s.serveTCP() }()
	t.Cleanup(func() {
		s.udp.Close()
		s.tcp.Close()
		running.Wait()
	})
	return s
}

// understand reads a question, and notes it.
func (s *server) understand(message []byte, tcp bool, from net.Addr) (q query) {
	require.NoError(s.t, q.Unpack(message))
	require.Len(s.t, q.Questions, 1)
	q.tcp, q.from, q.edns = tcp, from, len(q.Additionals) > 0
	q.question = question{name: q.Questions[0].Name, kind: q.Questions[0].Type, id: q.ID}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, q.String())
	return q
}

// questions are those that have come.
func (s *server) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func (s *server) serveUDP() {
	buffer := make([]byte, 65536)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		q := s.understand(buffer[:n], false, net.UDPAddrFromAddrPort(from))
		for _, message := range s.handle(q) {
			_, _ = s.udp.WriteToUDPAddrPort(message, from)
		}
	}
}

func (s *server) serveTCP() {
	for {
		connection, err := s.tcp.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
			var length [2]byte
			if _, err := io.ReadFull(connection, length[:]); err != nil {
				return
			}
			message := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(connection, message); err != nil {
				return
			}
			for _, reply := range s.handle(s.understand(message, true, connection.RemoteAddr())) {
				// In two parts, as a network may deliver it.
				whole := append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)
				_, _ = connection.Write(whole[:3])
				_, _ = connection.Write(whole[3:])
			}
		}()
	}
}

// says packs one message.
func says(t testing.TB, m dnsmessage.Message) [][]byte { return [][]byte{packed(t, m)} }

// code answers with nothing but a response code.
func code(t testing.TB, q query, rcode dnsmessage.RCode) [][]byte {
	m := answer(q.question)
	m.RCode = rcode
	return says(t, m)
}

// zone answers what it knows and denies other names. Its keys are names without a dot at their end.
func zone(t testing.TB, known map[string][]string) func(query) [][]byte {
	return func(q query) [][]byte {
		owner := q.name.String()
		list, exists := known[strings.TrimSuffix(owner, ".")]
		if !exists {
			return code(t, q, dnsmessage.RCodeNameError)
		}
		m := answer(q.question)
		for _, text := range list {
			address, err := netip.ParseAddr(text)
			switch {
			case err != nil:
				m.Answers = append(m.Answers, cname(owner, text))
				owner = text
			case address.Is4() && q.kind == dnsmessage.TypeA:
				m.Answers = append(m.Answers, a(owner, text))
			case address.Is6() && q.kind == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, aaaa(owner, text))
			}
		}
		return says(t, m)
	}
}

func silent(query) [][]byte { return nil }

// root makes a tree of configuration files. lines of resolv.conf follow the servers.
func root(t testing.TB, servers []*server, lines ...string) string {
	t.Helper()
	folder := t.TempDir()
	var text strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&text, "nameserver [%s]:%d\n", s.address.Addr(), s.address.Port())
	}
	text.WriteString(strings.Join(lines, "\n"))
	write(t, folder, configPath, text.String())
	return folder
}

// write replaces a file, as programs that write such files do.
func write(t testing.TB, folder, path, text string) {
	t.Helper()
	path = filepath.Join(folder, path)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o644))
	require.NoError(t, os.Rename(path+".new", path))
}

// resolver is a resolver by the files below folder. It is closed with the test.
func resolver(t testing.TB, folder string) *Resolver {
	t.Helper()
	r := New(kernelfs.Dir(folder), clock.System())
	t.Cleanup(r.Close)
	return r
}

// await receives until as many lookups have ended, or fails.
func await(t testing.TB, r *Resolver, lookups int) (got []Answer, sent int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; wait(r, r.clock) {
		sent += r.Receive(func(a Answer) { got = append(got, a) })
		if len(got) >= lookups {
			return got, sent
		}
		require.True(t, time.Now().Before(end), "%d of %d lookups have ended", len(got), lookups)
	}
}

// look looks one name up.
func look(t testing.TB, r *Resolver, name string, timeout time.Duration) Answer {
	t.Helper()
	r.Lookup(name, 7, timeout)
	got, _ := await(t, r, 1)
	require.Len(t, got, 1)
	require.EqualValues(t, 7, got[0].Token)
	_, due := r.Due()
	require.False(t, due)
	require.Empty(t, r.Descriptors(nil))
	return got[0]
}
